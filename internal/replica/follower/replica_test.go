package follower

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/replica/state"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/diskspace"
	"github.com/dkvdb/dkv/internal/testkit"
)

func TestFollowerBeginsEmpty(t *testing.T) {
	f := newRig(t)
	if id, at := f.Position(); id != (fsm.Identity{}) || at != 0 {
		t.Errorf("position %v, %d", id, at)
	}
	_, _, _, err := f.Replica.Get(t.Context(), []byte("k"), kv.ReadOptions{})
	replicatest.WantError(t, err, kv.Unavailable, kv.NotApplied)
	_, err = f.Replica.Changes(t.Context(), 1, 0, 1<<20)
	replicatest.WantError(t, err, kv.Unavailable, kv.NotApplied)
	if err := f.Apply(t.Context(), 0, nil, 1); err == nil {
		t.Error("changes were applied to no state")
	}
	if s := f.Replica.Status(); s.Mode != replica.ModeStream || f.Replica.Readable() || s.Unreadable == nil || s.Age < time.Hour {
		t.Errorf("status %+v, readable %v", s, f.Replica.Readable())
	}
}

// TestMastersServeTheRest: by these errors clients know that another node serves the request.
func TestMastersServeTheRest(t *testing.T) {
	f := newRig(t)
	for _, leader := range []string{"", "127.0.0.1:1"} {
		f.Replica.SetLeader(leader)
		_, err := f.Replica.Propose(t.Context(), nil)
		for _, err := range []error{err, f.Replica.Restore(t.Context(), "")} {
			replicatest.WantError(t, err, kv.Precondition, kv.NotApplied)
			if !errors.Is(err, kv.ErrSlave) || leader != "" && !strings.Contains(err.Error(), leader) {
				t.Errorf("leader %q: %v", leader, err)
			}
		}
	}
}

func TestFollowerFollows(t *testing.T) {
	src := replicatest.RunNode(t)
	src.MustPut("a", "1")
	f := newRig(t)
	f.mustReplace(src)
	f.WantValue("a", "1")
	if s := f.Replica.Status(); s.State != replica.Serving || s.Unreadable != nil || s.Applied != 1 || !f.Replica.Readable() {
		t.Errorf("status %+v", s)
	}
	for i := range 3000 {
		src.MustPut(fmt.Sprint("k", i%7), fmt.Sprint(i))
	}
	f.mustFollow(src)
	if got, want := hashOf(t, f.Replica), hashOf(t, src); got != want {
		t.Errorf("hash %v, want %v", got, want)
	}
	c, err := f.Replica.Changes(t.Context(), 2, 0, 1<<30)
	if err != nil || len(c.Changes) != 3000 || c.Changes[0].Index != 2 || c.Newest != 3001 || c.History != f.Replica.Status().Identity.History {
		t.Errorf("%d changes up to %d, %v", len(c.Changes), c.Newest, err)
	}
	_, err = f.Replica.Changes(t.Context(), 1, 0, 1<<20)
	replicatest.WantError(t, err, kv.OutOfRange, kv.NotApplied)
	last, found, err := f.LastChange(t.Context())
	if err != nil || !found || last.Index != 3001 {
		t.Errorf("last change %+v, %v, %v", last, found, err)
	}
}

