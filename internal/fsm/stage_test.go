package fsm

import (
	"context"
	"errors"
	"testing"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm/fsmtest"
	"github.com/dkvdb/dkv/internal/fsm/layout"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

func endRestore(pairs uint64, index kv.Index) command.Command {
	return command.Command{Kind: command.EndRestore, Expect: []byte("id"), Restored: &command.Restored{Pairs: pairs, Index: index, History: "new"}}
}

var (
	beginRestore = command.Command{Kind: command.BeginRestore, Expect: []byte("id")}
	sealRestore  = command.Command{Kind: command.SealRestore, Expect: []byte("id")}
	abortRestore = command.Command{Kind: command.AbortRestore, Expect: []byte("id")}
)

// stagedKeys counts what is laid aside in the engine.
func (x *fixture) stagedKeys() int {
	x.Helper()
	it := x.engine.Iterate(storage.Meta, storage.Prefix(layout.PrefixStaged))
	defer it.Close()
	n := 0
	for it.Next() {
		n++
	}
	return n
}

// restored builds what an EndRestore comes to.
func (x *fixture) restored(ctx context.Context, e Entry, target storage.Engine) error {
	x.Helper()
	v, err := x.m.View()
	if err != nil {
		return err
	}
	defer v.Close()
	staged, err := v.Unstage(ctx, target)
	if err != nil {
		return err
	}
	return x.m.Restored(ctx, e, target, staged)
}

// restoreEmpty replaces the state by a restore of an empty keyspace.
func (x *fixture) restoreEmpty() {
	x.Helper()
	x.one(command.OK, beginRestore)
	end := endRestore(0, 1)
	target := openMemory(x)
	if err := x.restored(context.Background(), Entry{Index: x.m.Applied() + 1, Command: &end}, target); err != nil {
		x.Fatalf("restore: %v", err)
	}
	x.engine = target
	x.restart()
}

// While pairs are staged nothing of them is seen, and mutations are refused.
func TestStaging(t *testing.T) {
	x := newFixture(t)
	x.one(command.OK, write(put("a", "old")))
	x.one(command.NotStaged, stageOf(put("a", "new")))
	x.one(command.OK, beginRestore)
	x.one(command.OK, stageOf(put("a", "new"), put("b", "new")))
	x.expect("a", []byte("old"))
	x.expect("b", nil)
	x.one(command.Restoring, write(put("a", "refused")))
	x.one(command.Restoring, increment("n", 1))
	x.one(command.Restoring, as(write(put("a", "refused")), 7, 1, 0))
	x.one(command.OK, pause(true))
	x.one(command.OK, pause(false))
	x.one(command.NotStaged, endRestore(3, 1))
	x.restart()
	if !x.m.Restoring() || x.stagedKeys() != 2 {
		t.Fatalf("after a restart: restoring %v, %d staged", x.m.Restoring(), x.stagedKeys())
	}
	// What is left of an earlier restore has no effect.
	for _, c := range []command.Command{stageOf(put("c", "late")), abortRestore, endRestore(2, 1)} {
		c.Expect = []byte("earlier")
		if x.m.Restores(&c) {
			t.Error("the end of another restore takes effect")
		}
		x.apply(c)
	}
	if x.stagedKeys() != 2 {
		t.Errorf("%d keys are staged", x.stagedKeys())
	}
	// The same request succeeds once the restore is over.
	x.one(command.OK, abortRestore)
	x.one(command.OK, as(write(put("a", "taken")), 7, 1, 0))
	x.expect("a", []byte("taken"))
	if x.m.Restoring() || x.stagedKeys() != 0 {
		t.Errorf("after the end: restoring %v, %d staged", x.m.Restoring(), x.stagedKeys())
	}
	x.one(command.NotStaged, endRestore(0, 1))
}

// What is sealed stays as it is until the restore ends.
func TestSealedRestore(t *testing.T) {
	x := newFixture(t)
	x.one(command.OK, write(put("a", "old")))
	x.one(command.NotStaged, sealRestore)
	x.one(command.OK, beginRestore)
	x.one(command.OK, stageOf(put("a", "new")))
	if _, sealed := x.m.Staged(); sealed {
		t.Error("it is sealed before it is")
	}
	other := sealRestore
	other.Expect = []byte("earlier")
	x.one(command.NotStaged, other)
	x.one(command.OK, sealRestore)
	x.one(command.OK, sealRestore)
	x.one(command.NotStaged, stageOf(put("b", "late")))
	x.restart()
	if id, sealed := x.m.Staged(); !sealed || string(id) != "id" || x.stagedKeys() != 1 {
		t.Errorf("after a restart: %q sealed %v, %d staged", id, sealed, x.stagedKeys())
	}
	x.one(command.NotStaged, stageOf(put("b", "late")))
	x.one(command.Restoring, write(put("a", "refused")))
	e := endRestore(1, 1)
	if !x.m.Restores(&e) {
		t.Error("it does not end")
	}
	target := openMemory(t)
	if err := x.restored(t.Context(), Entry{Index: x.m.Applied() + 1, Command: &e}, target); err != nil {
		t.Fatal(err)
	}
	m := newMachine(t, target)
	if _, sealed := m.Staged(); sealed || m.Restoring() {
		t.Error("the restored state is one in the middle of a restore")
	}
	x.one(command.OK, abortRestore)
	x.one(command.OK, beginRestore)
	x.one(command.OK, stageOf(put("b", "2")))
}

// What was built must be what was staged.
func TestRestoredCountsPairs(t *testing.T) {
	x := newFixture(t)
	x.one(command.OK, beginRestore)
	x.one(command.OK, stageOf(put("a", "new")))
	e := endRestore(1, 1)
	err := x.m.Restored(t.Context(), Entry{Index: x.m.Applied() + 1, Command: &e}, openMemory(t), Unstaged{})
	if !errors.Is(err, storage.ErrCorrupt) {
		t.Error(err)
	}
}

// A clock that is set gives the epoch another id, so a restore could not continue, nor be
// aborted.
func TestStagedIsDroppedByASetClock(t *testing.T) {
	x := newFixture(t)
	e := x.one(command.OK, begin(1, 1, 1))
	x.one(command.OK, fenced(e.Index, beginRestore))
	x.one(command.OK, fenced(e.Index, stageOf(put("a", "new"))))
	set := x.one(command.OK, fenced(e.Index, setClock(x.clock)))
	x.one(command.Fenced, fenced(e.Index, abortRestore))
	x.one(command.OK, fenced(set.Index, write(put("a", "taken"))))
	if x.m.Restoring() || x.stagedKeys() != 0 {
		t.Errorf("restoring %v, %d staged", x.m.Restoring(), x.stagedKeys())
	}
}

// A restore belongs to the epoch that it was begun in.
func TestStagedIsDroppedByAnEpoch(t *testing.T) {
	x := newFixture(t)
	first := x.one(command.OK, begin(1, 1, 1))
	x.one(command.OK, fenced(first.Index, beginRestore))
	x.one(command.OK, fenced(first.Index, stageOf(put("a", "new"))))
	x.one(command.Fenced, begin(1, 2, 2))
	if !x.m.Restoring() {
		t.Error("a refused epoch has ended the restore")
	}
	second := x.one(command.OK, begin(2, 2, 2))
	x.one(command.Fenced, fenced(first.Index, stageOf(put("b", "late"))))
	x.one(command.OK, fenced(second.Index, write(put("a", "1"))))
	if x.m.Restoring() || x.stagedKeys() != 0 {
		t.Errorf("restoring %v, %d staged", x.m.Restoring(), x.stagedKeys())
	}
}

func TestRestored(t *testing.T) {
	for _, c := range []struct {
		name  string
		index kv.Index // of the state that was backed up
	}{{"from behind", 3}, {"from ahead", 1000}} {
		t.Run(c.name, func(t *testing.T) {
			x := newFixture(t)
			x.one(command.OK, write(put("gone", "v")))
			owner := x.one(command.OK, begin(1, 1, 1))
			x.one(command.OK, member(1, "there"))
			first := x.one(command.OK, fenced(owner.Index, as(increment("n", 1), 7, 2, 1)))
			x.one(command.OK, fenced(owner.Index, beginRestore))
			expiring := put("e", "v")
			expiring.ExpireTS = 4_000_000_000
			x.one(command.OK, fenced(owner.Index, stageOf(put("a", "1"), expiring)))
			x.one(command.OK, fenced(owner.Index, stageOf(put("b", ""))))
			e := endRestore(3, c.index)
			e.Fence, e.Clock = owner.Index, x.clock
			late := e
			late.Fence++
			if !x.m.Restores(&e) || x.m.Restores(&late) {
				t.Fatal("the end of the restore is not told from one that has no effect")
			}
			at := x.m.Applied() + 1
			target := openMemory(t)
			if err := x.restored(context.Background(), Entry{Index: at, Command: &e}, target); err != nil {
				t.Fatal(err)
			}
			x.expect("gone", []byte("v")) // the present state is left alone
			m, err := NewReplica(target)
			if err != nil {
				t.Fatal(err)
			}
			y := &fixture{failer: t, engine: target, m: m, clock: x.clock}
			want := max(at, c.index+1)
			if m.Applied() != want || m.ChangelogFloor() != want+1 || m.Applied()-m.Base() != at-x.m.Base() {
				t.Errorf("applied %d, floor %d, base %d; the entry was %d", m.Applied(), m.ChangelogFloor(), m.Base(), at)
			}
			if got := m.Identity(); got.Cluster != x.m.Identity().Cluster || got.History != "new" {
				t.Errorf("identity %+v", got)
			}
			if !m.Succeeds(x.m.Identity().History) || m.Succeeds("new") || m.Succeeds("") {
				t.Errorf("lineage %+v", m.Lineage())
			}
			if m.Epoch() != x.m.Epoch() || string(m.Members()[1]) != "there" || m.Restoring() {
				t.Errorf("epoch %+v, members %v, restoring %v", m.Epoch(), m.Members(), m.Restoring())
			}
			y.expect("gone", nil)
			y.expect("a", []byte("1"))
			y.expect("b", []byte(""))
			if got := y.expireTS("e"); got != expiring.ExpireTS {
				t.Errorf("e expires at %d", got)
			}
			if again := y.one(command.OK, fenced(owner.Index, as(increment("n", 1), 7, 2, 1))); again != first {
				t.Errorf("a retry of what was acknowledged before came to %+v, the first attempt to %+v", again, first)
			}
			y.one(command.StaleRequest, fenced(owner.Index, as(increment("n", 1), 7, 1, 0)))
			y.expect("n", nil)
			y.one(command.OK, fenced(owner.Index, write(put("a", "2"))))
			due, _, err := m.Expiring(kv.Clock(1<<62), 10)
			if err != nil || len(due) != 1 || string(due[0].Key) != "e" {
				t.Errorf("due %v, %v", due, err)
			}
		})
	}
}

// A restore fills its target likewise: the pairs by a load, their expiry behind it.
func TestRestoredUsesBulkLoad(t *testing.T) {
	x := newFixture(t)
	owner := x.one(command.OK, begin(1, 1, 1))
	x.one(command.OK, fenced(owner.Index, beginRestore))
	x.one(command.OK, fenced(owner.Index, stageOf(putUntil("b", "2", 100), put("a", "1"), putUntil("c", "3", 50))))
	end := endRestore(3, 7)
	end.Fence, end.Clock = owner.Index, x.clock
	restore := func(ctx context.Context, target storage.Engine) error {
		return x.restored(ctx, Entry{Index: x.m.Applied() + 1, Command: &end}, target)
	}
	bulk, plain := fsmtest.OpenBulky(t), openMemory(t)
	for _, target := range []storage.Engine{bulk, plain} {
		if err := restore(context.Background(), target); err != nil {
			t.Fatal(err)
		}
		checkInvariants(t, mustReplica(t, target))
	}
	if !sameSpaces(replicated(t, bulk), replicated(t, plain)) || bulk.Finished != 1 {
		t.Errorf("restored by %d loads, another state than by writes", bulk.Finished)
	}
	for name, e := range map[string]*fsmtest.Bulky{"begin": {FailBegin: 1}, "add": {FailAdd: 1}, "finish": {FailFinish: 1}} {
		e.Engine = openMemory(t)
		if err := restore(context.Background(), e); !errors.Is(err, errInjected) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := restore(ctx, fsmtest.OpenBulky(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func mustReplica(t *testing.T, e storage.Engine) *Machine {
	t.Helper()
	m, err := NewReplica(e)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
