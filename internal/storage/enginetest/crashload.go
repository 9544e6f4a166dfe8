package enginetest

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/storage"
)

const (
	// crashLoadBatches is how many batches a load has, of crashLoadPairs pairs of
	// crashLoadValue bytes: together more than a table of any engine.
	crashLoadBatches = 40
	crashLoadPairs   = 8 // at most 10, for their numbers to be in order
	crashLoadValue   = 128 << 10
)

// crashLoads kills children in the middle of a load, or behind it.
func crashLoads(t *testing.T, f Factory, test string, rnd *rand.Rand) {
	bulk(t, f)
	for _, acks := range []int{rnd.IntN(crashLoadBatches), crashLoadBatches - 1, crashLoadBatches} {
		dir := t.TempDir()
		acked := crashOnce(t, test, dir, bulkLoad, acks)
		checkAfterCrashedLoad(t, f, dir, acked)
	}
}

// loadChild loads batches, writes what makes them count, and waits to be killed. It
// calls ack with the number of batches after each one, and with one more at the
// end.
func loadChild(loader storage.BulkLoader, e Engine, ack func(n uint64)) error {
	l, err := loader.BeginLoad()
	if err != nil {
		return err
	}
	var b storage.Batch
	for n := range uint64(crashLoadBatches) {
		b.Reset()
		for i := range crashLoadPairs {
			b.Put(storage.Data, keyOf(n, i), loadedValue(n, i))
		}
		if err := l.Add(&b); err != nil {
			return err
		}
		ack(n + 1)
	}
	if err := l.Finish(); err != nil {
		return err
	}
	b.Reset()
	fillMarker(&b)
	if err := e.Write(&b, true); err != nil {
		return err
	}
	ack(crashLoadBatches + 1)
	time.Sleep(time.Hour)
	return errors.New("the child was not killed")
}

func fillMarker(b *storage.Batch) { b.Put(storage.Meta, []byte("whole"), nil) }

func loadedValue(n uint64, i int) []byte {
	return bytes.Repeat(pattern(n*crashLoadPairs+uint64(i), 256), crashLoadValue/256)
}

// checkAfterCrashedLoad checks that the engine can be opened and, if what counts
// was written, that everything is there, as it must be if it was acknowledged.
func checkAfterCrashedLoad(t T, f Factory, dir string, acked uint64) {
	t.Helper()
	e, err := f.Open(dir)
	if err != nil {
		t.Fatalf("open after a crash: %v", err)
	}
	defer func() {
		if err := e.Close(); err != nil {
			t.Errorf("Close after a crash: %v", err)
		}
	}()
	_, whole, err := e.Get(storage.Meta, []byte("whole"))
	switch {
	case err != nil:
		t.Fatalf("after a crash: %v", err)
	case !whole && acked > crashLoadBatches:
		t.Fatal("the load was acknowledged, and does not count")
	case !whole:
		return
	}
	it := e.Iterate(storage.Data, storage.Range{})
	defer it.Close()
	for n := range uint64(crashLoadBatches) {
		for i := range crashLoadPairs {
			switch {
			case !it.Next():
				t.Fatalf("pair %d of batch %d is missing, as are all behind it (%v)", i, n, it.Err())
			case !bytes.Equal(it.Key(), keyOf(n, i)) || !bytes.Equal(it.Value(), loadedValue(n, i)):
				t.Fatalf("pair %d of batch %d is missing or another: %.40q", i, n, it.Key())
			}
		}
	}
	if it.Next() {
		t.Fatalf("there is %.40q behind the last pair", it.Key())
	}
}
