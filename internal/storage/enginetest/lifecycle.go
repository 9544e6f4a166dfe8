package enginetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/dkvdb/dkv/internal/storage"
)

func lifecycleChecks() []check {
	return []check{
		{"Close", checkClose},
		{"CloseUnderAReader", checkCloseUnderAReader},
		{"Reopen", checkReopen},
		{"SecondOpenIsRefused", checkLocked},
		{"Checkpoint", checkCheckpoint},
		{"CheckpointWhileWriting", checkCheckpointWhileWriting},
		{"Stats", checkStats},
	}
}

func checkClose(t T, f Factory) {
	x := open(t, f)
	e := x.engine
	x.put(storage.Data, "k", "v")
	v := x.view()
	if e.Kind() == "" {
		t.Error("Kind is empty")
	}
	for range 2 {
		if err := e.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
	want := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, storage.ErrClosed) {
			t.Errorf("%s after Close: %v, want ErrClosed", what, err)
		}
	}
	var b storage.Batch
	b.Put(storage.Data, []byte("k"), []byte("v"))
	want("Write", e.Write(&b, false))
	want("synced Write", e.Write(&b, true))
	want("Sync", e.Sync())
	want("Compact", e.Compact())
	want("Verify", e.Verify(context.Background()))
	dir := filepath.Join(t.TempDir(), "checkpoint")
	want("Checkpoint", e.Checkpoint(dir))
	if _, err := os.Stat(dir); err == nil {
		t.Error("Checkpoint after Close left a directory")
	}
	_, err := e.NewView()
	want("NewView", err)
	for name, r := range map[string]storage.Reader{"": e, "view's ": v} {
		_, _, err = r.Get(storage.Data, []byte("k"))
		want(name+"Get", err)
		_, err = r.MultiGet(storage.Data, [][]byte{[]byte("k")})
		want(name+"MultiGet", err)
		it := r.Iterate(storage.Data, storage.Range{})
		if it.Next() {
			t.Errorf("%sIterate after Close yields", name)
		}
		want(name+"Iterate", it.Err())
		it.Close()
	}
	_ = e.Stats()
	v.Close()
}

// checkCloseUnderAReader closes an engine while a reader is in the middle of a walk.
func checkCloseUnderAReader(t T, f Factory) {
	x := open(t, f)
	const keys = 1000
	value := strings.Repeat("v", 1<<10) // more than an engine may have read ahead
	x.write(func(b *storage.Batch) {
		for i := range keys {
			b.Put(storage.Data, []byte(fmt.Sprint("k", i)), []byte(value))
		}
	})
	v := x.view()
	it := v.Iterate(storage.Data, storage.Range{})
	bulk := x.engine.Iterate(storage.Data, storage.Range{Bulk: true, Reverse: true})
	for range 10 {
		if !it.Next() || !bulk.Next() {
			t.Fatalf("it ends: %v, %v", it.Err(), bulk.Err())
		}
	}
	if err := x.engine.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	for _, it := range []storage.Iterator{it, bulk} {
		if it.Next() {
			t.Error("an iteration continues after Close")
		}
		if err := it.Err(); !errors.Is(err, storage.ErrClosed) {
			t.Errorf("a walk behind Close: %v", err)
		}
		it.Close()
	}
	v.Close()
	if f.Durable {
		x.reopen()
		it := x.engine.Iterate(storage.Data, storage.Range{})
		defer it.Close()
		n := 0
		for it.Next() {
			n++
		}
		if n != keys || it.Err() != nil {
			t.Errorf("%d keys after it was opened again: %v", n, it.Err())
		}
	}
}

func checkReopen(t T, f Factory) {
	if !f.Durable {
		t.Skip("the engine does not outlive Close")
	}
	x := open(t, f)
	model := map[string]string{}
	for round := range 4 {
		for i := range 50 {
			key, value := fmt.Sprintf("k%d", (i*7+round)%90), fmt.Sprintf("v%d-%d", round, i)
			x.put(storage.Data, key, value)
			model[key] = value
		}
		gone := fmt.Sprintf("k%d", round)
		x.write(func(b *storage.Batch) { b.Delete(storage.Data, []byte(gone)) })
		delete(model, gone)
		x.put(storage.Meta, "round", fmt.Sprint(round))
		x.reopen()
		x.wantGet(x.engine, storage.Meta, "round", fmt.Sprint(round))
		got := x.walk(x.engine, storage.Data, storage.Range{})
		if len(got) != len(model) {
			t.Fatalf("%d keys after reopening, want %d", len(got), len(model))
		}
		for _, p := range got {
			if model[p.key] != p.value {
				t.Fatalf("after reopening %q is %q, want %q", p.key, p.value, model[p.key])
			}
		}
	}
}

func checkLocked(t T, f Factory) {
	if !f.Durable {
		t.Skip("the engine has no directory")
	}
	x := open(t, f)
	x.put(storage.Data, "k", "v")
	second, err := f.Open(x.dir)
	if err == nil {
		_ = second.Close()
		t.Fatal("a directory can be opened twice")
	}
	if !errors.Is(err, storage.ErrLocked) {
		t.Fatalf("second Open: %v, want ErrLocked", err)
	}
	// The first is none the worse for it.
	x.put(storage.Data, "k", "v2")
	x.wantGet(x.engine, storage.Data, "k", "v2")
	x.reopen()
	x.wantGet(x.engine, storage.Data, "k", "v2")
}

