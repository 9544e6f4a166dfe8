package fsm

import (
	"context"
	"slices"
	"testing"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm/offline"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

func wantSlaves(t *testing.T, m *Machine, want ...command.Slave) {
	t.Helper()
	listed, err := m.Slaves()
	got := make([]command.Slave, len(listed))
	for i := range listed {
		got[i] = listed[i].Slave
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("slaves %v, %v; want %v", got, err, want)
	}
}

// The list is part of the state: of restarts, of snapshots, whatever is paused.
func TestSlaves(t *testing.T) {
	x := newFixture(t)
	wantSlaves(t, x.m)
	before := hash(t, x.m)
	x.apply(setSlave("z", "a:1", true), setSlave("", "b:1", true), setSlave("z", "c:1", true), setSlave("z", "a:1", true))
	x.one(command.OK, pause(true))
	x.one(command.OK, setSlave("z", "c:1", false))
	x.one(command.OK, setSlave("nobody", "x:1", false))
	want := []command.Slave{{Zone: "", Address: "b:1"}, {Zone: "z", Address: "a:1"}}
	wantSlaves(t, x.m, want...)
	x.restart()
	wantSlaves(t, x.m, want...)
	wantSlaves(t, newMachine(t, copiedEngine(t, x.m)), want...)
	if after := hash(t, x.m); after.Sum != before.Sum {
		t.Error("the list counts as content")
	}
	if ch, err := x.m.Changes(1, 0, 1<<20); err != nil || len(ch.Changes) != 0 {
		t.Errorf("the list shows in the change stream: %v, %v", ch, err)
	}
}

// Only who owns the log may change the list.
func TestSlavesAreFenced(t *testing.T) {
	x := newFixture(t)
	x.one(command.OK, begin(9, 1, 1))
	x.one(command.Fenced, setSlave("z", "a:1", true))
	wantSlaves(t, x.m)
	x.one(command.OK, fenced(1, setSlave("z", "a:1", true)))
	wantSlaves(t, x.m, command.Slave{Zone: "z", Address: "a:1"})
}

// A restore replaces the keyspace, and no more.
func TestRestoresLeaveTheSlaves(t *testing.T) {
	x := newFixture(t)
	x.one(command.OK, setSlave("z", "a:1", true))
	want := command.Slave{Zone: "z", Address: "a:1"}
	x.one(command.OK, beginRestore)
	x.one(command.OK, stageOf(put("a", "new")))
	target := openMemory(t)
	if err := x.restored(context.Background(), Entry{Index: x.m.Applied() + 1, Command: new(endRestore(1, 1))}, target); err != nil {
		t.Fatal(err)
	}
	wantSlaves(t, newMachine(t, target), want)

	other := newFixture(t) // as it comes from a backup
	other.apply(setSlave("old", "gone:1", true), write(put("a", "1")))
	listed, err := x.m.Slaves()
	if err != nil {
		t.Fatal(err)
	}
	if err := offline.KeepSlaves(other.engine, listed); err != nil {
		t.Fatal(err)
	}
	other.restart()
	wantSlaves(t, other.m, want)
	other.expect("a", []byte("1"))
}

// What of the list is old can be told by the log's clock: each entry knows when it was
// put there last, on all replicas, through restarts and snapshots, also if no write has
// moved the clock since.
func TestSlavesKnowWhenTheyWereRenewed(t *testing.T) {
	x := newFixture(t)
	at := func(clock kv.Clock, c command.Command) command.Command {
		c.Clock = clock
		return c
	}
	x.apply(at(1000, setSlave("z", "a:1", true)), at(2000, setSlave("z", "b:1", true)), at(3000, setSlave("z", "a:1", true)))
	want := []ListedSlave{{Slave: command.Slave{Zone: "z", Address: "a:1"}, Renewed: 3000}, {Slave: command.Slave{Zone: "z", Address: "b:1"}, Renewed: 2000}}
	check := func(m *Machine) {
		t.Helper()
		if got, err := m.Slaves(); err != nil || !slices.Equal(got, want) {
			t.Errorf("%v, %v; want %v", got, err, want)
		}
	}
	check(x.m)
	x.restart()
	check(x.m)
	check(newMachine(t, copiedEngine(t, x.m)))

	var old storage.Batch // as a release wrote it that kept no times
	old.Put(storage.Meta, []byte("replica/z\x00a:1"))
	if err := x.engine.Write(&old, false); err != nil {
		t.Fatal(err)
	}
	want[0].Renewed = 0
	check(x.m)
}

func TestCorruptSlave(t *testing.T) {
	x := newFixture(t)
	var b storage.Batch
	b.Put(storage.Meta, []byte("replica/without a zone"))
	if err := x.engine.Write(&b, false); err != nil {
		t.Fatal(err)
	}
	if got, err := x.m.Slaves(); err == nil || x.m.Corruption() == nil {
		t.Errorf("%v, %v", got, err)
	}
}
