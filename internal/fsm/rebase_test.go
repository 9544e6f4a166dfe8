package fsm

import (
	"context"
	"errors"
	"testing"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

func TestInspect(t *testing.T) {
	if _, _, err := Inspect(openMemory(t)); !errors.Is(err, storage.ErrCorrupt) {
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
		x.apply(pause(true))
		x.apply(write(put("refused", "1")))
		x.apply(pause(false), write(put("last", "1")), pause(true))
		old := x.m
		data, expiry := dump(t, x.engine, storage.Data), dump(t, x.engine, storage.Expiry)
		if err := Rebase(x.engine, "the cluster", least, false); err != nil {
			t.Fatal(err)
		}
		x.restart()
		index := max(old.Applied(), least)
		switch {
		case x.m.Applied() != index:
			t.Errorf("index %d, want %d", x.m.Applied(), index)
		case x.m.Identity().Cluster != "the cluster" || x.m.Identity().History == old.Identity().History:
			t.Errorf("identity %+v, was %+v", x.m.Identity(), old.Identity())
		case x.m.Paused():
			t.Error("still paused")
		case x.m.ChangelogFloor() != index+1:
			t.Errorf("floor %d at %d", x.m.ChangelogFloor(), index)
		case x.m.Clock() != old.Clock():
			t.Error("the clock is another")
		case len(dump(t, x.engine, storage.Changelog)) != 0:
			t.Error("old changes are left")
		case !samePairs(dump(t, x.engine, storage.Data), data) || !samePairs(dump(t, x.engine, storage.Expiry), expiry):
			t.Error("the keyspace is another")
		}
		checkInvariants(t, x.m)
		// It continues: the change of a new request is the first.
		res := x.one(command.OK, as(write(put("a", "1")), 7, 13, 0))
		if got := x.effects(res.Index); res.Index != index+1 || len(got) != 1 {
			t.Errorf("result %+v, effects %q", res, got)
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
	first := x.one(command.OK, as(increment("n", 1), 7, 2, 1))
	if err := Rebase(x.engine, "c", 100, false); err != nil {
		t.Fatal(err)
	}
	x.restart()
	if again := x.one(command.OK, as(increment("n", 1), 7, 2, 1)); again != first {
		t.Errorf("a retry came to %+v, the first attempt to %+v", again, first)
	}
	x.one(command.StaleRequest, as(increment("n", 1), 7, 1, 0))
	x.expect("n", []byte(counter(1)))
}

// Those of the keyspace that is replaced are kept instead, unless there are none.
func TestKeepRequests(t *testing.T) {
	backup := newFixture(t)
	inBackup := backup.one(command.OK, as(increment("n", 1), 7, 1, 0))
	live, fresh := newFixture(t), newFixture(t)
	live.apply(write(put("a", "1")))
	inLive := live.one(command.OK, as(increment("n", 5), 8, 1, 0))
	for _, c := range []struct {
		replaced *fixture
		client   uint64
		first    command.Result
	}{{fresh, 7, inBackup}, {live, 8, inLive}} {
		if err := c.replaced.m.KeepRequests(context.Background(), backup.engine); err != nil {
			t.Fatal(err)
		}
		if err := Rebase(backup.engine, "c", live.m.Applied()+1, false); err != nil {
			t.Fatal(err)
		}
		backup.restart()
		delta := int64(1)
		if c.client == 8 {
			delta = 5
		}
		if again := backup.one(command.OK, as(increment("n", delta), c.client, 1, 0)); again != c.first {
			t.Errorf("a retry of client %d came to %+v, the first attempt to %+v", c.client, again, c.first)
		}
		if n := backup.m.Requests().Sessions; n != 1 {
			t.Errorf("%d clients are known", n)
		}
	}
	if err := live.m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := live.m.KeepRequests(context.Background(), backup.engine); !errors.Is(err, ErrClosed) {
		t.Errorf("of a closed machine: %v", err)
	}
}

// More than one batch of old changes goes.
func TestRebaseDropsMuch(t *testing.T) {
	x := newFixture(t)
	entries := make([]Entry, 2*trimStep+1)
	for i := range entries {
		c := write(put("a", "1"))
		entries[i] = Entry{Index: uint64(i) + 1, Command: &c}
	}
	if err := x.m.Apply(entries, make([]command.Result, len(entries)), false); err != nil {
		t.Fatal(err)
	}
	if err := Rebase(x.engine, "c", 0, false); err != nil {
		t.Fatal(err)
	}
	x.restart()
	if n := len(dump(t, x.engine, storage.Changelog)); n != 0 {
		t.Fatalf("%d changes are left", n)
	}
	if n := len(dump(t, x.engine, storage.Meta)); n != 4 {
		t.Fatalf("%d records in meta, want identity, state, floor and base", n)
	}
}

func TestRebaseReportsErrors(t *testing.T) {
	if err := Rebase(openMemory(t), "c", 0, false); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("an engine without state: %v", err)
	}
	for n := 1; n <= 3; n++ {
		x := filled(t)
		f := &faulty{Engine: x.engine, failWrite: n}
		if err := Rebase(f, "c", 0, false); !errors.Is(err, errInjected) {
			t.Errorf("write %d failed: %v", n, err)
		}
		// It may be repeated.
		if err := Rebase(f, "c", 0, false); err != nil {
			t.Errorf("after write %d failed: %v", n, err)
		}
	}
}