// Changes that do not go on from the state would leave a gap.
func TestFollowerApplyFromElsewhere(t *testing.T) {
	src := replicatest.RunNode(t)
	src.MustPut("a", "1")
	f := newRig(t)
	f.mustReplace(src)
	for range 4 {
		src.MustPut("a", "2")
	}
	c, err := src.Changes(t.Context(), 4, 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Apply(t.Context(), 3, c.Changes, c.Newest); !errors.Is(err, ErrMoved) {
		t.Error(err)
	}
	f.WantValue("a", "1")
	f.mustFollow(src)
	f.WantValue("a", "2")
}

func TestFollowerRefusesMutations(t *testing.T) {
	f := newRig(t)
	src := replicatest.RunNode(t)
	src.MustPut("a", "1")
	f.mustReplace(src)
	if o := f.Replica.Owner(); o != (replica.Owner{}) {
		t.Errorf("owner %+v", o)
	}
	_, err := f.Replica.Propose(t.Context(), replicatest.Put("a", "2"))
	replicatest.WantError(t, err, kv.Precondition, kv.NotApplied)
	f.SetLeader("master.example:9090")
	for what, err := range map[string]error{
		"put":     func() error { _, err := f.Replica.Propose(t.Context(), replicatest.Put("a", "2")); return err }(),
		"restore": f.Replica.Restore(t.Context(), "anywhere"),
	} {
		replicatest.WantError(t, err, kv.Precondition, kv.NotApplied)
		if !strings.Contains(err.Error(), "master.example:9090") {
			t.Errorf("%s: %q does not name the leader", what, err)
		}
	}
	if o := f.Replica.Owner(); o.Self || o.ID == 0 || o.Address != "master.example:9090" {
		t.Errorf("owner %+v", o)
	}
	f.WantValue("a", "1")
	if s := f.Replica.Status(); s.IsLeader || !strings.Contains(s.ReadOnly, "master.example:9090") {
		t.Errorf("status %+v", s)
	}
}

func TestFollowerDiskNearlyFull(t *testing.T) {
	src := replicatest.RunNode(t)
	src.MustPut("a", "1")
	var full atomic.Bool
	f := newRig(t, replicatest.OnDisk, func(r *replicatest.Rig) {
		var err error
		r.Opts.Guard, err = diskspace.New(r.Dir.Path(), func(total uint64) uint64 {
			if full.Load() {
				return total
			}
			return 0
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	f.mustReplace(src)
	src.MustPut("a", "2")
	full.Store(true)
	if err := f.Fits(1); !errors.Is(err, storage.ErrNoSpace) { // looks, too
		t.Error(err)
	}
	c, err := src.Changes(t.Context(), 2, 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	err = f.Apply(t.Context(), 1, c.Changes, c.Newest)
	replicatest.WantError(t, err, kv.Exhausted, kv.NotApplied)
	if !errors.Is(err, storage.ErrNoSpace) {
		t.Error(err)
	}
	f.WantValue("a", "1")
	if s := f.Replica.State(); s != replica.Serving {
		t.Errorf("state %s", s)
	}
	full.Store(false)
	if err := f.Fits(1); err != nil {
		t.Error(err)
	}
	f.mustFollow(src)
	f.WantValue("a", "2")
}

// After a failed write the state is reopened, perhaps at an earlier index: what
// was read once is waited for.
func TestFollowerStorageFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := replicatest.RunNode(t)
		src.MustPut("a", "1")
		f := newRig(t, replicatest.OnDisk)
		f.mustReplace(src)
		src.MustPut("a", "2")
		f.mustFollow(src) // not synced yet
		f.WantValue("a", "2")
		f.FailWrites(storage.ErrNoSpace)
		time.Sleep(syncInterval + syncInterval/2)
		synctest.Wait()
		if s := f.Replica.State(); s != replica.Failed {
			t.Fatalf("state %s", s)
		}
		replicatest.WantError(t, f.Apply(t.Context(), 2, nil, 3), kv.Exhausted, kv.NotApplied)
		replicatest.WantError(t, f.Failure(), kv.Exhausted, kv.NotApplied)
		f.OnWrite(nil)
		time.Sleep(2 * state.ReopenInterval)
		synctest.Wait()
		if s := f.Replica.State(); s != replica.Serving || f.Failure() != nil {
			t.Fatalf("state %s, %v", s, f.Failure())
		}
		if _, at := f.Position(); at != 1 {
			t.Fatalf("it was opened at %d; the test wants what is lost in a crash", at)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, _, _, err := f.Replica.Get(ctx, []byte("a"), kv.ReadOptions{})
		replicatest.WantError(t, err, kv.Precondition, kv.NotApplied)
		if err := f.Apply(t.Context(), 2, nil, 3); !errors.Is(err, ErrMoved) {
			t.Error(err)
		}
		f.mustFollow(src)
		f.WantValue("a", "2")
	})
}

// A state whose disk is full when it is to be of another history is reopened when there is room, also if
// all else is on the disk.
func TestFollowerAdoptFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := replicatest.RunNode(t)
		src.MustPut("a", "1")
		f := newRig(t, replicatest.OnDisk)
		f.mustReplace(src)
		time.Sleep(2 * syncInterval)
		id, end := f.Position()
		lineage := []fsm.Former{{History: id.History, End: end}}
		f.FailWrites(storage.ErrNoSpace)
		replicatest.WantError(t, f.Adopt("1-next", lineage), kv.Exhausted, kv.NotApplied)
		if s := f.Replica.State(); s != replica.Failed {
			t.Fatalf("state %s", s)
		}
		f.OnWrite(nil)
		time.Sleep(2 * state.ReopenInterval)
		synctest.Wait()
		if err := f.Adopt("1-next", lineage); err != nil {
			t.Error(err)
		}
		if now, at := f.Position(); now.History != "1-next" || at != end {
			t.Errorf("it is at %d of history %s", at, now.History)
		}
	})
}

// A state that fails once more before it is back where it was does not forget what was read.
func TestFollowerStorageFailsTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := replicatest.RunNode(t)
		src.MustPut("a", "1")
		f := newRig(t, replicatest.OnDisk)
		f.mustReplace(src)
		src.MustPut("a", "2")
		_, at := f.Position()
		part, err := src.Changes(t.Context(), at+1, 0, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		src.MustPut("a", "3")
		f.mustFollow(src)
		f.WantValue("a", "3")
		becomes := func(s replica.State) {
			testkit.Eventually(t, string(s), func() bool { return f.Replica.State() == s })
		}
		reopened := func() {
			f.FailWrites(storage.ErrNoSpace)
			becomes(replica.Failed)
			f.OnWrite(nil)
			becomes(replica.Serving)
			if _, now := f.Position(); now != at {
				t.Fatalf("it was opened at %d; the test wants what is lost in a crash", now)
			}
		}
		reopened()
		follow := func() {
			if err := f.Apply(t.Context(), at, part.Changes, part.Newest); err != nil {
				t.Fatal(err)
			}
		}
		follow()
		reopened()
		follow()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, _, _, err = f.Replica.Get(ctx, []byte("a"), kv.ReadOptions{}) // not the value before
		replicatest.WantError(t, err, kv.Precondition, kv.NotApplied)
		f.mustFollow(src)
		f.WantValue("a", "3")
	})
}

