package enginetest

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/dkvdb/dkv/internal/storage"
)

func loadChecks() []check {
	return []check{
		{"Load", checkLoad},
		{"LoadOfNothing", checkLoadOfNothing},
		{"LoadOrder", checkLoadOrder},
		{"LoadNeedsAnEmptyEngine", checkLoadNotEmpty},
		{"LoadCutShort", checkLoadCutShort},
	}
}

// bulk opens an empty engine that has a bulk load, or skips the check.
func bulk(t T, f Factory) *fixture {
	t.Helper()
	x := open(t, f)
	if _, ok := x.engine.(storage.BulkLoader); !ok {
		t.Skip("the engine has no bulk load")
	}
	return x
}

func (x *fixture) beginLoad() storage.Load {
	x.Helper()
	l, err := x.engine.(storage.BulkLoader).BeginLoad()
	if err != nil {
		x.Fatalf("BeginLoad: %v", err)
	}
	return l
}

// loadedPairs are pairs of several spaces in their order, with keys and values of
// all kinds.
func loadedPairs() []storage.Op {
	var all []storage.Op
	add := func(s storage.Space, key string, value []byte) {
		all = append(all, storage.Op{Space: s, Key: []byte(key), Value: value})
	}
	large := func(seed uint64) []byte { return pattern(seed, 1<<20+int(seed)) }
	add(storage.Data, "\x00", []byte("v"))
	add(storage.Data, "\x00\x00", nil)
	for i := range 3000 {
		add(storage.Data, fmt.Sprintf("k%05d", i), pattern(uint64(i), i%300))
	}
	// Large values, last of all of keys that are each other's beginning.
	for i, key := range []string{"l", "m", "m\x00", "m\x00\x00\x00\x00", "m\x00\x00\x00\x00\x01", "n"} {
		add(storage.Data, key, large(uint64(i)))
	}
	add(storage.Data, "o", []byte("behind the large ones"))
	add(storage.Data, "\xff\xff", []byte("last"))
	for i := range 500 {
		add(storage.Expiry, fmt.Sprintf("%08d", i), nil)
	}
	add(storage.Meta, "a", []byte("first of meta"))
	add(storage.Meta, "l", large(9))
	return all
}

// inBatches calls yield for batches of some of the pairs after the other.
func inBatches(pairs []storage.Op, yield func(b *storage.Batch) error) error {
	var b storage.Batch
	for i, p := range pairs {
		b.Put(p.Space, p.Key, p.Value)
		if b.Count() < 1+i%700 && b.Size() < 1<<20 {
			continue
		}
		if err := yield(&b); err != nil {
			return err
		}
		b.Reset()
	}
	return yield(&b)
}

// checkLoad loads pairs, and compares the engine with one that they were written to:
// at once, changed, opened again, and as a checkpoint.
func checkLoad(t T, f Factory) {
	x, want := bulk(t, f), open(t, f)
	pairs := loadedPairs()
	l := x.beginLoad()
	if err := inBatches(pairs, l.Add); err != nil {
		t.Fatalf("Add: %v", err)
	}
	if err := l.Finish(); err != nil {
		t.Fatalf("Finish: %v", err)
	}
	if err := inBatches(pairs, func(b *storage.Batch) error { return want.engine.Write(b, false) }); err != nil {
		t.Fatalf("Write: %v", err)
	}
	x.wantSame("loaded", x.engine, want.engine)
	x.wantGet(x.engine, storage.Data, "k00007", string(pattern(7, 7)))
	x.wantAbsent(x.engine, storage.Data, "k")
	var b storage.Batch
	b.Put(storage.Data, []byte("k00000"), []byte("changed"))
	b.Put(storage.Data, []byte("m"), []byte("small now"))
	b.Put(storage.Changelog, []byte("new"), []byte("v"))
	b.Delete(storage.Data, []byte("l"))
	b.Delete(storage.Meta, []byte("a"))
	b.DeleteRange(storage.Data, []byte("k00100"), []byte("k00200"))
	for _, e := range []Engine{x.engine, want.engine} {
		if err := e.Write(&b, true); err != nil {
			t.Fatalf("Write after a load: %v", err)
		}
	}
	x.wantSame("loaded and changed", x.engine, want.engine)
	if f.Durable {
		x.reopen()
		x.wantSame("opened again", x.engine, want.engine)
	}
	dir := filepath.Join(t.TempDir(), "checkpoint")
	if err := x.engine.Checkpoint(dir); err != nil {
		t.Fatalf("Checkpoint: %v", err)
	}
	x.wantSame("the checkpoint", x.openCheckpoint(dir), want.engine)
	if err := x.engine.Compact(); err != nil {
		t.Fatalf("Compact: %v", err)
	}
	x.wantSame("compacted", x.engine, want.engine)
}

