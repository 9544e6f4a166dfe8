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

// wantTiming fails unless the machine has a setting, now and when it is opened again.
func (x *fixture) wantTiming(want string, changed kv.Index) {
	x.Helper()
	for range 2 {
		if got, at := x.m.Timing(); string(got) != want || at != changed {
			x.Fatalf("timing %q of %d, want %q of %d", got, at, want, changed)
		}
		x.restart()
	}
}

// Of two changes of the timing that were decided on at once the first counts, also
// within a batch.
func TestSetTimingReplacesWhatItNames(t *testing.T) {
	x := newFixture(t)
	x.wantTiming("", 0)
	first := x.one(command.OK, setTiming("one", 0)).Index
	x.wantTiming("one", first)
	x.one(command.NotUpdated, setTiming("two", 0))
	x.one(command.NotUpdated, setTiming("two", first+1))
	x.wantTiming("one", first)
	x.apply(setTiming("two", first), setTiming("three", first), write(put("a", "1")))
	second := x.m.Applied() - 2
	x.wantTiming("two", second)
	// It concerns the log: a pause does not hold it up, nor does it show in the changes.
	x.one(command.OK, pause(true))
	res := x.one(command.OK, setTiming("four", second))
	if got := x.effects(res.Index); len(got) != 0 {
		t.Errorf("effects %q", got)
	}
	// An owner that was deposed changes nothing.
	late := setTiming("five", res.Index)
	late.Fence = 1
	x.one(command.Fenced, late)
	x.wantTiming("four", res.Index)
}

// The timing is the log's: it outlasts a restored keyspace, and not a log.
func TestTimingOutlastsARestore(t *testing.T) {
	x := newFixture(t)
	set := x.one(command.OK, setTiming("one", 0)).Index
	x.restoreEmpty()
	x.wantTiming("one", set)
	if err := offline.Continue(x.engine); err != nil {
		t.Fatal(err)
	}
	x.restart()
	x.wantTiming("", 0)
}

func TestDamagedTiming(t *testing.T) {
	x := newFixture(t)
	var b storage.Batch
	b.Put(storage.Meta, layout.KeyTiming, []byte("8 bytes."))
	if err := x.engine.Write(&b, true); err != nil {
		t.Fatal(err)
	}
	if _, err := New(x.engine); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("opened: %v", err)
	}
}
