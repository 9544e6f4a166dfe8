package fsm

import (
	"errors"
	"reflect"
	"testing"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/standby"
	"github.com/dkvdb/dkv/internal/storage"
)

// Whether a copy may go on by changes in a later history.
func TestLeads(t *testing.T) {
	promoted := []Former{{"a", 10}}
	twice := []Former{{"a", 10}, {"b", 1000}}
	for _, c := range []struct {
		history string
		at      kv.Index
		lineage []Former
		want    bool
	}{
		{"a", 9, promoted, true}, {"a", 10, promoted, true}, {"a", 11, promoted, false},
		{"x", 1, promoted, false}, {"", 0, promoted, false}, {"a", 1, nil, false},
		{"a", 10, twice, true}, {"b", 1000, twice, true}, {"b", 1001, twice, false},
		{"a", 5, []Former{{"a", 10}, {"b", 5}}, true},              // promoted before the first change of b
		{"a", 6, []Former{{"a", 10}, {"b", 5}}, false},             // which has not all of a
		{"a", 1, []Former{{"a", 0}}, false},                        // a restore
		{"a", 10, []Former{{"a", 10}, {"b", 0}}, false},            // and one after a promotion
		{"b", 10, []Former{{"a", 0}, {"b", 10}, {"c", 20}}, true},  // but not one before
		{"b", 10, []Former{{"b", 10}, {"c", 0}, {"d", 30}}, false}, // whatever follows it
	} {
		if got := Leads(c.history, c.at, c.lineage); got != c.want {
			t.Errorf("%s at %d leads to what follows %v: %v", c.history, c.at, c.lineage, got)
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
	if err := m.Adopt(to.History, []Former{{to.Former, to.End}}); !errors.Is(err, errInjected) || m.Identity().History != to.Former {
		t.Errorf("%v, history %s", err, m.Identity().History)
	}
}

func TestLineageRecord(t *testing.T) {
	x := newFixture(t)
	for record, want := range map[string][]Former{
		"a\nb": {{"a", 0}, {"b", 0}}, "a 7\nb\n1-c 1099511627776": {{"a", 7}, {"b", 0}, {"1-c", standby.Gap}},
	} {
		var b storage.Batch
		b.Put(storage.Meta, keyLineage, []byte(record))
		if err := x.engine.Write(&b, true); err != nil {
			t.Fatal(err)
		}
		x.restart()
		if got := x.m.Lineage(); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %v", record, got)
		}
		b.Reset()
		putLineage(&b, want)
		_ = b.Each(func(op storage.Op) error {
			if string(op.Value) != record {
				t.Errorf("written as %q, was %q", op.Value, record)
			}
			return nil
		})
	}
	for _, bad := range []string{"a ", "a x", "a 0", "a -1", "a 7 8"} {
		var b storage.Batch
		b.Put(storage.Meta, keyLineage, []byte(bad))
		if err := x.engine.Write(&b, true); err != nil {
			t.Fatal(err)
		}
		if _, err := New(x.engine); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
