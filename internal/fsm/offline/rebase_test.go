package offline

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/fsm/fsmtest"
	"github.com/dkvdb/dkv/internal/fsm/history"
	"github.com/dkvdb/dkv/internal/fsm/layout"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

func TestInspect(t *testing.T) {
	if _, _, err := Inspect(fsmtest.OpenMemory(t)); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("an empty engine: %v", err)
	}
	x := filled(t)
	id, index, err := Inspect(x.engine)
	if err != nil || id != x.m.Identity() || index != x.m.Applied() {
		t.Errorf("%+v at %d, %v", id, index, err)
	}
}

func TestRebase(t *testing.T) {
	for _, least := range []kv.Index{1, 1000} {
		x := filled(t)
		x.apply(fsmtest.Pause(true))
		x.apply(fsmtest.Write(fsmtest.Put("refused", "1")))
		x.apply(fsmtest.Pause(false), fsmtest.Write(fsmtest.Put("last", "1")), fsmtest.Pause(true))
		old := x.m
		data, expiry := fsmtest.Dump(t, x.engine, storage.Data), fsmtest.Dump(t, x.engine, storage.Expiry)
		if err := Rebase(t.Context(), x.engine, history.Identity{Cluster: "the cluster", History: "3-replaced"}, least, false); err != nil {
			t.Fatal(err)
		}
		x.restart()
		index := max(old.Applied(), least)
		switch {
		case x.m.Applied() != index:
			t.Errorf("index %d, want %d", x.m.Applied(), index)
		case x.m.Identity().Cluster != "the cluster" || x.m.Identity().History == old.Identity().History || era.Of(x.m.Identity().History) != 3:
			t.Errorf("identity %+v, was %+v", x.m.Identity(), old.Identity())
		case x.m.Paused():
			t.Error("still paused")
		case x.m.ChangelogFloor() != index+1:
			t.Errorf("floor %d at %d", x.m.ChangelogFloor(), index)
		case x.m.Clock() != old.Clock():
			t.Error("the clock is another")
		case len(fsmtest.Dump(t, x.engine, storage.Changelog)) != 0:
			t.Error("old changes are left")
		case !fsmtest.SamePairs(fsmtest.Dump(t, x.engine, storage.Data), data) || !fsmtest.SamePairs(fsmtest.Dump(t, x.engine, storage.Expiry), expiry):
			t.Error("the keyspace is another")
		}
		checkExpiry(t, x.engine)
		// It continues: the change of a new request is the first.
		res := x.one(command.OK, fsmtest.As(fsmtest.Write(fsmtest.Put("a", "1")), 7, 13, 0))
		if res.Index != index+1 || !x.changed(res.Index) {
			t.Errorf("result %+v, or no change", res)
		}
		if _, err := x.m.Changes(index, 0, 1<<20); kv.KindOf(err) != kv.OutOfRange {
			t.Errorf("a change of the old history: %v", err)
		}
	}
}

// The requests that a backup remembers belong to its keyspace: a retry of one is
// not applied to it again.
func TestRebaseKeepsRequests(t *testing.T) {
	x := newFixture(t)
	first := x.one(command.OK, fsmtest.As(fsmtest.Increment("n", 1), 7, 2, 1))
	if err := Rebase(t.Context(), x.engine, history.Identity{Cluster: "c"}, 100, false); err != nil {
		t.Fatal(err)
	}
	x.restart()
	if again := x.one(command.OK, fsmtest.As(fsmtest.Increment("n", 1), 7, 2, 1)); again != first {
		t.Errorf("a retry came to %+v, the first attempt to %+v", again, first)
	}
	x.one(command.StaleRequest, fsmtest.As(fsmtest.Increment("n", 1), 7, 1, 0))
	if p, _, err := x.m.Get([]byte("n"), x.clock); !bytes.Equal(p.Value, []byte{7: 1}) || err != nil {
		t.Errorf("the counter is %x, %v", p.Value, err)
	}
}

