package badger

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/dkvdb/dkv/internal/storage"
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
	e, err := Open(Options{Dir: dir, ReserveBytes: -1})
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
		again, err := Open(Options{Dir: at, ReserveBytes: -1})
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
		if again, err = Open(Options{Dir: at, ReserveBytes: -1}); err != nil {
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
