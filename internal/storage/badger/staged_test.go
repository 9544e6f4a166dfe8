package badger

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/rowcache"
	"github.com/dkvdb/dkv/internal/testkit"
)

// frozen copies the folder of an engine on disk as a crash would leave it now.
func frozen(t *testing.T, live string) string {
	t.Helper()
	return testkit.Image(t, live)
}

func put(t *testing.T, e *Engine, pairs ...string) {
	t.Helper()
	if err := e.Write(batchOf(pairs...), true); err != nil {
		t.Fatal(err)
	}
}

// batchOf makes a batch of keys and values; a value of "-" is a delete.
func batchOf(pairs ...string) *storage.Batch {
	var b storage.Batch
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == "-" {
			b.Delete(storage.Data, []byte(pairs[i]))
		} else {
			b.Put(storage.Data, []byte(pairs[i]), []byte(pairs[i+1]))
		}
	}
	return &b
}

func expectPairs(t *testing.T, r storage.Reader, want string) {
	t.Helper()
	var got bytes.Buffer
	it := r.Iterate(storage.Data, storage.Range{})
	defer it.Close()
	for it.Next() {
		fmt.Fprintf(&got, "%s=%.8s ", it.Key(), it.Value())
	}
	if err := it.Err(); err != nil {
		t.Fatal(err)
	}
	if got.String() != want {
		t.Errorf("there is %q, want %q", got.String(), want)
	}
}

