package enginetest

import (
	"errors"
	"fmt"

	"github.com/dkvdb/dkv/internal/storage"
)

func batchChecks() []check {
	return []check{
		{"BatchOrder", checkBatchOrder},
		{"DeleteRange", checkDeleteRange},
		{"DeleteRangeOrder", checkDeleteRangeOrder},
		{"ManyOperationsInOneBatch", checkManyOperations},
		{"BatchReused", checkBatchReused},
		{"OversizedBatch", checkOversized},
	}
}

func checkBatchOrder(t T, f Factory) {
	x := open(t, f)
	x.put(storage.Data, "a", "old")
	x.write(func(b *storage.Batch) {
		b.Put(storage.Data, []byte("a"), []byte("1"))
		b.Put(storage.Data, []byte("a"), []byte("2"))
		b.Put(storage.Data, []byte("b"), []byte("1"))
		b.Delete(storage.Data, []byte("b"))
		b.Delete(storage.Data, []byte("c"))
		b.Put(storage.Data, []byte("c"), []byte("1"))
		b.Put(storage.Expiry, []byte("a"), []byte("other"))
		b.Delete(storage.Meta, []byte("a"))
		b.Put(storage.Data, []byte("last"), []byte("yes"))
	})
	x.wantWalk(x.engine, storage.Data, storage.Range{}, []pair{{"a", "2"}, {"c", "1"}, {"last", "yes"}})
	x.wantWalk(x.engine, storage.Expiry, storage.Range{}, []pair{{"a", "other"}})
}

func checkDeleteRange(t T, f Factory) {
	cases := []struct {
		start, end string
		want       string // the remaining keys
	}{
		{"c", "e", "abefg"},
		{"a", "a\x00", "bcdefg"},
		{"a", "h", ""},
		{"", "c", "cdefg"},
		{"c", "c", "abcdefg"},        // empty
		{"e", "c", "abcdefg"},        // inverted
		{"h", "z", "abcdefg"},        // behind the last
		{"c\x00", "d", "abcdefg"},    // between two keys
		{"b", "\xff\xff\xff", "a"},   // to the end
		{"bb", "ff", "abg"},          // neither end is a key
		{"", "\x00", "abcdefg"},      // before the first
		{"g", "g\x00\x00", "abcdef"}, // the last
	}
	for _, reopen := range []bool{false, true} {
		if reopen && !f.Durable {
			break
		}
		x := open(t, f)
		for _, c := range cases {
			x.write(func(b *storage.Batch) {
				b.DeleteRange(storage.Data, []byte("a"), []byte("z"))
				for _, k := range "abcdefg" {
					b.Put(storage.Data, []byte(string(k)), []byte("v"))
					b.Put(storage.Changelog, []byte(string(k)), []byte("v"))
				}
			})
			if reopen { // so that the keys are in a table
				x.reopen()
			}
			x.checkRangeDeleted(c.start, c.end, c.want)
		}
	}
}

// checkRangeDeleted deletes a range out of the keys a to g and checks that the
// keys of left remain.
func (x *fixture) checkRangeDeleted(start, end, left string) {
	x.Helper()
	x.write(func(b *storage.Batch) { b.DeleteRange(storage.Data, []byte(start), []byte(end)) })
	var want []pair
	for _, k := range left {
		want = append(want, pair{string(k), "v"})
	}
	diffPairs(x, fmt.Sprintf("after a range delete from %q to %q", start, end),
		x.walk(x.engine, storage.Data, storage.Range{}), want)
	for _, k := range "abcdefg" {
		if (storage.Range{Start: []byte(start), End: []byte(end)}).Contains([]byte(string(k))) {
			x.wantAbsent(x.engine, storage.Data, string(k))
		} else {
			x.wantGet(x.engine, storage.Data, string(k), "v")
		}
	}
	if got := len(x.walk(x.engine, storage.Changelog, storage.Range{})); got != 7 {
		x.Fatalf("another space lost keys to a range delete: %d of 7 left", got)
	}
}

