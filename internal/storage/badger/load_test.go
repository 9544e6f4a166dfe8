package badger_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/badger"
)

func beginLoad(t *testing.T, e *badger.Engine) storage.Load {
	t.Helper()
	l, err := e.BeginLoad()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// addSome adds n pairs of 64 KiB.
func addSome(l storage.Load, n int) error {
	var b storage.Batch
	for i := range n {
		b.Reset()
		b.Put(storage.Data, fmt.Appendf(nil, "k%06d", i), someValue(i))
		if err := l.Add(&b); err != nil {
			return err
		}
	}
	return nil
}

func someValue(i int) []byte { return bytes.Repeat(fmt.Appendf(nil, "%016d", i), 64<<10/16) }

// What takes several tables is all there, in tables of the last level.
func TestLoadOfSeveralTables(t *testing.T) {
	const n = 1200 // 75 MiB
	e := mustOpen(t, badger.Options{Dir: t.TempDir()})
	l := beginLoad(t, e)
	if err := addSome(l, n); err != nil {
		t.Fatal(err)
	}
	if err := l.Finish(); err != nil {
		t.Fatal(err)
	}
	if s := e.Stats(); s.SSTFiles != 3 || s.EstimatedKeys != n || s.PendingCompactionBytes != 0 {
		t.Errorf("%+v", s)
	}
	it := e.Iterate(storage.Data, storage.Range{})
	defer it.Close()
	for i := range n {
		if !it.Next() || !bytes.Equal(it.Value(), someValue(i)) {
			t.Fatalf("pair %d is missing or another (%v)", i, it.Err())
		}
	}
	if it.Next() {
		t.Error("there are more")
	}
}

// Writes during a load, or after one has failed, are rejected.
func TestWriteDuringLoad(t *testing.T) {
	e := mustOpen(t, badger.Options{Dir: t.TempDir()})
	l := beginLoad(t, e)
	var b storage.Batch
	b.Put(storage.Data, []byte("z"), nil)
	if err := e.Write(&b, true); err == nil {
		t.Error("a write is taken during a load")
	}
	if _, err := e.BeginLoad(); err == nil {
		t.Error("a second load begins beside the first")
	}
	if err := addSome(l, 2); err != nil {
		t.Fatal(err)
	}
	b.Put(storage.Data, []byte("z"), nil)
	if err := l.Add(&b); !errors.Is(err, storage.ErrUnordered) {
		t.Errorf("Add of the same key: %v", err)
	}
	if err := e.Write(&b, true); !errors.Is(err, storage.ErrUnordered) {
		t.Errorf("a write into the half of a load: %v", err)
	}
}

// A load keeps away from the reserve as writes do.
func TestLoadReserve(t *testing.T) {
	e := mustOpen(t, badger.Options{Dir: t.TempDir(), ReserveBytes: 1 << 60})
	l := beginLoad(t, e)
	err := addSome(l, 100)
	if err == nil {
		err = l.Finish()
	}
	if !errors.Is(err, storage.ErrNoSpace) {
		t.Fatalf("%v, want ErrNoSpace", err)
	}
	if err := l.Finish(); !errors.Is(err, storage.ErrNoSpace) {
		t.Errorf("Finish after it: %v", err)
	}
}

func TestLoadLimit(t *testing.T) {
	e := mustOpen(t, badger.Options{Diskless: true})
	l := beginLoad(t, e)
	var b storage.Batch
	b.Put(storage.Data, []byte("k"), make([]byte, badger.MaxBatchBytes))
	if err := l.Add(&b); !errors.Is(err, storage.ErrTooLarge) {
		t.Errorf("%v, want ErrTooLarge", err)
	}
}

// Values in parts of keys that are each other's beginning are no reason to fail,
// whatever comes behind them.
func TestLoadOfPartsOutOfOrder(t *testing.T) {
	e := mustOpen(t, badger.Options{Dir: t.TempDir()})
	l := beginLoad(t, e)
	keys := []string{"a", "b", "b\x00", "b\x00\x00\x00\x00", "c"}
	value := func(i int) []byte { return bytes.Repeat([]byte{byte(i + 1)}, 1_300_000+i) }
	var b storage.Batch
	for i, key := range keys {
		b.Reset()
		b.Put(storage.Data, []byte(key), value(i))
		if i > 2 { // else the next key would not be behind it
			b.Put(storage.Data, []byte(key+"\x00behind"), []byte("v"))
		}
		if err := l.Add(&b); err != nil {
			t.Fatal(i, err)
		}
	}
	if err := l.Finish(); err != nil {
		t.Fatal(err)
	}
	for i, key := range keys {
		wantValue(t, e, key, value(i))
	}
	wantValue(t, e, "c\x00behind", []byte("v"))
}
