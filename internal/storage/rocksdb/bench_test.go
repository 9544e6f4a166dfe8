package rocksdb

import (
	"fmt"
	"testing"

	"github.com/linxGnu/grocksdb"

	"github.com/dkvdb/dkv/internal/storage"
)

const benchPairs = 100_000

// benchEngine is an engine with benchPairs compacted pairs of a 16 byte key and
// a 128 byte value.
func benchEngine(b *testing.B) (*Engine, [][]byte) {
	e := open(b, Options{Dir: b.TempDir()})
	keys := make([][]byte, benchPairs)
	var batch storage.Batch
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "key-%012d", i)
		batch.Put(storage.Data, keys[i], fmt.Appendf(nil, "%0128d", i*i))
	}
	if err := e.Write(&batch, false); err != nil {
		b.Fatal(err)
	}
	if err := e.Compact(); err != nil {
		b.Fatal(err)
	}
	return e, keys
}

// BenchmarkGet compares the shim with the binding's calls for the same.
func BenchmarkGet(b *testing.B) {
	e, keys := benchEngine(b)
	b.Run("shim", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, found, err := e.Get(storage.Data, keys[i*7919%benchPairs]); err != nil || !found {
				b.Fatal(found, err)
			}
		}
	})
	b.Run("binding", func(b *testing.B) {
		db, _ := openBinding(b, e)
		o := grocksdb.NewDefaultReadOptions()
		defer o.Destroy()
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			v, err := db.GetPinned(o, keys[i*7919%benchPairs])
			if err != nil || !v.Exists() {
				b.Fatal(err)
			}
			_ = append([]byte(nil), v.Data()...)
			v.Destroy()
		}
	})
}

// BenchmarkIterate compares the walk in blocks with the binding's calls.
func BenchmarkIterate(b *testing.B) {
	e, _ := benchEngine(b)
	rate := func(b *testing.B) {
		b.ReportMetric(float64(benchPairs)*float64(b.N)/b.Elapsed().Seconds(), "pairs/s")
	}
	b.Run("shim", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			it, n, size := e.Iterate(storage.Data, storage.Range{}), 0, 0
			for ; it.Next(); n++ {
				size += len(it.Key()) + len(it.Value())
			}
			it.Close()
			if n != benchPairs || size != n*144 {
				b.Fatal(n, size, it.Err())
			}
		}
		rate(b)
	})
	b.Run("binding", func(b *testing.B) {
		db, _ := openBinding(b, e)
		o := grocksdb.NewDefaultReadOptions()
		defer o.Destroy()
		b.ReportAllocs()
		for b.Loop() {
			it, n, size := db.NewIterator(o), 0, 0
			for it.SeekToFirst(); it.Valid(); it.Next() {
				k, v := it.Key(), it.Value()
				size += k.Size() + v.Size()
				k.Free()
				v.Free()
				n++
			}
			it.Close()
			if n != benchPairs || size != n*144 {
				b.Fatal(n, size)
			}
		}
		rate(b)
	})
}

// BenchmarkPutSyncParallel shows RocksDB's own group commit: many writers share
// an fsync.
func BenchmarkPutSyncParallel(b *testing.B) {
	e := open(b, Options{Dir: b.TempDir()})
	value := make([]byte, 128)
	b.SetParallelism(16)
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		var batch storage.Batch
		for i := 0; p.Next(); i++ {
			batch.Reset()
			batch.Put(storage.Data, fmt.Appendf(nil, "key-%012d", i%benchPairs), value)
			if err := e.Write(&batch, true); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkOpen is a clean restart with a log to read and to replay.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	e, err := Open(Options{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	var batch storage.Batch
	for i := range benchPairs {
		batch.Put(storage.Data, fmt.Appendf(nil, "key-%012d", i), make([]byte, 128))
		if batch.Count() == 100 {
			if err := e.Write(&batch, false); err != nil {
				b.Fatal(err)
			}
			batch.Reset()
		}
	}
	source := image(b, dir)
	if err := e.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		b.StopTimer()
		copied := image(b, source)
		b.StartTimer()
		e, err := Open(Options{Dir: copied})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := e.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkReadLogs is what Open adds for checking the log.
func BenchmarkReadLogs(b *testing.B) {
	e := open(b, Options{Dir: b.TempDir()})
	var batch storage.Batch
	for i := range 200 {
		batch.Reset()
		for j := range 100 {
			batch.Put(storage.Data, fmt.Appendf(nil, "key-%012d", i*100+j), make([]byte, 500))
		}
		if err := e.Write(&batch, false); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(logBytes(e.dir)))
	for b.Loop() {
		if state, err := readLogs(e.dir); err != nil || state.damage != "" {
			b.Fatal(state, err)
		}
	}
}
