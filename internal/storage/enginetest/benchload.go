package enginetest

import (
	"encoding/binary"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/storage"
)

const (
	// loadBytes is how much a load benchmark loads: several files' worth.
	loadBytes = 192 << 20
	// loadBatch is the size of its batches, that of a snapshot's chunks.
	loadBatch = 256 << 10
)

// BenchLoad measures how fast an empty engine is filled with sorted pairs, by
// Write and by storage.BulkLoader, with keys of 16 bytes and values that can be
// compressed to about a half. MB/s counts keys and values; cpu-s/GiB is the time
// of all processors, that which follows the load until the engine is closed too.
func BenchLoad(b *testing.B, f Factory) {
	for _, size := range []int{128, 1024} {
		for _, bulk := range []bool{false, true} {
			way := "write"
			if bulk {
				way = "bulk"
			}
			b.Run(fmt.Sprintf("value=%d/%s", size, way), func(b *testing.B) {
				b.SetBytes(loadBytes)
				var busy time.Duration
				for b.Loop() {
					busy += benchLoad(b, f, bulk, size)
				}
				b.ReportMetric(busy.Seconds()/(float64(b.N)*loadBytes/(1<<30)), "cpu-s/GiB")
			})
		}
	}
}

func benchLoad(b *testing.B, f Factory, bulk bool, size int) (busy time.Duration) {
	b.StopTimer()
	e, err := f.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	source := pattern(7, 1<<20)
	value := make([]byte, size)
	before := processorTime(b)
	b.StartTimer()
	add, finish := func(batch *storage.Batch) error { return e.Write(batch, false) }, e.Sync
	if bulk {
		loader, ok := e.(storage.BulkLoader)
		if !ok {
			b.Skip("the engine has no bulk load")
		}
		l, err := loader.BeginLoad()
		if err != nil {
			b.Fatal(err)
		}
		add, finish = l.Add, l.Finish
	}
	fail := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	var batch storage.Batch
	key := []byte("key-000000000000")
	for i := range loadBytes / (len(key) + size) {
		binary.BigEndian.PutUint64(key[8:], uint64(i))
		copy(value[:size/2], source[i*61%(len(source)-size):])
		batch.Put(storage.Data, key, value)
		if batch.Size() >= loadBatch {
			fail(add(&batch))
			batch.Reset()
		}
	}
	fail(add(&batch))
	fail(finish())
	b.StopTimer()
	fail(e.Close())
	busy = processorTime(b) - before
	b.StartTimer()
	return busy
}

// processorTime is how long the process has kept processors busy.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
