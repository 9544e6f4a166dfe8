package replica

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/diskspace"
)

// folder lists the names in a rig's vBucket folder.
func (r *rig) folder() []string {
	r.t.Helper()
	entries, err := os.ReadDir(filepath.Dir(r.opts.Generations.Current()))
	if err != nil {
		r.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// mustBackup takes a backup and returns its path.
func (r *rig) mustBackup() string {
	r.t.Helper()
	dir := filepath.Join(r.t.TempDir(), "backups", "b1")
	if err := r.Backup(context.Background(), dir); err != nil {
		r.t.Fatal("backup:", err)
	}
	return dir
}

func (r *rig) mustRestore(dir string) {
	r.t.Helper()
	if err := r.Restore(context.Background(), dir); err != nil {
		r.t.Fatal("restore:", err)
	}
}

// TestRestore takes a backup, goes on, and comes back to it: with the same
// engine and with another one, on disk and without.
func TestRestore(t *testing.T) {
	for name, c := range map[string]struct{ from, to []change }{
		"same engine":             {[]change{onDisk}, []change{onDisk}},
		"diskless":                {nil, nil},
		"disk to diskless":        {[]change{onDisk}, nil},
		"diskless to disk":        {nil, []change{onDisk}},
		"another engine":          {[]change{onDisk, ofOtherKind}, []change{onDisk}},
		"another engine diskless": {[]change{ofOtherKind}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			from := newRig(t, c.from...)
			from.mustPut("a", "1")
			from.mustPut("b", "2")
			dir := from.mustBackup()

			to := newRig(t, c.to...)
			for range 5 {
				to.mustPut("a", "other")
			}
			to.mustPut("c", "other")
			before := to.Status()
			to.mustRestore(dir)
			to.wantValue("a", "1")
			to.wantValue("b", "2")
			to.wantValue("c", "")

			after := to.Status()
			if after.State != Serving || after.Applied != before.Applied+1 {
				t.Errorf("state %s, index %d after %d", after.State, after.Applied, before.Applied)
			}
			if after.Identity.Cluster != before.Identity.Cluster {
				t.Error("the cluster id has changed")
			}
			if h := after.Identity.History; h == before.Identity.History || h == from.Status().Identity.History {
				t.Error("the history id is not new")
			}
			_, err := to.Changes(context.Background(), before.Applied, 0, 1<<20)
			wantError(t, err, kv.OutOfRange, kv.NotApplied)
			if got := to.mustPut("d", "4"); got != after.Applied+1 {
				t.Errorf("the next index is %d after %d", got, after.Applied)
			}
			changes, err := to.Changes(context.Background(), after.Applied+1, 0, 1<<20)
			if err != nil || len(changes.Changes) != 1 || changes.History != after.Identity.History {
				t.Errorf("changes %+v, %v", changes, err)
			}
			wantNoLeftovers(t, to, filepath.Dir(dir))
		})
	}
}

// TestRestoreKeepsThePause: an operator who has paused writes is asked before
// they go on, and one who has not is not surprised by a pause.
// A retry of a request that was acknowledged before a restore is answered with its
// first result, whichever keyspace there is now; so is, on a node without requests
// of its own, one that the backup remembers.
func TestRestoreKeepsRequests(t *testing.T) {
	increment := func(client uint64) *command.Command {
		return &command.Command{
			Kind: command.Increment, Delta: 1, Request: kv.RequestID{Client: client, Sequence: 1},
			Mutations: []kv.Mutation{{Key: []byte("n")}},
		}
	}
	r := newRig(t)
	inBackup := r.mustPropose(increment(7))
	dir := r.mustBackup()
	later := r.mustPropose(increment(8))
	r.mustRestore(dir)
	fresh := newRig(t)
	fresh.mustPut("a", "1")
	fresh.mustRestore(dir)
	for _, c := range []struct {
		on     *rig
		client uint64
		want   command.Result
	}{{r, 7, inBackup}, {r, 8, later}, {fresh, 7, inBackup}} {
		if again := c.on.mustPropose(increment(c.client)); again != c.want {
			t.Errorf("a retry of client %d came to %+v, the first attempt to %+v", c.client, again, c.want)
		}
	}
	if again := fresh.mustPropose(increment(8)); again.Counter != 2 {
		t.Errorf("what the backup does not know came to %+v", again)
	}
}

func TestRestoreKeepsThePause(t *testing.T) {
	for _, paused := range []bool{false, true} {
		from := newRig(t, onDisk)
		from.mustPropose(&command.Command{Kind: command.SetPaused, Flag: !paused})
		dir := from.mustBackup()
		to := newRig(t, onDisk)
		to.mustPropose(&command.Command{Kind: command.SetPaused, Flag: paused})
		to.mustRestore(dir)
		if got := to.Status().Paused; got != paused {
			t.Errorf("paused %v before a restore and %v behind it", paused, got)
		}
	}
}

// TestRestoreCuresFailedStorage: whatever became of the old state, the new one
// is whole.
func TestRestoreCuresFailedStorage(t *testing.T) {
	r := newRig(t, onDisk)
	r.mustPut("a", "1")
	dir := r.mustBackup()
	broken := errors.New("input/output error")
	r.failWrites(broken)
	if _, err := r.Propose(t.Context(), put("a", "2")); err == nil {
		t.Fatal("the write succeeded")
	}
	r.onWrite(nil)
	wantError(t, r.Restore(t.Context(), filepath.Join(dir, "none")), kv.NotFound, kv.NotApplied)
	if s := r.Status(); s.State != Failed || !errors.Is(s.Err, broken) {
		t.Fatalf("after a restore of nothing: %s, %v", s.State, s.Err)
	}
	r.mustRestore(dir)
	if s := r.Status(); s.State != Serving || s.Err != nil {
		t.Fatalf("after a restore: %s, %v", s.State, s.Err)
	}
	r.wantValue("a", "1")
	r.mustPut("a", "3")
}

// wantNoLeftovers closes a replica and checks what it leaves.
func wantNoLeftovers(t *testing.T, r *rig, backups string) {
	t.Helper()
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if r.opts.Generations != nil {
		want := []string{"CURRENT", filepath.Base(r.opts.Generations.Current())}
		if got := r.folder(); !slices.Equal(got, want) {
			t.Errorf("the folder holds %q, want %q", got, want)
		}
	}
	entries, err := os.ReadDir(backups)
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the backup: %v, %v", entries, err)
	}
}