func checkLoadOfNothing(t T, f Factory) {
	x := bulk(t, f)
	l := x.beginLoad()
	if err := l.Add(new(storage.Batch)); err != nil {
		t.Fatalf("Add of an empty batch: %v", err)
	}
	if err := l.Finish(); err != nil {
		t.Fatalf("Finish: %v", err)
	}
	var b storage.Batch
	b.Put(storage.Data, []byte("k"), []byte("v"))
	if l.Add(&b) == nil || l.Finish() == nil {
		t.Error("a finished load takes more data")
	}
	x.put(storage.Data, "k", "w")
	x.wantWalk(x.engine, storage.Data, storage.Range{}, []pair{{"k", "w"}})
}

// checkLoadOrder adds two batches, of which the second is wrong.
func checkLoadOrder(t T, f Factory) {
	put := func(s storage.Space, keys ...string) func(*storage.Batch) {
		return func(b *storage.Batch) {
			for _, key := range keys {
				b.Put(s, []byte(key), []byte("v"))
			}
		}
	}
	bulk(t, f)
	for name, second := range map[string]func(*storage.Batch){
		"the same key":            put(storage.Expiry, "m"),
		"a lower key":             put(storage.Expiry, "l"),
		"a beginning of the key":  put(storage.Expiry, ""),
		"a lower space":           put(storage.Data, "z"),
		"the same key in a batch": put(storage.Expiry, "n", "n"),
		"a lower key in a batch":  put(storage.Meta, "b", "a"),
		"a delete":                func(b *storage.Batch) { b.Delete(storage.Expiry, []byte("n")) },
		"a range delete":          func(b *storage.Batch) { b.DeleteRange(storage.Data, []byte("n"), []byte("o")) },
	} {
		x := open(t, f)
		l := x.beginLoad()
		var b storage.Batch
		put(storage.Data, "m", "n")(&b)
		put(storage.Expiry, "a", "m")(&b)
		if err := l.Add(&b); err != nil {
			t.Fatalf("Add: %v", err)
		}
		b.Reset()
		second(&b)
		if err := l.Add(&b); !errors.Is(err, storage.ErrUnordered) {
			t.Errorf("%s: %v, want ErrUnordered", name, err)
		}
		b.Reset()
		put(storage.Meta, "z")(&b)
		if l.Add(&b) == nil || l.Finish() == nil {
			t.Errorf("%s: the load continues after it", name)
		}
	}
}

func checkLoadNotEmpty(t T, f Factory) {
	x := bulk(t, f)
	x.put(storage.Meta, "k", "v")
	refused := func(what string) {
		t.Helper()
		if _, err := x.engine.(storage.BulkLoader).BeginLoad(); !errors.Is(err, storage.ErrNotEmpty) {
			t.Errorf("BeginLoad %s: %v, want ErrNotEmpty", what, err)
		}
	}
	refused("after a write")
	x.wantGet(x.engine, storage.Meta, "k", "v")
	x.put(storage.Meta, "l", "v")
	if f.Durable {
		x.reopen()
		refused("of what was written before it was opened")
	}
	x = open(t, f)
	l := x.beginLoad()
	if err := inBatches(loadedPairs()[:100], l.Add); err != nil {
		t.Fatalf("Add: %v", err)
	}
	if err := l.Finish(); err != nil {
		t.Fatalf("Finish: %v", err)
	}
	refused("after a load")
	if f.Durable {
		x.reopen()
		refused("of what was loaded before it was opened")
	}
	x.wantGet(x.engine, storage.Data, "\x00", "v")
}

// checkLoadCutShort closes an engine in the middle of a load.
func checkLoadCutShort(t T, f Factory) {
	x := bulk(t, f)
	l := x.beginLoad()
	if err := inBatches(loadedPairs(), l.Add); err != nil {
		t.Fatalf("Add: %v", err)
	}
	if err := x.engine.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	var b storage.Batch
	b.Put(storage.Meta, []byte("z"), nil)
	if err := l.Add(&b); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Add after Close: %v", err)
	}
	if err := l.Finish(); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Finish after Close: %v", err)
	}
}
