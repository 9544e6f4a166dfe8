package enginetest

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/memory"
)

// loadFaults are ways to get storage.BulkLoader wrong.
type loadFaults struct {
	loadsOverData    bool // begins where something was written
	ignoresLoadOrder bool
	losesLoadedBatch bool // the last one
	losesLoadedSpace bool // all but Data
	loadGoesOn       bool // after an error, and after its end
	loadIgnoresClose bool
}

func loadFault(f loadFaults) faults { return faults{loadFaults: f} }

// BeginLoad makes broken a bulk loader: one that writes.
func (b *broken) BeginLoad() (storage.Load, error) {
	if b.used.Swap(true) && !b.loadsOverData {
		return nil, storage.ErrNotEmpty
	}
	return &brokenLoad{engine: b}, nil
}

type brokenLoad struct {
	engine *broken
	order  storage.LoadOrder
	err    error
}

func (l *brokenLoad) Add(b *storage.Batch) error {
	if l.engine.closed.Load() && !l.engine.loadIgnoresClose {
		return storage.ErrClosed
	}
	if l.err != nil && !l.engine.loadGoesOn {
		return l.err
	}
	if err := l.order.Check(b); err != nil && !l.engine.ignoresLoadOrder {
		l.err = err
		return err
	}
	if l.engine.loadIgnoresClose && l.engine.closed.Load() {
		return nil
	}
	return l.engine.Engine.Write(l.engine.spoilLoad(b), false)
}

func (b *broken) spoilLoad(batch *storage.Batch) *storage.Batch {
	var out storage.Batch
	_ = batch.Each(func(op storage.Op) error {
		lost := b.losesLoadedSpace && op.Space != storage.Data ||
			b.losesLoadedBatch && op.Space == storage.Meta
		if !lost {
			b.add(&out, op)
		}
		return nil
	})
	return &out
}

func (l *brokenLoad) Finish() error {
	if l.engine.closed.Load() && !l.engine.loadIgnoresClose {
		return storage.ErrClosed
	}
	if l.err != nil && !l.engine.loadGoesOn {
		return l.err
	}
	l.err = errors.New("the load is finished")
	return nil
}

// TestCheckAfterCrashedLoad gives the check of the crash test states that no sound
// engine is left in.
func TestCheckAfterCrashedLoad(t *testing.T) {
	fill := func(batches uint64, marked bool, spoil func(b *storage.Batch)) Engine {
		e, err := memory.Open(memory.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var b storage.Batch
		for n := range batches {
			for i := range crashLoadPairs {
				b.Put(storage.Data, keyOf(n, i), loadedValue(n, i))
			}
		}
		if marked {
			fillMarker(&b)
		}
		if spoil != nil {
			spoil(&b)
		}
		if err := e.Write(&b, true); err != nil {
			t.Fatal(err)
		}
		return e
	}
	const all, whole = crashLoadBatches, crashLoadBatches + 1
	for name, c := range map[string]struct {
		engine Engine
		acked  uint64
		want   string // what the failure says; "" for none
	}{
		"whole":                 {fill(all, true, nil), whole, ""},
		"whole before the ack":  {fill(all, true, nil), all, ""},
		"nothing":               {fill(0, false, nil), 5, ""},
		"a part that is none":   {fill(3, false, nil), 5, ""},
		"lost, acknowledged":    {fill(all, false, nil), whole, "does not count"},
		"a part that counts":    {fill(all-1, true, nil), all, "missing"},
		"a pair that is lost":   {fill(all, true, func(b *storage.Batch) { b.Delete(storage.Data, keyOf(3, 4)) }), whole, "missing"},
		"a value that is wrong": {fill(all, true, func(b *storage.Batch) { b.Put(storage.Data, keyOf(3, 4), nil) }), whole, "another"},
		"a pair too many":       {fill(all, true, func(b *storage.Batch) { b.Put(storage.Data, keyOf(all, 0), nil) }), whole, "behind"},
	} {
		f := Factory{Open: func(string) (Engine, error) { return c.engine, nil }}
		r := record(t, check{name, func(t T, f Factory) { checkAfterCrashedLoad(t, f, "", c.acked) }}, f)
		if r.Failed() != (c.want != "") || !strings.Contains(fmt.Sprint(r.failures), c.want) {
			t.Errorf("%s: failures %q, want one about %q", name, r.failures, c.want)
		}
	}
}