// TestRestoreOfNewerIndex restores a state whose index is the greater one.
func TestRestoreOfNewerIndex(t *testing.T) {
	from := newRig(t)
	for range 10 {
		from.mustPut("a", "1")
	}
	dir := from.mustBackup()
	to := newRig(t)
	to.mustPut("a", "2")
	to.mustRestore(dir)
	if got := to.Status().Applied; got != 10 {
		t.Errorf("index %d, want the backup's", got)
	}
}

func TestRestoreSurvivesRestart(t *testing.T) {
	r := newRig(t, onDisk)
	r.mustPut("a", "1")
	dir := r.mustBackup()
	r.mustPut("a", "2")
	r.mustRestore(dir)
	r.mustPut("b", "3")
	want := r.Status().Identity
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	again := newRig(t, inFolderOf(r))
	again.wantValue("a", "1")
	again.wantValue("b", "3")
	if got := again.Status(); got.Identity != want || got.Applied != 4 {
		t.Errorf("index %d, identity %+v, want %+v", got.Applied, got.Identity, want)
	}
}

// TestRestoreUnderReaders restores twice while views of both former states are
// open: each keeps its state, and its folder, until it is closed.
func TestRestoreUnderReaders(t *testing.T) {
	r := newRig(t, onDisk)
	r.mustPut("a", "1")
	dir := r.mustBackup()
	r.mustPut("b", "2")
	first, _, err := r.View(context.Background(), kv.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	r.mustRestore(dir)
	r.mustPut("c", "3")
	second, _, err := r.View(context.Background(), kv.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r.mustRestore(dir)
	if got := keys(t, first); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("the first view shows %q", got)
	}
	if got := keys(t, second); !slices.Equal(got, []string{"a", "c"}) {
		t.Errorf("the second view shows %q", got)
	}
	second.Close()
	r.mustRestore(dir)
	want := []string{"CURRENT", "gen-000001"} // the first view's
	if got := r.folder(); !slices.Equal(got[:2], want) {
		t.Errorf("the folder holds %q, want %q before others", got, want)
	}
	first.Close()
	r.wantValue("a", "1")
	r.wantValue("c", "")
	wantNoLeftovers(t, r, filepath.Dir(dir))
}

// TestWritesAreRefusedDuringRestore looks at a restore in its middle.
func TestWritesAreRefusedDuringRestore(t *testing.T) {
	ctx := context.Background()
	begun, gate := make(chan struct{}), make(chan struct{})
	hold := false
	r := newRig(t, onDisk, func(r *rig) {
		open := r.opts.Open
		r.opts.Open = func(dir string) (storage.Engine, error) {
			if hold {
				close(begun)
				<-gate
			}
			return open(dir)
		}
	})
	r.mustPut("a", "1")
	dir := r.mustBackup()
	r.mustPut("a", "2")
	hold = true
	restored := make(chan error)
	go func() { restored <- r.Restore(ctx, dir) }()
	<-begun
	_, err := r.Propose(ctx, put("a", "3"))
	wantError(t, err, kv.Unavailable, kv.NotApplied)
	if want := "a restore is under way; retry when it is done"; err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
	r.wantValue("a", "2") // reads go on, from the old state
	if s := r.Status(); s.State != Restoring || s.ReadOnly != err.Error() {
		t.Errorf("status %+v", s)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	wantError(t, r.Restore(ended, dir), kv.Unavailable, kv.NotApplied)
	wantError(t, r.Backup(ended, dir+"2"), kv.Unavailable, kv.NotApplied)
	close(gate)
	if err := <-restored; err != nil {
		t.Fatal(err)
	}
	r.wantValue("a", "1")
	r.mustPut("a", "3")
}

// TestFailedRestoreChangesNothing goes through the ways in which a restore can
// fail.
func TestFailedRestoreChangesNothing(t *testing.T) {
	broken := errors.New("input/output error")
	data := func(dir string) string { return filepath.Join(dir, "data", "checkpoint.mem") }
	edit := func(path string, f func([]byte) []byte) func(*testing.T, *rig, string) context.Context {
		return func(t *testing.T, _ *rig, dir string) context.Context {
			p := filepath.Join(dir, path)
			raw, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(p, f(raw), 0o600); err != nil {
				t.Fatal(err)
			}
			return context.Background()
		}
	}
	for name, c := range map[string]struct {
		spoil func(t *testing.T, r *rig, dir string) context.Context
		kind  kv.Kind
		text  string
	}{
		"flipped bit": {edit("data/checkpoint.mem", func(p []byte) []byte { p[len(p)/2] ^= 1; return p }),
			kv.Corrupt, "checkpoint.mem fails its checksum; nothing was changed"},
		"damaged manifest": {edit("MANIFEST.json", func(p []byte) []byte { return p[:len(p)/2] }),
			kv.Corrupt, "the manifest is damaged"},
		"unknown engine": {edit("MANIFEST.json", func(p []byte) []byte {
			return []byte(strings.Replace(string(p), `"engine": "memory"`, `"engine": "abacus"`, 1))
		}), kv.Internal, `engine "abacus" is not known; nothing was changed`},
		"no backup": {func(t *testing.T, _ *rig, dir string) context.Context {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			return context.Background()
		}, kv.NotFound, "there is no backup at"},
		"missing file": {func(t *testing.T, _ *rig, dir string) context.Context {
			if err := os.Remove(data(dir)); err != nil {
				t.Fatal(err)
			}
			return context.Background()
		}, kv.Corrupt, "checkpoint.mem is missing"},
		"caller gone": {func(*testing.T, *rig, string) context.Context {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			return ctx
		}, kv.Unavailable, "context canceled"},
		"write error": {func(_ *testing.T, r *rig, _ string) context.Context {
			r.failWrites(broken)
			return context.Background()
		}, kv.Internal, "input/output error; nothing was changed"},
		"disk full": {func(_ *testing.T, r *rig, _ string) context.Context {
			r.failWrites(storage.ErrNoSpace)
			return context.Background()
		}, kv.Exhausted, "no space left on device; nothing was changed"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, onDisk)
			r.mustPut("a", "1")
			dir := r.mustBackup()
			r.mustPut("a", "2")
			before := r.Status()
			err := r.Restore(c.spoil(t, r, dir), dir)
			wantError(t, err, c.kind, kv.NotApplied)
			if !strings.Contains(err.Error(), c.text) {
				t.Errorf("error %q, want %q", err, c.text)
			}
			r.onWrite(nil)
			r.wantValue("a", "2")
			if after := r.Status(); after.Identity != before.Identity || after.Applied != before.Applied || after.State != Serving {
				t.Errorf("status %+v, was %+v", after, before)
			}
			if got := r.folder(); !slices.Equal(got, []string{"CURRENT", "gen-000001"}) {
				t.Errorf("it leaves %q", got)
			}
			r.mustPut("a", "3")
		})
	}
}

