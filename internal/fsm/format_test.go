package fsm

import (
	"errors"
	"testing"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm/layout"
	"github.com/dkvdb/dkv/internal/fsm/offline"
	"github.com/dkvdb/dkv/internal/storage"
)

// wantFormat fails unless the machine has a format, now and when it is opened again.
func (x *fixture) wantFormat(want uint32) {
	x.Helper()
	for range 2 {
		if got := x.m.Format(); got != want {
			x.Fatalf("format %d, want %d", got, want)
		}
		x.restart()
	}
}

func TestSetFormat(t *testing.T) {
	x := newFixture(t)
	x.wantFormat(command.FirstFormat)
	x.one(command.OK, setFormat(3))
	x.wantFormat(3)
	x.one(command.OK, setFormat(2)) // it never falls
	x.wantFormat(3)
	x.apply(setFormat(7), setFormat(5), write(put("a", "1"))) // nor within a batch
	x.wantFormat(7)
	// It concerns the log: a pause does not hold it up, nor does it show in the changes.
	x.one(command.OK, pause(true))
	res := x.one(command.OK, setFormat(8))
	if got := x.effects(res.Index); len(got) != 0 {
		t.Errorf("effects %q", got)
	}
	x.wantFormat(8)
	// An owner that was deposed raises nothing.
	late := setFormat(9)
	late.Fence = 1
	x.one(command.Fenced, late)
	x.wantFormat(8)
}

// The format is the log's: it outlasts a restored keyspace, and not a log.
func TestFormatOutlastsARestore(t *testing.T) {
	x := newFixture(t)
	x.one(command.OK, setFormat(3))
	x.restoreEmpty()
	x.wantFormat(3)
	if err := offline.Continue(x.engine); err != nil {
		t.Fatal(err)
	}
	x.restart()
	x.wantFormat(command.FirstFormat)
}

func TestDamagedFormat(t *testing.T) {
	for _, record := range []string{"", "short", "\x00\x00\x00\x00\x00\x00\x00\x00", "\x01\x00\x00\x00\x00\x00\x00\x01"} {
		x := newFixture(t)
		var b storage.Batch
		b.Put(storage.Meta, layout.KeyFormat, []byte(record))
		if err := x.engine.Write(&b, true); err != nil {
			t.Fatal(err)
		}
		if _, err := New(x.engine); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%q: %v", record, err)
		}
	}
}
