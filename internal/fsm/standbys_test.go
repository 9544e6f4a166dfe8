package fsm

import (
	"errors"
	"testing"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm/layout"
	"github.com/dkvdb/dkv/internal/fsm/offline"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// wantStandbys fails unless the machine has a record, now and when it is opened again.
func (x *fixture) wantStandbys(want string, changed kv.Index) {
	x.Helper()
	for range 2 {
		if got, at := x.m.Standbys(); string(got) != want || at != changed {
			x.Fatalf("standbys %q of %d, want %q of %d", got, at, want, changed)
		}
		x.restart()
	}
}

// Of two changes of the standbys that were decided on at once the first counts, also within a
// batch, and beside a change of the timing.
func TestSetStandbysReplacesWhatItNames(t *testing.T) {
	x := newFixture(t)
	x.wantStandbys("", 0)
	first := x.one(command.OK, setStandbys("one", 0)).Index
	timed := x.one(command.OK, setTiming("t", 0)).Index
	x.wantStandbys("one", first)
	x.one(command.NotUpdated, setStandbys("two", 0))
	x.one(command.NotUpdated, setStandbys("two", timed))
	x.apply(setStandbys("two", first), setStandbys("three", first), write(put("a", "1")))
	second := x.m.Applied() - 2
	x.wantStandbys("two", second)
	x.wantTiming("t", timed)
	// An owner that was deposed changes nothing.
	late := setStandbys("four", second)
	late.Fence = 1
	x.one(command.Fenced, late)
	x.wantStandbys("two", second)
	if got := x.effects(second); len(got) != 0 {
		t.Errorf("effects %q", got)
	}
}

// The standbys are the log's: its owner waits for them after a restored keyspace too, and not
// in another log.
func TestStandbysOutlastARestore(t *testing.T) {
	x := newFixture(t)
	set := x.one(command.OK, setStandbys("one", 0)).Index
	other := newFixture(t)
	record, changed := x.m.Standbys()
	if err := offline.KeepStandbys(other.engine, record, changed); err != nil {
		t.Fatal(err)
	}
	other.restart()
	other.wantStandbys("one", set)
	x.restoreEmpty()
	x.wantStandbys("one", set)
	if err := offline.Continue(x.engine); err != nil {
		t.Fatal(err)
	}
	x.restart()
	x.wantStandbys("", 0)
}

func TestDamagedStandbys(t *testing.T) {
	x := newFixture(t)
	var b storage.Batch
	b.Put(storage.Meta, layout.KeyStandbys, []byte("8 bytes."))
	if err := x.engine.Write(&b, true); err != nil {
		t.Fatal(err)
	}
	if _, err := New(x.engine); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("opened: %v", err)
	}
}