// TestCrashDuringRestore stops a restore before each of its writes, as a crash
// would, and opens the folder again: the state is the old or the new, whole.
func TestCrashDuringRestore(t *testing.T) {
	crash := errors.New("crash")
	olds, news := 0, 0
	dir := otherBackup(t)
	for step := int64(1); ; step++ {
		if step > 100 {
			t.Fatal("the restore does not come to an end")
		}
		r := newRig(t, onDisk)
		r.mustPut("a", "2")
		before := r.Status()
		left := step
		var image string
		r.onWrite(func() error {
			if left--; left == 0 {
				image = r.copyFolder()
				return crash
			}
			return nil
		})
		err := r.Restore(context.Background(), dir)
		if cerr := r.Close(); cerr != nil {
			t.Fatal(cerr)
		}
		if err == nil {
			image = r.copyFolder()
		}
		again := newRig(t, inImage(image))
		after := again.Status()
		if after.Identity == before.Identity {
			olds++
			again.wantValue("a", "2")
			if after.Applied != before.Applied {
				t.Errorf("step %d: index %d, was %d", step, after.Applied, before.Applied)
			}
		} else {
			news++
			again.wantValue("a", "1")
			if after.Applied <= before.Applied {
				t.Errorf("step %d: index %d, was %d", step, after.Applied, before.Applied)
			}
		}
		if got := again.folder(); len(got) != 2 {
			t.Errorf("step %d: the folder holds %q", step, got)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, crash) {
			t.Fatalf("step %d: %v", step, err)
		}
	}
	if olds < 3 || news != 1 {
		t.Errorf("%d crashes left the old state, %d the new one", olds, news)
	}
}