func checkCheckpoint(t T, f Factory) {
	x := open(t, f)
	x.write(func(b *storage.Batch) {
		for i := range 1000 {
			b.Put(storage.Data, fmt.Appendf(nil, "k%04d", i), pattern(uint64(i), i%300))
			b.Put(storage.Expiry, fmt.Appendf(nil, "e%04d", i), nil)
		}
		b.Put(storage.Changelog, []byte("large"), pattern(7, 3<<20))
		b.Put(storage.Meta, []byte("\x00"), []byte("\xff"))
	})
	x.write(func(b *storage.Batch) {
		b.DeleteRange(storage.Data, []byte("k0100"), []byte("k0200"))
		b.Delete(storage.Expiry, []byte("e0000"))
		b.Put(storage.Data, []byte("k0300"), []byte("overwritten"))
	})
	before := x.view()
	dir := filepath.Join(t.TempDir(), "checkpoint")
	if err := x.engine.Checkpoint(dir); err != nil {
		t.Fatalf("Checkpoint: %v", err)
	}
	x.put(storage.Data, "later", "v")
	x.write(func(b *storage.Batch) { b.DeleteRange(storage.Data, []byte("k0"), []byte("k1")) })

	if err := x.engine.Checkpoint(dir); err == nil {
		t.Fatal("Checkpoint into a directory that exists succeeds")
	}
	c := x.openCheckpoint(dir)
	x.wantSame("checkpoint", c, before)
	// It is a full engine, with a life of its own.
	var b storage.Batch
	b.Put(storage.Data, []byte("k0300"), []byte("own"))
	if err := c.Write(&b, true); err != nil {
		t.Fatalf("Write to a checkpoint: %v", err)
	}
	x.wantGet(c, storage.Data, "k0300", "own")
	x.wantGet(before, storage.Data, "k0300", "overwritten")

	empty := filepath.Join(t.TempDir(), "a", "b")
	if err := x.engine.Checkpoint(empty); err == nil {
		t.Fatal("Checkpoint into a directory without a parent succeeds")
	}
	// Of an empty engine.
	y := open(t, f)
	dir = filepath.Join(t.TempDir(), "empty")
	if err := y.engine.Checkpoint(dir); err != nil {
		t.Fatalf("Checkpoint of an empty engine: %v", err)
	}
	y.wantSame("checkpoint of an empty engine", y.openCheckpoint(dir), y.engine)
}

// checkCheckpointWhileWriting takes a checkpoint of an engine whose batches
// all set two keys alike: no checkpoint may show them apart.
func checkCheckpointWhileWriting(t T, f Factory) {
	x := open(t, f)
	x.put(storage.Meta, "i", "0")
	x.put(storage.Data, "i", "0")
	stop := make(chan struct{})
	var writer sync.WaitGroup
	var failed error
	written := make(chan struct{}, 1)
	writer.Go(func() {
		var b storage.Batch
		for i := 1; ; i++ {
			b.Reset()
			b.Put(storage.Meta, []byte("i"), fmt.Append(nil, i))
			b.Put(storage.Data, fmt.Appendf(nil, "k%d", i), fmt.Append(nil, i))
			b.Put(storage.Data, []byte("i"), fmt.Append(nil, i))
			if failed = x.engine.Write(&b, false); failed != nil {
				return
			}
			select {
			case written <- struct{}{}:
			default:
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	parent := t.TempDir()
	last := -1
	for i := range 3 {
		<-written
		dir := filepath.Join(parent, fmt.Sprint(i))
		if err := x.engine.Checkpoint(dir); err != nil {
			t.Errorf("Checkpoint: %v", err)
			break
		}
		last = i
	}
	close(stop)
	writer.Wait()
	if failed != nil {
		t.Fatalf("Write: %v", failed)
	}
	for i := range last + 1 {
		c := x.openCheckpoint(filepath.Join(parent, fmt.Sprint(i)))
		n, _, err := c.Get(storage.Meta, []byte("i"))
		if err != nil {
			t.Fatalf("Get: %v", err)
		}
		x.wantGet(c, storage.Data, "i", string(n))
		if got := fmt.Sprint(len(x.walk(c, storage.Data, storage.Range{})) - 1); got != string(n) {
			t.Fatalf("checkpoint %d has %s keys and says %s", i, got, n)
		}
	}
}

func checkStats(t T, f Factory) {
	x := open(t, f)
	if got := x.engine.Stats().EstimatedKeys; got > 1 {
		t.Errorf("an empty engine estimates %d keys", got)
	}
	const n, size = 2000, 500
	x.write(func(b *storage.Batch) {
		for i := range n {
			b.Put(storage.Data, fmt.Appendf(nil, "k%05d", i), pattern(uint64(i), size))
		}
	})
	s := x.engine.Stats()
	if total := s.MemtableBytes + s.DiskBytes; total < n*size/2 || total > 1<<33 {
		t.Errorf("%d bytes of values show as %d in memory and %d on disk", n*size, s.MemtableBytes, s.DiskBytes)
	}
	if f.Durable {
		x.reopen()
	}
	if err := x.engine.Compact(); err != nil {
		t.Fatalf("Compact: %v", err)
	}
	s = x.engine.Stats()
	if s.EstimatedKeys < n/2 || s.EstimatedKeys > 2*n {
		t.Errorf("EstimatedKeys = %d with %d keys", s.EstimatedKeys, n)
	}
	if f.Durable && (s.SSTFiles == 0 || s.DiskBytes < n*size/2) {
		t.Errorf("after compaction: %d files, %d bytes on disk", s.SSTFiles, s.DiskBytes)
	}
}
