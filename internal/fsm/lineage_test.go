package fsm

import (
	"errors"
	"reflect"
	"testing"

	"github.com/dkvdb/dkv/internal/fsm/history"
	"github.com/dkvdb/dkv/internal/standby"
)

// A state knows the histories whose place its own has taken, over restarts, snapshots and
// restores; the oldest are forgotten, and those of a backup are none of them.
func TestLineage(t *testing.T) {
	x := newFixture(t)
	var former []string
	for range history.MaxLineage + 2 {
		former = append(former, x.m.Identity().History)
		backup := newFixture(t)
		stranger := backup.m.Identity().History
		if err := backup.m.KeepLineage(backup.engine); err != nil {
			t.Fatal(err)
		}
		if err := Rebase(backup.engine, x.m.Identity().Cluster, x.m.Applied()+1, false); err != nil {
			t.Fatal(err)
		}
		if err := x.m.KeepLineage(backup.engine); err != nil {
			t.Fatal(err)
		}
		backup.restart()
		if x = backup; x.m.Succeeds(stranger) {
			t.Fatal("the history of a backup is taken for a former one")
		}
	}
	for _, m := range []*Machine{x.m, newMachine(t, copiedEngine(t, x.m))} {
		for i, h := range former {
			if got, want := m.Succeeds(h), i >= 2; got != want {
				t.Errorf("it succeeds history %d of %d: %v", i, len(former), got)
			}
		}
		if m.Succeeds(m.Identity().History) || len(m.Lineage()) != history.MaxLineage {
			t.Errorf("%d histories before its own", len(m.Lineage()))
		}
	}
}

// A copy at or below the end takes over the new history, durably, and its changes; one above,
// or of a history that is no part of it, stays what it is.
func TestAdopt(t *testing.T) {
	x, to := ended(t)
	behind := copiedState(t, x)
	for range 2 {
		behind.restart()
	}
	ahead := copiedState(t, x)
	if err := ahead.m.Replicate(nil, to.End+1, false); err != nil {
		t.Fatal(err)
	}
	fork(t, x.engine, to)
	x.restart()
	at := x.one(0, write(put("new", "1"))).Index
	lineage := x.m.Lineage()

	if err := ahead.m.Adopt(to.History, lineage); !errors.Is(err, ErrElsewhere) || ahead.m.Identity().History != to.Former {
		t.Errorf("above the end: %v", err)
	}
	if err := newFixture(t).m.Adopt(to.History, lineage); !errors.Is(err, ErrElsewhere) {
		t.Errorf("of another history: %v", err)
	}
	if err := x.m.Adopt(to.Former, nil); !errors.Is(err, ErrElsewhere) || x.m.Identity().History != to.History {
		t.Errorf("back to a former history: %v", err)
	}
	for range 2 {
		if err := behind.m.Adopt(to.History, lineage); err != nil {
			t.Fatal(err)
		}
		if got := behind.m.Identity(); got != x.m.Identity() || !reflect.DeepEqual(behind.m.Lineage(), lineage) {
			t.Errorf("identity %+v, lineage %v", got, behind.m.Lineage())
		}
		behind.restart()
	}
	changes, err := x.m.Changes(behind.m.Applied()+1, 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := behind.m.Replicate(changes.Changes, changes.Newest, false); err != nil {
		t.Fatal(err)
	}
	behind.expect("new", []byte("1"))
	if behind.m.Applied() != at || at != to.End+standby.Gap+1 || !behind.m.Lost(to.End+1) {
		t.Errorf("at %d, the master is at %d", behind.m.Applied(), at)
	}
}

// What storage did not take is not adopted.
func TestAdoptFails(t *testing.T) {
	x, to := ended(t)
	m := newMachine(t, &faulty{Engine: x.engine, failWrite: 1})
	if err := m.Adopt(to.History, []Former{{History: to.Former, End: to.End}}); !errors.Is(err, errInjected) || m.Identity().History != to.Former {
		t.Errorf("%v, history %s", err, m.Identity().History)
	}
}
