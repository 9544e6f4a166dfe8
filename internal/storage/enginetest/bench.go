package enginetest

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/dkvdb/dkv/internal/storage"
)

const (
	benchKeys  = 100_000
	benchValue = 128
)

// Bench measures the engine with keys of 16 bytes and values of 128, over
// 100 000 keys. Reads are of a compacted engine.
func Bench(b *testing.B, f Factory) {
	e := benchEngine(b, f)
	b.Run("GetHit", func(b *testing.B) { benchGet(b, e, "key-%012d", true) })
	b.Run("GetMiss", func(b *testing.B) { benchGet(b, e, "kez-%012d", false) })
	for _, n := range []int{10, 100} {
		b.Run(fmt.Sprintf("MultiGet%d", n), func(b *testing.B) { benchMultiGet(b, e, n) })
	}
	b.Run("Iterate", func(b *testing.B) { benchIterate(b, e, storage.Range{}) })
	b.Run("IterateKeysOnly", func(b *testing.B) { benchIterate(b, e, storage.Range{KeysOnly: true}) })
	b.Run("IterateReverse", func(b *testing.B) { benchIterate(b, e, storage.Range{Reverse: true}) })
	b.Run("Iterate10", func(b *testing.B) { benchShortScan(b, e) })
	b.Run("Put", func(b *testing.B) { benchPut(b, e, 1, false) })
	b.Run("PutSync", func(b *testing.B) { benchPut(b, e, 1, true) })
	b.Run("Put100", func(b *testing.B) { benchPut(b, e, 100, false) })
	b.Run("Put100Sync", func(b *testing.B) { benchPut(b, e, 100, true) })
}

// benchEngine opens and fills an engine.
func benchEngine(b *testing.B, f Factory) Engine {
	b.Helper()
	e, err := f.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := e.Close(); err != nil {
			b.Error(err)
		}
	})
	var batch storage.Batch
	for i := range benchKeys {
		batch.Put(storage.Data, fmt.Appendf(nil, "key-%012d", i), pattern(uint64(i), benchValue))
		if batch.Count() == 1000 {
			if err := e.Write(&batch, false); err != nil {
				b.Fatal(err)
			}
			batch.Reset()
		}
	}
	if err := e.Compact(); err != nil {
		b.Fatal(err)
	}
	return e
}

// benchKeyset draws keys ahead, so that formatting is not measured.
func benchKeyset(format string) [][]byte {
	rnd := rand.New(rand.NewPCG(1, 2))
	keys := make([][]byte, 4096)
	for i := range keys {
		keys[i] = fmt.Appendf(nil, format, rnd.IntN(benchKeys))
	}
	return keys
}

func benchGet(b *testing.B, e Engine, format string, want bool) {
	keys := benchKeyset(format)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, found, err := e.Get(storage.Data, keys[i%len(keys)]); err != nil || found != want {
			b.Fatalf("found=%v, %v", found, err)
		}
	}
}

func benchMultiGet(b *testing.B, e Engine, n int) {
	keys := benchKeyset("key-%012d")
	b.ReportAllocs()
	for i := 0; b.Loop(); i += n {
		at := i % (len(keys) - n)
		values, err := e.MultiGet(storage.Data, keys[at:at+n])
		if err != nil || values[n-1] == nil {
			b.Fatalf("%v, %v", values, err)
		}
	}
	b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "keys/s")
}

func benchIterate(b *testing.B, e Engine, rng storage.Range) {
	b.ReportAllocs()
	pairs, size := 0, 0
	for b.Loop() {
		it := e.Iterate(storage.Data, rng)
		for it.Next() {
			pairs++
			size += len(it.Key())
			if !rng.KeysOnly {
				size += len(it.Value())
			}
		}
		if err := it.Err(); err != nil || pairs < benchKeys {
			b.Fatalf("%d pairs, %v", pairs, err)
		}
		it.Close()
	}
	b.ReportMetric(float64(pairs)/b.Elapsed().Seconds(), "pairs/s")
	b.SetBytes(int64(size / b.N))
}

func benchShortScan(b *testing.B, e Engine) {
	keys := benchKeyset("key-%012d")
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		it := e.Iterate(storage.Data, storage.Range{Start: keys[i%len(keys)]})
		for n := 0; n < 10 && it.Next(); n++ {
		}
		if err := it.Err(); err != nil {
			b.Fatal(err)
		}
		it.Close()
	}
}

func benchPut(b *testing.B, e Engine, n int, sync bool) {
	keys := benchKeyset("put-%012d")
	value := pattern(1, benchValue)
	var batch storage.Batch
	b.ReportAllocs()
	for i := 0; b.Loop(); i += n {
		batch.Reset()
		for j := range n {
			batch.Put(storage.Data, keys[(i+j)%len(keys)], value)
		}
		if err := e.Write(&batch, sync); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "keys/s")
}