// A staged write is seen by no reader before it is committed, whatever its batches
// do, and by the next start after a crash either whole or not at all.
func TestStagedWriteIsAtomic(t *testing.T) {
	large := string(bytes.Repeat([]byte("L"), 3*maxInline))
	dir := t.TempDir()
	opts := Options{Dir: dir, MemtableBytes: 2 * MinMemtableBytes, ReserveBytes: -1} // images of small logs
	e, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	put(t, e, "a", "1", "b", "1", "big", large)
	const before, after = "a=1 b=1 big=LLLLLLLL ", "a=3 c=2 d=3 "
	s, err := e.BeginStaged()
	if err != nil {
		t.Fatal(err)
	}
	var crashes []string
	for _, b := range []*storage.Batch{batchOf("a", "2", "big", "-"), batchOf("b", "-", "c", "2"), batchOf("a", "3")} {
		if err := s.Write(b); err != nil {
			t.Fatal(err)
		}
		expectPairs(t, e, before)
		crashes = append(crashes, frozen(t, dir))
	}
	if got, err := s.MultiGet(storage.Data, [][]byte{[]byte("a"), []byte("b"), []byte("c")}); err != nil ||
		string(got[0]) != "3" || got[1] != nil || string(got[2]) != "2" {
		t.Errorf("the write sees %q of itself, %v", got, err)
	}
	if err := e.Write(batchOf("x", "1"), true); err == nil {
		t.Error("another write was admitted in between")
	}
	if err := e.Sync(); err != nil {
		t.Error("sync in between:", err)
	}
	old, err := e.NewView()
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if err := s.Commit(batchOf("d", "3")); err != nil {
		t.Fatal(err)
	}
	expectPairs(t, e, after)
	expectPairs(t, old, before)
	put(t, e, "e", "4")
	expectPairs(t, e, after+"e=4 ")
	crashes = append(crashes, frozen(t, dir))
	for i, at := range crashes {
		opts.Dir = at
		again, err := Open(opts)
		if err != nil {
			t.Fatal(err)
		}
		want := before
		if i == 3 {
			want = after + "e=4 "
		}
		expectPairs(t, again, want)
		if value, _, err := again.Get(storage.Data, []byte("big")); err != nil || i < 3 && string(value) != large {
			t.Errorf("the large value is %d bytes, %v", len(value), err)
		}
		// What was taken back does not come again, and the engine goes on.
		put(t, again, "z", "9")
		expectPairs(t, again, want+"z=9 ")
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
		if again, err = Open(opts); err != nil {
			t.Fatal(err)
		}
		expectPairs(t, again, want+"z=9 ")
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStagedWriteIsAbandoned(t *testing.T) {
	for _, diskless := range []bool{false, true} {
		opts := Options{Diskless: diskless, ReserveBytes: -1}
		if !diskless {
			opts.Dir = t.TempDir()
		}
		e, err := Open(opts)
		if err != nil {
			t.Fatal(err)
		}
		put(t, e, "a", "1")
		s, err := e.BeginStaged()
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := s.Write(batchOf("a", "2", "b", "2")); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Abandon(); err != nil {
			t.Fatal(err)
		}
		expectPairs(t, e, "a=1 ")
		put(t, e, "c", "3")
		expectPairs(t, e, "a=1 c=3 ")
		if err := s.Write(batchOf("d", "4")); err == nil {
			t.Error("it goes on after it was abandoned")
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// smallTables opens an engine whose transactions hold a fraction of the largest batch.
func smallTables(t *testing.T, dir string) *Engine {
	t.Helper()
	return openWith(t, dir, MinMemtableBytes)
}

// largeBatch is a batch of several transactions of small memory tables.
func largeBatch(value string) *storage.Batch {
	b := new(storage.Batch)
	for i := range 9 {
		b.Put(storage.Data, fmt.Appendf(nil, "%d", i), []byte(strings.Repeat(value, 1<<20)))
	}
	return b
}

// A batch that is more than a transaction holds is seen as a whole or not at all: by
// readers meanwhile, after a crash at any of its steps, and after one that fails.
func TestLargeBatchIsAtomic(t *testing.T) {
	live := t.TempDir()
	e := smallTables(t, live)
	if err := e.Write(largeBatch("a"), true); err != nil {
		t.Fatal(err)
	}
	if got := e.snapshots.current(); got < 2 {
		t.Fatalf("the batch went into %d transaction", got)
	}
	before := e.snapshots.current()

	w := newBatchWriter(e, largeBatch("b"), before, before)
	if err := w.fill(largeBatch("b")); err != nil { // and no more: a crash before the last step
		t.Fatal(err)
	}
	if w.version == before {
		t.Fatal("nothing was written before the last step")
	}
	wantAll(t, e, "a")
	crashed := smallTables(t, frozen(t, live))
	wantAll(t, crashed, "a")
	if err := crashed.Write(largeBatch("c"), true); err != nil {
		t.Fatal(err)
	}
	wantAll(t, crashed, "c")

	if err := w.takeBack(); err != nil {
		t.Fatal(err)
	}
	w.discard()
	wantAll(t, e, "a")
	if err := e.Write(largeBatch("d"), true); err != nil {
		t.Fatal(err)
	}
	wantAll(t, e, "d")
	var all storage.Batch
	all.DeleteRange(storage.Data, []byte("0"), []byte("9~"))
	if err := e.Write(&all, true); err != nil {
		t.Fatal(err)
	}
	expectPairs(t, e, "")
	wantAll(t, smallTables(t, frozen(t, live)), "")
}

// wantAll wants all values of a largeBatch to be of one kind; "" is none.
func wantAll(t *testing.T, r storage.Reader, value string) {
	t.Helper()
	for i := range 9 {
		got, found, err := r.Get(storage.Data, fmt.Appendf(nil, "%d", i))
		if err != nil || found != (value != "") || string(got) != strings.Repeat(value, len(got)) || found && len(got) != 1<<20 {
			t.Fatalf("key %d: %d bytes that begin with %.1q, found %v, %v; want %q", i, len(got), got, found, err, value)
		}
	}
}

// A log of large memory tables is replayed after a crash by an engine with small ones,
// and the other way round.
func TestMemtablesChangeSize(t *testing.T) {
	live := t.TempDir()
	large := openWith(t, live, DefaultMemtableBytes)
	for range 3 { // more than a small memory table takes
		if err := large.Write(largeBatch("a"), true); err != nil {
			t.Fatal(err)
		}
	}
	crash := frozen(t, live)
	if logs, _ := filepath.Glob(filepath.Join(crash, "*.mem")); len(logs) == 0 {
		t.Fatal("there is no log to replay")
	}
	less := openWith(t, crash, MinMemtableBytes)
	wantAll(t, less, "a")
	if err := less.Write(largeBatch("b"), true); err != nil {
		t.Fatal(err)
	}
	again := frozen(t, crash)
	if size, err := loggedMemtable(again); err != nil || size != MinMemtableBytes {
		t.Errorf("logs of memory tables of %d bytes, %v", size, err)
	}
	wantAll(t, openWith(t, again, DefaultMemtableBytes), "b")
}

func openWith(t *testing.T, dir string, memtable int64) *Engine {
	t.Helper()
	e, err := Open(Options{Dir: dir, MemtableBytes: memtable, ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// A marker of a newer release is no damage, and what it is about is left as it is.
func TestNewerStagedMarker(t *testing.T) {
	for marker, want := range map[string]error{
		"\x02what a newer release writes": storage.ErrNewer,
		"\x01not of a later format":       storage.ErrCorrupt,
		"\x02short":                       storage.ErrCorrupt,
	} {
		dir := t.TempDir()
		e := smallTables(t, dir)
		put(t, e, "a", "1")
		w := &rollback{engine: e, version: e.snapshots.current()}
		if err := w.txnFor(len(marker)).Set(markerKey, []byte(marker)); err != nil {
			t.Fatal(err)
		}
		if err := w.flush(); err != nil {
			t.Fatal(err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			_, err := Open(e.opts)
			if !errors.Is(err, want) {
				t.Errorf("%q: %v", marker, err)
			}
			if want == storage.ErrNewer && !strings.Contains(fmt.Sprint(err), "has format 2, and this release reads up to 1") {
				t.Error(err)
			}
		}
	}
}

// Rows that readers have cached are those of before a staged write until it is committed, and not
// after; the same if it is abandoned.
func TestStagedWriteAndCachedRows(t *testing.T) {
	rows, err := rowcache.New(rowcache.MinBytes)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	e, err := Open(Options{Diskless: true, RowCache: rows})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	put(t, e, "kept", "0", "put", "0", "deleted", "0")
	want := func(when, put, deleted string) {
		t.Helper()
		for range 2 { // the second is from a row, if there is one
			for key, value := range map[string]string{"kept": "0", "put": put, "deleted": deleted} {
				got, found, err := e.Get(storage.Data, []byte(key))
				if err != nil {
					t.Fatal(err)
				}
				if !found {
					got = []byte("-")
				}
				if string(got) != value {
					t.Errorf("%s: %s is %q instead of %q", when, key, got, value)
				}
			}
		}
	}
	want("before", "0", "0")
	for _, end := range []string{"abandoned", "committed"} {
		s, err := e.BeginStaged()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Write(batchOf("put", "1")); err != nil {
			t.Fatal(err)
		}
		want("in the middle", "0", "0")
		last := batchOf("deleted", "-")
		if end == "abandoned" {
			if err := errors.Join(s.Write(last), s.Abandon()); err != nil {
				t.Fatal(err)
			}
			want(end, "0", "0")
			continue
		}
		if err := s.Commit(last); err != nil {
			t.Fatal(err)
		}
		want(end, "1", "-")
	}
	put(t, e, "put", "2", "deleted", "2")
	want("at last", "2", "2")
	if hits, _ := e.rows.Counts(); hits < 15 {
		t.Errorf("only %d reads found a row", hits)
	}
}

// An engine that is closed in the middle of a staged write, as after a full disk, does not keep the
// engines that share its cache from adding rows.
func TestCloseEndsAStagedWriteForTheRowCache(t *testing.T) {
	rows, err := rowcache.New(rowcache.MinBytes)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	open := func() *Engine {
		e, err := Open(Options{Diskless: true, RowCache: rows})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = e.Close() })
		return e
	}
	left, other := open(), open()
	s, err := left.BeginStaged()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Write(batchOf("k", "1")); err != nil {
		t.Fatal(err)
	}
	if err := left.Close(); err != nil {
		t.Fatal(err)
	}
	put(t, other, "k", "2")
	for range 2 {
		if got, _, err := other.Get(storage.Data, []byte("k")); err != nil || string(got) != "2" {
			t.Errorf("%q, %v", got, err)
		}
	}
	if hits, _ := other.rows.Counts(); hits != 1 {
		t.Errorf("%d reads found a row, of 1 that could", hits)
	}
	if err := s.Abandon(); err != nil {
		t.Errorf("abandoned after the engine was closed: %v", err)
	}
}