// checkDeleteRangeOrder has a range delete between puts of the same batch: it
// removes what was put before it and nothing that was put after.
func checkDeleteRangeOrder(t T, f Factory) {
	x := open(t, f)
	x.put(storage.Data, "b", "old")
	x.put(storage.Data, "d", "old")
	x.put(storage.Data, "x", "old")
	x.write(func(b *storage.Batch) {
		b.Put(storage.Data, []byte("a"), []byte("before"))
		b.Put(storage.Data, []byte("c"), []byte("before"))
		b.Put(storage.Data, []byte("y"), []byte("before"))
		b.Put(storage.Meta, []byte("c"), []byte("other space"))
		b.DeleteRange(storage.Data, []byte("a"), []byte("e"))
		b.Put(storage.Data, []byte("b"), []byte("after"))
		b.Put(storage.Data, []byte("c"), []byte("after"))
		b.Delete(storage.Data, []byte("c"))
		b.DeleteRange(storage.Data, []byte("c"), []byte("d"))
	})
	x.wantWalk(x.engine, storage.Data, storage.Range{}, []pair{{"b", "after"}, {"x", "old"}, {"y", "before"}})
	x.wantWalk(x.engine, storage.Meta, storage.Range{}, []pair{{"c", "other space"}})
}

// checkManyOperations writes and range-deletes the largest batches that the
// layers above make.
func checkManyOperations(t T, f Factory) {
	x := open(t, f)
	const n = 50_000
	x.write(func(b *storage.Batch) {
		for i := range n {
			b.Put(storage.Changelog, fmt.Appendf(nil, "key%08d", i), fmt.Appendf(nil, "value%d", i))
		}
	})
	count := func() int {
		return len(x.walk(x.engine, storage.Changelog, storage.Range{KeysOnly: true}))
	}
	if got := count(); got != n {
		t.Fatalf("%d keys after a batch of %d puts", got, n)
	}
	x.write(func(b *storage.Batch) {
		b.DeleteRange(storage.Changelog, []byte("key"), fmt.Appendf(nil, "key%08d", n-10))
		b.Put(storage.Meta, []byte("trimmed"), []byte("yes"))
	})
	if got := count(); got != 10 {
		t.Fatalf("%d keys after a range delete that leaves 10", got)
	}
	x.wantGet(x.engine, storage.Changelog, fmt.Sprintf("key%08d", n-10), fmt.Sprintf("value%d", n-10))
	// The largest batch in bytes: a large value and its change record, and more.
	x.write(func(b *storage.Batch) {
		for i := range 10 {
			b.Put(storage.Data, fmt.Appendf(nil, "large%d", i), pattern(uint64(i), 1<<20))
		}
	})
	for i := range 10 {
		x.wantGet(x.engine, storage.Data, fmt.Sprintf("large%d", i), string(pattern(uint64(i), 1<<20)))
	}
}

func checkBatchReused(t T, f Factory) {
	x := open(t, f)
	var b storage.Batch
	for i := range 10 {
		b.Reset()
		b.Put(storage.Data, fmt.Appendf(nil, "k%d", i), fmt.Appendf(nil, "v%d", i))
		for range 2 { // writing a batch twice is the same as once
			if err := x.engine.Write(&b, false); err != nil {
				t.Fatalf("Write: %v", err)
			}
		}
	}
	var want []pair
	for i := range 10 {
		want = append(want, pair{fmt.Sprintf("k%d", i), fmt.Sprintf("v%d", i)})
	}
	x.wantWalk(x.engine, storage.Data, storage.Range{}, want)
}

// checkOversized writes a batch that an engine may refuse: then nothing of it
// is there, and the engine keeps working.
func checkOversized(t T, f Factory) {
	x := open(t, f)
	var b storage.Batch
	for i := range 300_000 {
		b.Put(storage.Data, fmt.Appendf(nil, "big%08d", i), pattern(uint64(i), 64))
	}
	switch err := x.engine.Write(&b, false); {
	case err == nil:
		if got := len(x.walk(x.engine, storage.Data, storage.Range{KeysOnly: true})); got != 300_000 {
			t.Fatalf("%d of 300000 keys of an accepted batch", got)
		}
	case errors.Is(err, storage.ErrTooLarge):
		x.wantWalk(x.engine, storage.Data, storage.Range{}, nil)
	default:
		t.Fatalf("Write of a batch of %d bytes: %v, want nil or ErrTooLarge", b.Size(), err)
	}
	x.put(storage.Data, "after", "v")
	x.wantGet(x.engine, storage.Data, "after", "v")
}
