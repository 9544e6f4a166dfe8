package rowcache_test

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/rowcache"
)

func newCache(t testing.TB, size int64) *rowcache.Cache {
	t.Helper()
	c, err := rowcache.New(size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// keep makes a row, as a read does that the cache cannot answer.
func keep(r *rowcache.Rows, key, value string) {
	_, miss := r.Get([]byte(key))
	r.Add([]byte(key), []byte(value), miss)
}

func want(t *testing.T, r *rowcache.Rows, key, value string) {
	t.Helper()
	if got, _ := r.Get([]byte(key)); string(got) != value {
		t.Errorf("%q has a row of %q instead of %q", key, got, value)
	}
}

// write runs a write from its announcement to its end.
func write(t *testing.T, r *rowcache.Rows, fill func(*storage.Batch)) {
	t.Helper()
	var b storage.Batch
	fill(&b)
	var w rowcache.Write
	if err := w.Begin(r, &b); err != nil {
		t.Error(err)
	}
	w.End()
}

func TestRowsAreKeptAndForgotten(t *testing.T) {
	r := newCache(t, rowcache.MinBytes).Rows()
	want(t, r, "k", "")
	keep(r, "k", "v")
	want(t, r, "k", "v")
	keep(r, "empty value", "")
	if got, _ := r.Get([]byte("empty value")); got == nil {
		t.Error("an empty value has no row")
	}
	keep(r, "", "empty key")
	want(t, r, "", "empty key")
	write(t, r, func(b *storage.Batch) { b.Put(storage.Meta, []byte("k"), []byte("elsewhere")) })
	want(t, r, "k", "v")
	write(t, r, func(b *storage.Batch) { b.Put(storage.Data, []byte("k"), []byte("w")) })
	want(t, r, "k", "")
	keep(r, "k", "w")
	write(t, r, func(b *storage.Batch) { b.Delete(storage.Data, []byte("k")) })
	want(t, r, "k", "")
	want(t, r, "", "empty key")
	write(t, r, func(b *storage.Batch) { b.DeleteRange(storage.Data, []byte("a"), []byte("b")) })
	want(t, r, "", "")
	keep(r, "", "again")
	want(t, r, "", "again")
	if hits, misses := r.Counts(); hits != 6 || misses != 9 {
		t.Errorf("counted %d hits and %d misses", hits, misses)
	}
}

func TestEnginesShareNoRow(t *testing.T) {
	c := newCache(t, rowcache.MinBytes)
	a, b := c.Rows(), c.Rows()
	keep(a, "k", "a")
	want(t, b, "k", "")
	keep(b, "k", "b")
	write(t, a, func(w *storage.Batch) { w.DeleteRange(storage.Data, []byte("a"), []byte("z")) })
	want(t, a, "k", "")
	want(t, b, "k", "b")
	want(t, c.Rows(), "k", "") // an engine that is opened again
}

// TestWhatIsUsedStays reads one key again and again while others pass through a full cache.
func TestWhatIsUsedStays(t *testing.T) {
	c := newCache(t, rowcache.MinBytes)
	r := c.Rows()
	value := string(make([]byte, 1000))
	keep(r, "used", value)
	for i := range 20_000 {
		keep(r, fmt.Sprint("passes ", i), value)
		want(t, r, "used", value)
	}
	if n := c.Bytes(); n > rowcache.MinBytes || n < rowcache.MinBytes/2 {
		t.Errorf("a full cache of %d bytes holds %d", rowcache.MinBytes, n)
	}
	found := 0
	for i := range 20_000 {
		if v, _ := r.Get(fmt.Append(nil, "passes ", i)); v != nil {
			found++
			if i < 10_000 {
				t.Fatalf("row %d of 20000 is still there, in a cache of 1000", i)
			}
		}
	}
	if found < 500 {
		t.Errorf("%d rows of 1000 B are left in a cache of %d", found, rowcache.MinBytes)
	}
}

func TestLargeRowsAreNotKept(t *testing.T) {
	r := newCache(t, 64<<20).Rows()
	keep(r, "large", string(make([]byte, 20<<10)))
	want(t, r, "large", "")
	kept := string(bytes.Repeat([]byte("x"), 12<<10))
	keep(r, "not so large", kept)
	want(t, r, "not so large", kept)
}

func TestLeastSize(t *testing.T) {
	for _, size := range []int64{-1, 0, rowcache.MinBytes - 1} {
		if _, err := rowcache.New(size); err == nil {
			t.Errorf("a cache of %d bytes was made", size)
		}
	}
	// Sizes that nothing divides.
	for _, size := range []int64{rowcache.MinBytes + 1, 3<<20 + 12345, 100_000_007} {
		c := newCache(t, size)
		r := c.Rows()
		for i := range 5000 {
			keep(r, fmt.Sprint(i), fmt.Sprint("value ", i))
			want(t, r, fmt.Sprint(i), fmt.Sprint("value ", i))
		}
		if n := c.Bytes(); n > uint64(size) {
			t.Errorf("a cache of %d bytes holds %d", size, n)
		}
	}
}

// TestBeginOfABatchThatIsDamaged ends a write of which only the first key was announced.
func TestBeginOfABatchThatIsDamaged(t *testing.T) {
	r := newCache(t, rowcache.MinBytes).Rows()
	var b storage.Batch
	b.Put(storage.Data, []byte("k"), []byte("v"))
	b.Put(storage.Data, []byte("l"), []byte("v"))
	rep := b.Rep()
	rep[len(rep)-4] = 100 // the key is said to be longer than the batch
	var w rowcache.Write
	if err := w.Begin(r, &b); err == nil {
		t.Fatal("a damaged batch was taken")
	}
	w.End()
	keep(r, "k", "v")
	want(t, r, "k", "v")
}

// TestConcurrentReadersSeeNothingOld has readers hold each row against the number that was
// acknowledged before they asked, and against what they have seen before.
func TestConcurrentReadersSeeNothingOld(t *testing.T) {
	const keys, rounds = 8, 3000
	c := newCache(t, rowcache.MinBytes)
	r := c.Rows()
	var shown, acknowledged [keys]atomic.Uint64
	var done atomic.Bool
	var readers, writers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			var seen [keys]uint64
			for i := 0; !done.Load(); i++ {
				k := i % keys
				key, least := []byte{byte(k)}, acknowledged[k].Load()
				value, miss := r.Get(key)
				n := shown[k].Load()
				if value == nil {
					r.Add(key, fmt.Append(nil, n), miss)
				} else if _, err := fmt.Sscan(string(value), &n); err != nil {
					t.Error(err)
					return
				}
				if n < least || n < seen[k] {
					t.Errorf("key %d: read %d after %d was acknowledged and %d was seen", k, n, least, seen[k])
					return
				}
				seen[k] = n
			}
		})
	}
	for k := range keys {
		writers.Go(func() {
			for n := range uint64(rounds) {
				var b storage.Batch
				if n%50 == 0 {
					b.DeleteRange(storage.Data, []byte{byte(k)}, []byte{byte(k + 1)})
				} else {
					b.Put(storage.Data, []byte{byte(k)}, nil)
				}
				var w rowcache.Write
				if err := w.Begin(r, &b); err != nil {
					t.Error(err)
				}
				shown[k].Store(n)
				w.End()
				acknowledged[k].Store(n)
			}
		})
	}
	writers.Wait()
	done.Store(true)
	readers.Wait()
	if hits, _ := r.Counts(); hits == 0 {
		t.Error("no row was found")
	}
}

func BenchmarkGet(b *testing.B) {
	r := newCache(b, 64<<20).Rows()
	const keys = 100_000
	ask := make([][]byte, keys)
	for i := range ask {
		ask[i] = fmt.Appendf(nil, "key-%012d", i)
		_, miss := r.Get(ask[i])
		r.Add(ask[i], make([]byte, 128), miss)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := uint64(0); pb.Next(); i++ {
			r.Get(ask[i*0x9e3779b97f4a7c15>>32%keys])
		}
	})
	if hits, misses := r.Counts(); hits < 50*(misses-keys) {
		b.Errorf("%d hits and %d misses", hits, misses-keys)
	}
}

func BenchmarkWrite(b *testing.B) {
	r := newCache(b, 64<<20).Rows()
	var batch storage.Batch
	for i := range 100 {
		batch.Put(storage.Data, fmt.Appendf(nil, "key-%012d", i), make([]byte, 128))
	}
	b.ReportAllocs()
	for b.Loop() {
		var w rowcache.Write
		if err := w.Begin(r, &batch); err != nil {
			b.Fatal(err)
		}
		w.End()
	}
}
