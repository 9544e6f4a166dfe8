package local_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/diskspace"
)

// TestRestore takes a backup, goes on, and comes back to it: with the same
// engine and with another one, on disk and without.
func TestRestore(t *testing.T) {
	for name, c := range map[string]struct{ from, to []replicatest.Change }{
		"same engine":             {[]replicatest.Change{replicatest.OnDisk}, []replicatest.Change{replicatest.OnDisk}},
		"diskless":                {nil, nil},
		"disk to diskless":        {[]replicatest.Change{replicatest.OnDisk}, nil},
		"diskless to disk":        {nil, []replicatest.Change{replicatest.OnDisk}},
		"another engine":          {[]replicatest.Change{replicatest.OnDisk, replicatest.OfOtherKind}, []replicatest.Change{replicatest.OnDisk}},
		"another engine diskless": {[]replicatest.Change{replicatest.OfOtherKind}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			from := replicatest.RunNode(t, c.from...)
			from.MustPut("a", "1")
			from.MustPut("b", "2")
			dir := from.MustBackup()

			to := replicatest.RunNode(t, c.to...)
			for range 5 {
				to.MustPut("a", "other")
			}
			to.MustPut("c", "other")
			before := to.Status()
			to.MustRestore(dir)
			to.WantValue("a", "1")
			to.WantValue("b", "2")
			to.WantValue("c", "")

			after := to.Status()
			if after.State != replica.Serving || after.Applied != before.Applied+1 {
				t.Errorf("state %s, index %d after %d", after.State, after.Applied, before.Applied)
			}
			if after.Identity.Cluster != before.Identity.Cluster {
				t.Error("the cluster id has changed")
			}
			if h := after.Identity.History; h == before.Identity.History || h == from.Status().Identity.History {
				t.Error("the history id is not new")
			}
			_, err := to.Changes(context.Background(), before.Applied, 0, 1<<20)
			replicatest.WantError(t, err, kv.OutOfRange, kv.NotApplied)
			if got := to.MustPut("d", "4"); got != after.Applied+1 {
				t.Errorf("the next index is %d after %d", got, after.Applied)
			}
			changes, err := to.Changes(context.Background(), after.Applied+1, 0, 1<<20)
			if err != nil || len(changes.Changes) != 1 || changes.History != after.Identity.History {
				t.Errorf("changes %+v, %v", changes, err)
			}
			replicatest.WantNoLeftovers(t, to, filepath.Dir(dir))
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
	r := replicatest.RunNode(t)
	inBackup := r.MustPropose(increment(7))
	dir := r.MustBackup()
	later := r.MustPropose(increment(8))
	r.MustRestore(dir)
	fresh := replicatest.RunNode(t)
	fresh.MustPut("a", "1")
	fresh.MustRestore(dir)
	for _, c := range []struct {
		on     *replicatest.Node
		client uint64
		want   command.Result
	}{{r, 7, inBackup}, {r, 8, later}, {fresh, 7, inBackup}} {
		if again := c.on.MustPropose(increment(c.client)); again != c.want {
			t.Errorf("a retry of client %d came to %+v, the first attempt to %+v", c.client, again, c.want)
		}
	}
	if again := fresh.MustPropose(increment(8)); again.Counter != 2 {
		t.Errorf("what the backup does not know came to %+v", again)
	}
}

func TestRestoreKeepsThePause(t *testing.T) {
	for _, paused := range []bool{false, true} {
		from := replicatest.RunNode(t, replicatest.OnDisk)
		from.MustPropose(&command.Command{Kind: command.SetPaused, Flag: !paused})
		dir := from.MustBackup()
		to := replicatest.RunNode(t, replicatest.OnDisk)
		to.MustPropose(&command.Command{Kind: command.SetPaused, Flag: paused})
		to.MustRestore(dir)
		if got := to.Status().Paused; got != paused {
			t.Errorf("paused %v before a restore and %v behind it", paused, got)
		}
	}
}

// TestRestoreCuresFailedStorage: whatever became of the old state, the new one
// is whole.
func TestRestoreCuresFailedStorage(t *testing.T) {
	begun, gate := make(chan struct{}), make(chan struct{})
	var hold atomic.Bool
	r := replicatest.RunNode(t, replicatest.OnDisk, func(r *replicatest.Rig) {
		open := r.Opts.Open
		r.Opts.Open = func(dir string) (storage.Engine, error) {
			if hold.Swap(false) {
				close(begun)
				<-gate
			}
			return open(dir)
		}
	})
	r.MustPut("a", "1")
	dir := r.MustBackup()
	broken := errors.New("input/output error")
	r.FailWrites(broken)
	if _, err := r.Propose(t.Context(), replicatest.Put("a", "2")); err == nil {
		t.Fatal("the write succeeded")
	}
	r.OnWrite(nil)
	replicatest.WantError(t, r.Restore(t.Context(), filepath.Join(dir, "none")), kv.NotFound, kv.NotApplied)
	if s := r.Status(); s.State != replica.Failed || !errors.Is(s.Err, broken) {
		t.Fatalf("after a restore of nothing: %s, %v", s.State, s.Err)
	}
	hold.Store(true)
	restored := make(chan error, 1)
	go func() { restored <- r.Restore(t.Context(), dir) }()
	<-begun
	// Nothing more is written to the state that has failed, which would end the restore.
	_, err := r.Propose(t.Context(), &command.Command{Kind: command.SetStandbys, Expect: []byte("standbys")})
	replicatest.WantError(t, err, kv.Unavailable, kv.NotApplied)
	close(gate)
	if err := <-restored; err != nil {
		t.Fatal(err)
	}
	if s := r.Status(); s.State != replica.Serving || s.Err != nil {
		t.Fatalf("after a restore: %s, %v", s.State, s.Err)
	}
	r.WantValue("a", "1")
	r.MustPut("a", "3")
}

// TestRestoreOfNewerIndex restores a state whose index is the greater one.
func TestRestoreOfNewerIndex(t *testing.T) {
	from := replicatest.RunNode(t)
	for range 10 {
		from.MustPut("a", "1")
	}
	dir := from.MustBackup()
	to := replicatest.RunNode(t)
	to.MustPut("a", "2")
	to.MustRestore(dir)
	if got := to.Status().Applied; got != 10 {
		t.Errorf("index %d, want the backup's", got)
	}
}

func TestRestoreSurvivesRestart(t *testing.T) {
	r := replicatest.RunNode(t, replicatest.OnDisk)
	r.MustPut("a", "1")
	dir := r.MustBackup()
	r.MustPut("a", "2")
	r.MustRestore(dir)
	r.MustPut("b", "3")
	want := r.Status().Identity
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	again := replicatest.RunNode(t, replicatest.InFolderOf(r.Rig))
	again.WantValue("a", "1")
	again.WantValue("b", "3")
	if got := again.Status(); got.Identity != want || got.Applied != 4 {
		t.Errorf("index %d, identity %+v, want %+v", got.Applied, got.Identity, want)
	}
}

// TestRestoreUnderReaders restores twice while views of both former states are
// open: each keeps its state, and its folder, until it is closed.
func TestRestoreUnderReaders(t *testing.T) {
	r := replicatest.RunNode(t, replicatest.OnDisk)
	r.MustPut("a", "1")
	dir := r.MustBackup()
	r.MustPut("b", "2")
	first, _, err := r.View(context.Background(), kv.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	r.MustRestore(dir)
	r.MustPut("c", "3")
	second, _, err := r.View(context.Background(), kv.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r.MustRestore(dir)
	if got := replicatest.Keys(t, first); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("the first view shows %q", got)
	}
	if got := replicatest.Keys(t, second); !slices.Equal(got, []string{"a", "c"}) {
		t.Errorf("the second view shows %q", got)
	}
	second.Close()
	r.MustRestore(dir)
	want := []string{"CURRENT", "gen-000001"} // the first view's
	if got := r.Folder(); !slices.Equal(got[:2], want) {
		t.Errorf("the folder holds %q, want %q before others", got, want)
	}
	first.Close()
	r.WantValue("a", "1")
	r.WantValue("c", "")
	replicatest.WantNoLeftovers(t, r, filepath.Dir(dir))
}

// TestWritesAreRefusedDuringRestore looks at a restore in its middle.
func TestWritesAreRefusedDuringRestore(t *testing.T) {
	ctx := context.Background()
	begun, gate := make(chan struct{}), make(chan struct{})
	hold := false
	r := replicatest.RunNode(t, replicatest.OnDisk, func(r *replicatest.Rig) {
		open := r.Opts.Open
		r.Opts.Open = func(dir string) (storage.Engine, error) {
			if hold {
				close(begun)
				<-gate
			}
			return open(dir)
		}
	})
	r.MustPut("a", "1")
	dir := r.MustBackup()
	r.MustPut("a", "2")
	hold = true
	restored := make(chan error)
	go func() { restored <- r.Restore(ctx, dir) }()
	<-begun
	_, err := r.Propose(ctx, replicatest.Put("a", "3"))
	replicatest.WantError(t, err, kv.Unavailable, kv.NotApplied)
	if want := "a restore is under way; retry when it is done"; err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
	r.WantValue("a", "2") // reads go on, from the old state
	// So does what the owner's lease and the list of slaves depend on, which the restored state keeps.
	slave := fsm.ListedSlave{Slave: command.Slave{Zone: "z", Address: "h:1"}}
	for _, c := range []*command.Command{
		{Kind: command.SetStandbys, Expect: []byte("standbys")},
		{Kind: command.SetSlave, Expect: slave.Append(nil), Flag: true},
	} {
		if _, err := r.Propose(ctx, c); err != nil {
			t.Error(err)
		}
	}
	if s := r.Status(); s.State != replica.Restoring || s.ReadOnly != err.Error() {
		t.Errorf("status %+v", s)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	replicatest.WantError(t, r.Restore(ended, dir), kv.Unavailable, kv.NotApplied)
	replicatest.WantError(t, r.Backup(ended, dir+"2"), kv.Unavailable, kv.NotApplied)
	close(gate)
	if err := <-restored; err != nil {
		t.Fatal(err)
	}
	r.WantValue("a", "1")
	if got, _ := r.Standbys(); string(got) != "standbys" {
		t.Errorf("the standbys are %q", got)
	}
	if got, err := r.Slaves(ctx); err != nil || len(got) != 1 || got[0].Slave != slave.Slave {
		t.Errorf("the slaves are %+v, %v", got, err)
	}
	r.MustPut("a", "3")
}

// TestFailedRestoreChangesNothing goes through the ways in which a restore can
// fail.
func TestFailedRestoreChangesNothing(t *testing.T) {
	broken := errors.New("input/output error")
	data := func(dir string) string { return filepath.Join(dir, "data", "checkpoint.mem") }
	edit := func(path string, f func([]byte) []byte) func(*testing.T, *replicatest.Node, string) context.Context {
		return func(t *testing.T, _ *replicatest.Node, dir string) context.Context {
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
		spoil func(t *testing.T, r *replicatest.Node, dir string) context.Context
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
		"no backup": {func(t *testing.T, _ *replicatest.Node, dir string) context.Context {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			return context.Background()
		}, kv.NotFound, "there is no backup at"},
		"missing file": {func(t *testing.T, _ *replicatest.Node, dir string) context.Context {
			if err := os.Remove(data(dir)); err != nil {
				t.Fatal(err)
			}
			return context.Background()
		}, kv.Corrupt, "checkpoint.mem is missing"},
		"caller gone": {func(*testing.T, *replicatest.Node, string) context.Context {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			return ctx
		}, kv.Unavailable, "context canceled"},
		"write error": {func(_ *testing.T, r *replicatest.Node, _ string) context.Context {
			r.FailWrites(broken)
			return context.Background()
		}, kv.Internal, "input/output error; nothing was changed"},
		"disk full": {func(_ *testing.T, r *replicatest.Node, _ string) context.Context {
			r.FailWrites(storage.ErrNoSpace)
			return context.Background()
		}, kv.Exhausted, "no space left on device; nothing was changed"},
	} {
		t.Run(name, func(t *testing.T) {
			r := replicatest.RunNode(t, replicatest.OnDisk)
			r.MustPut("a", "1")
			dir := r.MustBackup()
			r.MustPut("a", "2")
			before := r.Status()
			err := r.Restore(c.spoil(t, r, dir), dir)
			replicatest.WantError(t, err, c.kind, kv.NotApplied)
			if !strings.Contains(err.Error(), c.text) {
				t.Errorf("error %q, want %q", err, c.text)
			}
			r.OnWrite(nil)
			r.WantValue("a", "2")
			if after := r.Status(); after.Identity != before.Identity || after.Applied != before.Applied || after.State != replica.Serving {
				t.Errorf("status %+v, was %+v", after, before)
			}
			if got := r.Folder(); !slices.Equal(got, []string{"CURRENT", "gen-000001"}) {
				t.Errorf("it leaves %q", got)
			}
			r.MustPut("a", "3")
		})
	}
}

// TestCrashDuringRestore stops a restore before each of its writes, as a crash
// would, and opens the folder again: the state is the old or the new, whole.
func TestCrashDuringRestore(t *testing.T) {
	crash := errors.New("crash")
	olds, news := 0, 0
	dir := replicatest.OtherBackup(t)
	for step := int64(1); ; step++ {
		if step > 100 {
			t.Fatal("the restore does not come to an end")
		}
		r := replicatest.RunNode(t, replicatest.OnDisk)
		r.MustPut("a", "2")
		before := r.Status()
		left := step
		var image string
		r.OnWrite(func() error {
			if left--; left == 0 {
				image = r.CopyFolder()
				return crash
			}
			return nil
		})
		err := r.Restore(context.Background(), dir)
		if cerr := r.Close(); cerr != nil {
			t.Fatal(cerr)
		}
		if err == nil {
			image = r.CopyFolder()
		}
		again := replicatest.RunNode(t, replicatest.InImage(image))
		after := again.Status()
		if after.Identity == before.Identity {
			olds++
			again.WantValue("a", "2")
			if after.Applied != before.Applied {
				t.Errorf("step %d: index %d, was %d", step, after.Applied, before.Applied)
			}
		} else {
			news++
			again.WantValue("a", "1")
			if after.Applied <= before.Applied {
				t.Errorf("step %d: index %d, was %d", step, after.Applied, before.Applied)
			}
		}
		if got := again.Folder(); len(got) != 2 {
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
	r := replicatest.RunNode(t, replicatest.OnDisk)
	r.MustPut("a", "1")
	dir := r.MustBackup()
	r.MustPut("a", "2")
	view, _, err := r.View(context.Background(), kv.ReadOptions{}) // keeps the old folder there
	if err != nil {
		t.Fatal(err)
	}
	r.MustRestore(dir)
	after := r.CopyFolder()
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
		again := replicatest.RunNode(t, replicatest.InImage(image))
		again.WantValue("a", want)
		again.MustPut("b", "x")
		if got := again.Folder(); len(got) != 2 {
			t.Errorf("the folder holds %q", got)
		}
	}
}

func TestRestoreRespectsReserve(t *testing.T) {
	for name, c := range map[string]func(r *replicatest.Node, dir string) error{
		"restore": func(r *replicatest.Node, dir string) error { return r.Restore(context.Background(), dir) },
		"backup":  func(r *replicatest.Node, dir string) error { return r.Backup(context.Background(), dir+"2") },
	} {
		t.Run(name, func(t *testing.T) {
			source := replicatest.RunNode(t)
			source.MustPut("a", "1")
			dir := source.MustBackup()
			r := replicatest.RunNode(t, replicatest.OnDisk, func(r *replicatest.Rig) {
				var err error
				// All of the disk is reserve.
				r.Opts.Guard, err = diskspace.New(r.Dir.Path(), func(total uint64) uint64 { return total })
				if err != nil {
					t.Fatal(err)
				}
			})
			err := c(r, dir)
			replicatest.WantError(t, err, kv.Exhausted, kv.NotApplied)
			if !errors.Is(err, storage.ErrNoSpace) {
				t.Errorf("%v is not about space", err)
			}
			_, err = r.Propose(context.Background(), replicatest.Put("k", "v"))
			replicatest.WantError(t, err, kv.Exhausted, kv.NotApplied)
			if s := r.Status(); s.State != replica.Serving || !strings.HasPrefix(s.ReadOnly, "the disk is nearly full") {
				t.Errorf("status %+v", s)
			}
			// Not even then is a node beyond being told to pause.
			r.MustPropose(&command.Command{Kind: command.SetPaused, Flag: true})
		})
	}
}
