package rocksdb

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/dkvdb/dkv/internal/storage"
)

// testOptions are small, so that tests reach sorted files and many of them
// fit beside each other.
func testOptions(dir string) Options {
	return Options{Dir: dir, BlockCacheBytes: 8 << 20, WriteBufferBytes: 4 << 20}
}

// open opens an engine that the test closes at its end.
func open(t testing.TB, o Options) *Engine {
	t.Helper()
	e, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return e
}

// write puts pairs of key and value into Data.
func write(t testing.TB, e *Engine, sync bool, pairs ...string) {
	t.Helper()
	var b storage.Batch
	for i := 0; i < len(pairs); i += 2 {
		b.Put(storage.Data, []byte(pairs[i]), []byte(pairs[i+1]))
	}
	if err := e.Write(&b, sync); err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, r storage.Reader, key string) string {
	t.Helper()
	v, found, err := r.Get(storage.Data, []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	if !found {
		return "(absent)"
	}
	return string(v)
}

// scan returns the pairs of a range as "key=value" strings.
func scan(t testing.TB, r storage.Reader, s storage.Space, rng storage.Range) []string {
	t.Helper()
	it := r.Iterate(s, rng)
	defer it.Close()
	var pairs []string
	for it.Next() {
		pairs = append(pairs, fmt.Sprintf("%s=%s", it.Key(), it.Value()))
	}
	if err := it.Err(); err != nil {
		t.Fatal(err)
	}
	return pairs
}

func TestValuesOfEverySize(t *testing.T) {
	e := open(t, testOptions(t.TempDir()))
	sizes := []int{0, 1, 15, inlineValue - 1, inlineValue, inlineValue + 1, smallBlock, mediumBlock, largeBlock, 4 << 20}
	var keys [][]byte
	for i, n := range sizes {
		key := bytes.Repeat([]byte{byte('a' + i)}, 1+i*100)
		keys = append(keys, key)
		var b storage.Batch
		b.Put(storage.Data, key, bytes.Repeat([]byte{byte(i)}, n))
		if err := e.Write(&b, false); err != nil {
			t.Fatal(err)
		}
	}
	check := func(when string, i int, v []byte) {
		t.Helper()
		if v == nil || !bytes.Equal(v, bytes.Repeat([]byte{byte(i)}, sizes[i])) {
			t.Fatalf("%s: value %d of %d bytes differs: got %d bytes, nil %v", when, i, sizes[i], len(v), v == nil)
		}
	}
	for _, when := range []string{"in the write buffer", "in a sorted file"} {
		for i, key := range keys {
			v, found, err := e.Get(storage.Data, key)
			if err != nil || !found {
				t.Fatalf("%s: get: found %v, %v", when, found, err)
			}
			check(when, i, v)
		}
		values, err := e.MultiGet(storage.Data, append([][]byte{[]byte("absent")}, keys...))
		if err != nil {
			t.Fatal(err)
		}
		for i := range keys {
			check(when, i, values[1+i])
		}
		if absent := values[0]; absent != nil {
			t.Fatalf("%s: absent key has a value of %d bytes", when, len(absent))
		}
		for _, rng := range []storage.Range{{}, {Reverse: true}, {Bulk: true}} {
			it := e.Iterate(storage.Data, rng)
			for n := range keys {
				i := n
				if rng.Reverse {
					i = len(keys) - 1 - n
				}
				if !it.Next() || !bytes.Equal(it.Key(), keys[i]) {
					t.Fatalf("%s: %+v: pair %d is not there: %v", when, rng, i, it.Err())
				}
				check(when, i, it.Value())
			}
			if it.Next() || it.Err() != nil {
				t.Fatalf("%s: %+v: walk does not end: %v", when, rng, it.Err())
			}
			it.Close()
		}
		if err := e.Compact(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMultiGetKeepsOrderAndRepeats(t *testing.T) {
	e := open(t, testOptions(t.TempDir()))
	write(t, e, false, "a", "1", "b", "", "c", "3")
	for _, keys := range []string{"", "a", "cba", "aabbcc", "xayb", "zzz"} {
		var list [][]byte
		for i := range keys {
			list = append(list, []byte(keys[i:i+1]))
		}
		values, err := e.MultiGet(storage.Data, list)
		if err != nil {
			t.Fatal(err)
		}
		if len(values) != len(list) {
			t.Fatalf("%q: %d values", keys, len(values))
		}
		for i, v := range values {
			want := map[string]string{"a": "1", "b": "", "c": "3"}
			w, present := want[keys[i:i+1]]
			if (v != nil) != present || string(v) != w {
				t.Errorf("%q: value %d is %q (nil %v), want %q", keys, i, v, v == nil, w)
			}
		}
	}
	// More than RocksDB looks up in one round.
	var b storage.Batch
	var list [][]byte
	for i := range 1000 {
		key := fmt.Appendf(nil, "k%04d", i)
		list = append(list, key)
		if i%3 != 0 {
			b.Put(storage.Meta, key, fmt.Appendf(nil, "v%d", i))
		}
	}
	if err := e.Write(&b, false); err != nil {
		t.Fatal(err)
	}
	values, err := e.MultiGet(storage.Meta, list)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range values {
		if i%3 == 0 && v != nil || i%3 != 0 && string(v) != fmt.Sprintf("v%d", i) {
			t.Fatalf("value %d is %q", i, v)
		}
	}
}

func TestValuesOfMultiGetDoNotOverlap(t *testing.T) {
	e := open(t, testOptions(t.TempDir()))
	write(t, e, false, "a", "one", "b", "two")
	values, err := e.MultiGet(storage.Data, [][]byte{[]byte("a"), []byte("b")})
	if err != nil {
		t.Fatal(err)
	}
	_ = append(values[0], "XXX"...)
	if string(values[1]) != "two" {
		t.Fatalf("appending to one value changed the next to %q", values[1])
	}
}

func TestSharedMemory(t *testing.T) {
	m, err := NewMemory(8<<20, 1<<20, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	dir := t.TempDir()
	var engines []*Engine
	for _, name := range []string{"a", "b"} {
		e, err := Open(Options{Dir: filepath.Join(dir, name), Memory: m})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		engines = append(engines, e)
	}
	// Many times the budget, alternating: it can only be kept by flushing, and
	// the budget is of both.
	value := string(bytes.Repeat([]byte("v"), 4096))
	for i := range 4000 {
		write(t, engines[i%2], false, fmt.Sprintf("k%06d", i), value)
	}
	if used := m.WriteBufferBytes(); used > 8<<20 {
		t.Errorf("the write buffers use %d bytes of a budget of 1 MiB", used)
	}
	for i, e := range engines {
		if s := e.Stats(); s.SSTFiles == 0 {
			t.Errorf("engine %d did not flush: %+v", i, s)
		}
	}
	if get(t, engines[0], "k000000") != value {
		t.Error("value differs")
	}
	if m.CacheBytes() == 0 {
		t.Error("the shared cache holds nothing after a read from a file")
	}
}

// Engines that hold next to nothing leave the write buffers to those that are written to.
func TestManyIdleEnginesLeaveTheBudgetAlone(t *testing.T) {
	const engines = 40
	m, err := NewMemory(8<<20, 32<<20, engines)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	dir := t.TempDir()
	var last *Engine
	for i := range engines {
		e, err := Open(Options{Dir: filepath.Join(dir, fmt.Sprint(i)), Memory: m})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		write(t, e, false, "k", string(make([]byte, 4<<10))) // the first bytes take no block
		last = e
	}
	for i := range 100 {
		write(t, last, false, fmt.Sprint(i), "v")
	}
	if used := m.WriteBufferBytes(); used > 4<<20 {
		t.Errorf("%d engines with a few kilobytes each use %d bytes of a budget of 32 MiB", engines, used)
	}
	if s := last.Stats(); s.SSTFiles != 0 {
		t.Errorf("%d files after a hundred small writes", s.SSTFiles)
	}
}

func TestClosed(t *testing.T) {
	e := open(t, testOptions(t.TempDir()))
	write(t, e, true, "a", "1", "b", "2")
	v, err := e.NewView()
	if err != nil {
		t.Fatal(err)
	}
	var b storage.Batch
	for i := range 1000 {
		b.Put(storage.Expiry, fmt.Appendf(nil, "%04d", i), make([]byte, 100))
	}
	if err := e.Write(&b, false); err != nil {
		t.Fatal(err)
	}
	it := e.Iterate(storage.Expiry, storage.Range{})
	if !it.Next() {
		t.Fatal(it.Err())
	}
	finished := e.Iterate(storage.Data, storage.Range{})
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	_, _, getErr := e.Get(storage.Data, []byte("a"))
	_, multiErr := e.MultiGet(storage.Data, nil)
	_, viewErr := e.NewView()
	_, _, oldViewErr := v.Get(storage.Data, []byte("a"))
	_, oldViewMultiErr := v.MultiGet(storage.Data, nil)
	late, lateView := e.Iterate(storage.Data, storage.Range{}), v.Iterate(storage.Data, storage.Range{})
	if it.Next() || late.Next() || lateView.Next() {
		t.Error("an iterator continues after Close")
	}
	for name, err := range map[string]error{
		"Get": getErr, "MultiGet": multiErr, "NewView": viewErr,
		"View.Get": oldViewErr, "View.MultiGet": oldViewMultiErr,
		"Iterator": it.Err(), "Iterate": late.Err(), "View.Iterate": lateView.Err(),
		"Write": e.Write(&b, false), "Write empty": e.Write(&storage.Batch{}, true), "Sync": e.Sync(),
		"Compact": e.Compact(), "Checkpoint": e.Checkpoint(filepath.Join(t.TempDir(), "c")),
	} {
		if !errors.Is(err, storage.ErrClosed) {
			t.Errorf("%s after Close: %v", name, err)
		}
	}
	if s := e.Stats(); s != (storage.Stats{}) {
		t.Errorf("Stats after Close: %+v", s)
	}
	for _, c := range []storage.Iterator{it, finished, late, lateView} {
		c.Close()
		c.Close()
	}
	v.Close()
	v.Close()
	if err := e.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

// TestLargeBatchesAreOrdered: what a batch names again and again is written once, and last.
func TestLargeBatchesAreOrdered(t *testing.T) {
	e, err := Open(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	var b storage.Batch
	for i := range 10 * orderFrom {
		b.Put(storage.Data, fmt.Append(nil, (i*7)%10), fmt.Append(nil, i))
	}
	if err := e.Write(&b, true); err != nil || b.Count() != 10 {
		t.Errorf("%d of 10 keys are written, %v", b.Count(), err)
	}
	for i := range 10 {
		want := fmt.Sprint(10*orderFrom - 10 + (i*3)%10) // 7*3 = 21
		if got, found, err := e.Get(storage.Data, fmt.Append(nil, i)); !found || err != nil || string(got) != want {
			t.Errorf("key %d is %q, want %q, %v", i, got, want, err)
		}
	}
}