// More old changes than one batch deletes go.
func TestRebaseDropsMuch(t *testing.T) {
	x := newFixture(t)
	entries := make([]fsm.Entry, 10_000)
	for i := range entries {
		c := fsmtest.Write(fsmtest.Put("a", "1"))
		entries[i] = fsm.Entry{Index: uint64(i) + 1, Command: &c}
	}
	if err := x.m.Apply(entries, make([]command.Result, len(entries)), false); err != nil {
		t.Fatal(err)
	}
	if err := Rebase(t.Context(), x.engine, history.Identity{Cluster: "c"}, 0, false); err != nil {
		t.Fatal(err)
	}
	x.restart()
	if n := len(fsmtest.Dump(t, x.engine, storage.Changelog)); n != 0 {
		t.Fatalf("%d changes are left", n)
	}
	if n := len(fsmtest.Dump(t, x.engine, storage.Meta)); n != 4 {
		t.Fatalf("%d records in meta, want identity, state, floor and base", n)
	}
}

func TestRebaseReportsErrors(t *testing.T) {
	if err := Rebase(t.Context(), fsmtest.OpenMemory(t), history.Identity{Cluster: "c"}, 0, false); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("an engine without state: %v", err)
	}
	for n := 1; n <= 3; n++ {
		x := filled(t)
		f := &fsmtest.Faulty{Engine: x.engine, FailWrite: n}
		if err := Rebase(t.Context(), f, history.Identity{Cluster: "c"}, 0, false); !errors.Is(err, fsmtest.ErrInjected) {
			t.Errorf("write %d failed: %v", n, err)
		}
		// It may be repeated.
		if err := Rebase(t.Context(), f, history.Identity{Cluster: "c"}, 0, false); err != nil {
			t.Errorf("after write %d failed: %v", n, err)
		}
	}
}

// Terms of another log mean nothing here.
func TestRebaseForgetsEpochAndMembers(t *testing.T) {
	x := newFixture(t)
	x.apply(fsmtest.Begin(9, 1, 1), fsmtest.Member(1, "one"))
	if err := Rebase(t.Context(), x.engine, history.Identity{Cluster: "c"}, 0, false); err != nil {
		t.Fatal(err)
	}
	x.restart()
	if x.m.Epoch() != (command.Epoch{}) || len(x.m.Members()) != 0 {
		t.Errorf("epoch %+v, members %v", x.m.Epoch(), x.m.Members())
	}
	x.one(command.OK, fsmtest.Write(fsmtest.Put("a", "1")))
	if n := len(fsmtest.Dump(t, x.engine, storage.Data)); n != 1 {
		t.Errorf("%d keys", n)
	}
}

// A state that comes from another log continues above its own index.
func TestContinue(t *testing.T) {
	x := newFixture(t)
	x.apply(fsmtest.Begin(9, 1, 1), fsmtest.Member(1, "one"))
	res := x.one(command.OK, fsmtest.Fenced(1, fsmtest.As(fsmtest.Write(fsmtest.Put("a", "1")), 7, 1, 0)))
	id := x.m.Identity()
	if err := Continue(x.engine); err != nil {
		t.Fatal(err)
	}
	x.restart()
	if x.m.Base() != res.Index || x.m.Applied() != res.Index || x.m.Identity() != id || x.m.Epoch() != (command.Epoch{}) || len(x.m.Members()) != 0 {
		t.Errorf("base %d, applied %d, %+v, %+v, %v", x.m.Base(), x.m.Applied(), x.m.Identity(), x.m.Epoch(), x.m.Members())
	}
	if !x.changed(res.Index) {
		t.Error("its last change is not in the new log")
	}
	again := x.one(command.OK, fsmtest.As(fsmtest.Write(fsmtest.Put("a", "1")), 7, 1, 0))
	if again.Index != res.Index {
		t.Errorf("a repeat is applied at %d", again.Index)
	}
}

// A backup that was taken while a restore was in progress does not contain it.
func TestRebaseDropsStaged(t *testing.T) {
	x := newFixture(t)
	x.one(command.OK, fsmtest.Write(fsmtest.Put("a", "1")))
	x.one(command.OK, command.Command{Kind: command.BeginRestore, Expect: []byte("id")})
	x.one(command.OK, fsmtest.Stage(fsmtest.Put("b", "1")))
	if err := Rebase(t.Context(), x.engine, history.Identity{Cluster: "c"}, 10, false); err != nil {
		t.Fatal(err)
	}
	x.restart()
	staged := 0
	for _, p := range fsmtest.Dump(t, x.engine, storage.Meta) {
		if strings.HasPrefix(p.Key, string(layout.PrefixStaged)) {
			staged++
		}
	}
	if x.m.Restoring() || staged != 0 {
		t.Errorf("restoring %v, %d staged", x.m.Restoring(), staged)
	}
	x.one(command.OK, fsmtest.Write(fsmtest.Put("a", "2")))
}