// TestCrashAroundCommit opens the folder as it is just before and just after
// the present generation is moved.
func TestCrashAroundCommit(t *testing.T) {
	r := newRig(t, onDisk)
	r.mustPut("a", "1")
	dir := r.mustBackup()
	r.mustPut("a", "2")
	view, _, err := r.View(context.Background(), kv.ReadOptions{}) // keeps the old folder there
	if err != nil {
		t.Fatal(err)
	}
	r.mustRestore(dir)
	after := r.copyFolder()
	view.Close()
	before := after + "-before"
	if err := os.CopyFS(before, os.DirFS(after)); err != nil {
		t.Fatal(err)
	}
	current := filepath.Join(before, "vbucket-default", "CURRENT")
	if err := os.WriteFile(current, []byte("gen-000001\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for image, want := range map[string]string{before: "2", after: "1"} {
		again := newRig(t, inImage(image))
		again.wantValue("a", want)
		again.mustPut("b", "x")
		if got := again.folder(); len(got) != 2 {
			t.Errorf("the folder holds %q", got)
		}
	}
}

func TestRestoreRespectsReserve(t *testing.T) {
	for name, c := range map[string]func(r *rig, dir string) error{
		"restore": func(r *rig, dir string) error { return r.Restore(context.Background(), dir) },
		"backup":  func(r *rig, dir string) error { return r.Backup(context.Background(), dir+"2") },
	} {
		t.Run(name, func(t *testing.T) {
			source := newRig(t)
			source.mustPut("a", "1")
			dir := source.mustBackup()
			r := newRig(t, onDisk, func(r *rig) {
				var err error
				// All of the disk is reserve.
				r.opts.Guard, err = diskspace.New(r.dir.Path(), func(total uint64) uint64 { return total })
				if err != nil {
					t.Fatal(err)
				}
			})
			err := c(r, dir)
			wantError(t, err, kv.Exhausted, kv.NotApplied)
			if !errors.Is(err, storage.ErrNoSpace) {
				t.Errorf("%v is not about space", err)
			}
			_, err = r.Propose(context.Background(), put("k", "v"))
			wantError(t, err, kv.Exhausted, kv.NotApplied)
			if s := r.Status(); s.State != Serving || !strings.HasPrefix(s.ReadOnly, "the disk is nearly full") {
				t.Errorf("status %+v", s)
			}
			// Not even then is a node beyond being told to pause.
			r.mustPropose(&command.Command{Kind: command.SetPaused, Flag: true})
		})
	}
}