func TestFollowerSyncsAndTrims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := replicatest.RunNode(t)
		f := newRig(t, replicatest.OnDisk, func(r *replicatest.Rig) { r.Opts.Retention = changelog.Retention{MaxAge: time.Hour} })
		f.mustReplace(src)
		src.MustPut("old", "v")
		f.mustFollow(src)
		before := f.Writes()
		time.Sleep(2 * syncInterval)
		synctest.Wait()
		if f.Writes() == before {
			t.Error("nothing was synced")
		}
		time.Sleep(2 * time.Hour)
		src.MustPut("new", "v")
		f.mustFollow(src)
		time.Sleep(2 * state.TrimInterval)
		synctest.Wait()
		if got := f.Replica.Status().ChangelogFloor; got != 2 {
			t.Errorf("floor %d", got)
		}
	})
}

// One change may be more than the engine writes at once.
func TestFollowerLargeChange(t *testing.T) {
	src := replicatest.RunNode(t)
	f := newRig(t, func(r *replicatest.Rig) { r.BatchLimit = storage.BatchLimit{Bytes: 4000, Ops: 40} })
	f.mustReplace(src)
	src.MustPut("before", "1")
	c := replicatest.Put("k", strings.Repeat("v", 500))
	for i := range 100 {
		c.Mutations = append(c.Mutations, kv.Mutation{Key: fmt.Appendf(nil, "k%d", i), Value: []byte("v"), ExpireTS: 1 << 40})
	}
	src.MustPropose(c)
	src.MustPut("after", "1")
	f.mustFollow(src)
	if got, want := hashOf(t, f.Replica), hashOf(t, src); got != want {
		t.Errorf("hash %v, want %v", got, want)
	}
	// And one may be more than it ever can.
	_, at := f.Position()
	huge := []kv.Change{{Index: at + 1, Clock: 1, Mutations: []kv.Mutation{{Key: []byte("k"), Value: make([]byte, 5000)}}}}
	if err := f.Apply(t.Context(), at, huge, at+1); !errors.Is(err, storage.ErrTooLarge) {
		t.Error(err)
	}
	if s := f.Replica.State(); s != replica.Serving {
		t.Errorf("state %s", s)
	}
}

func TestFollowerBackup(t *testing.T) {
	src := replicatest.RunNode(t)
	src.MustPut("a", "1")
	f := newRig(t, replicatest.OnDisk)
	f.mustReplace(src)
	dir := filepath.Join(t.TempDir(), "backup")
	if err := f.Replica.Backup(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	into := replicatest.RunNode(t)
	if err := into.Restore(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	into.WantValue("a", "1")
}

// A copy shows again what its master's clock does not hide any more.
func TestFollowerFollowsTheClockBack(t *testing.T) {
	src, f := replicatest.RunNode(t), newRig(t)
	src.MustPropose(replicatest.PutUntil("session", "alive", time.Now().Add(time.Hour)))
	f.mustReplace(src)
	_, at := f.Position()
	seen := func(clock time.Time) bool {
		t.Helper()
		at++
		if err := f.Apply(t.Context(), at-1, []kv.Change{{Index: at, Clock: kv.ClockOf(clock)}}, at); err != nil {
			t.Fatal(err)
		}
		_, found, _, err := f.Replica.Get(t.Context(), []byte("session"), kv.ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if seen(time.Now().Add(replicatest.Decade)) || !seen(time.Now()) {
		t.Error("the copy does not follow the clock of the log")
	}
}
