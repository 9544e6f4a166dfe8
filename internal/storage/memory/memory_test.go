package memory_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/enginetest"
	"github.com/dkvdb/dkv/internal/storage/memory"
)

func factory() enginetest.Factory {
	return enginetest.Factory{
		Open: func(string) (enginetest.Engine, error) { return memory.Open(memory.Options{}) },
		OpenCheckpoint: func(dir string) (enginetest.Engine, error) {
			return memory.Open(memory.Options{Dir: dir})
		},
	}
}

func TestEngine(t *testing.T) { enginetest.Run(t, factory()) }

func BenchmarkEngine(b *testing.B) { enginetest.Bench(b, factory()) }

func open(t *testing.T, opts memory.Options) *memory.Engine {
	t.Helper()
	e, err := memory.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func put(e storage.Engine, key, value string, sync bool) error {
	var b storage.Batch
	b.Put(storage.Data, []byte(key), []byte(value))
	return e.Write(&b, sync)
}

func has(t *testing.T, e storage.Engine, key string) bool {
	t.Helper()
	_, found, err := e.Get(storage.Data, []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestInjectedWriteError(t *testing.T) {
	injected := errors.New("injected")
	var seen []int
	fail := false
	e := open(t, memory.Options{OnWrite: func(b *storage.Batch) error {
		seen = append(seen, b.Count())
		if fail {
			return injected
		}
		return nil
	}})
	if err := put(e, "a", "1", true); err != nil {
		t.Fatal(err)
	}
	fail = true
	if err := put(e, "b", "1", true); !errors.Is(err, injected) {
		t.Errorf("Write: %v, want the injected error", err)
	}
	if has(t, e, "b") {
		t.Error("a batch that failed was applied")
	}
	fail = false
	if err := put(e, "b", "1", false); err != nil || !has(t, e, "b") {
		t.Errorf("Write after the fault is gone: %v", err)
	}
	if fmt.Sprint(seen) != "[1 1 1]" {
		t.Errorf("OnWrite saw batches of %v mutations", seen)
	}
}

func TestInjectedSyncError(t *testing.T) {
	injected := errors.New("injected")
	var syncs int
	e := open(t, memory.Options{OnSync: func() error { syncs++; return injected }})
	if err := put(e, "unsynced", "1", false); err != nil || syncs != 0 {
		t.Errorf("Write without sync: %v after %d syncs", err, syncs)
	}
	if err := put(e, "synced", "1", true); !errors.Is(err, injected) {
		t.Errorf("Write with sync: %v, want the injected error", err)
	}
	if has(t, e, "synced") {
		t.Error("a batch is visible that is not durable")
	}
	if err := e.Sync(); !errors.Is(err, injected) || syncs != 2 {
		t.Errorf("Sync: %v after %d syncs", err, syncs)
	}
}

// TestSyncBeforeVisible looks from within the sync.
func TestSyncBeforeVisible(t *testing.T) {
	var e *memory.Engine
	e = open(t, memory.Options{OnSync: func() error {
		if has(t, e, "k") {
			t.Error("the batch is visible while it is being synced")
		}
		return nil
	}})
	if err := put(e, "k", "v", true); err != nil || !has(t, e, "k") {
		t.Errorf("Write: %v", err)
	}
}

func TestOpenRefusesDamagedCheckpoint(t *testing.T) {
	e := open(t, memory.Options{})
	for i := range 20 {
		if err := put(e, fmt.Sprint("key", i), fmt.Sprint("value", i), false); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(t.TempDir(), "checkpoint")
	if err := e.Checkpoint(dir); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Fatalf("a checkpoint has files %v, %v", files, err)
	}
	name := filepath.Join(dir, files[0].Name())
	sound, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	// Every single byte, and every length.
	for i := range sound {
		flipped := bytes.Clone(sound)
		flipped[i] ^= 0x10
		for what, data := range map[string][]byte{"flipped": flipped, "cut": sound[:i]} {
			if err := os.WriteFile(name, data, 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := memory.Open(memory.Options{Dir: dir}); !errors.Is(err, storage.ErrCorrupt) {
				t.Fatalf("%s at byte %d: %v, want ErrCorrupt", what, i, err)
			}
		}
	}
}

func TestOpenWithoutCheckpoint(t *testing.T) {
	if _, err := memory.Open(memory.Options{Dir: t.TempDir()}); !errors.Is(err, storage.ErrBadOptions) {
		t.Errorf("Open of an empty directory: %v, want ErrBadOptions", err)
	}
}

func TestStatsFollowWrites(t *testing.T) {
	e := open(t, memory.Options{})
	want := func(bytes, keys uint64) {
		t.Helper()
		if s := e.Stats(); s.MemtableBytes != bytes || s.EstimatedKeys != keys {
			t.Errorf("Stats: %d bytes, %d keys; want %d and %d", s.MemtableBytes, s.EstimatedKeys, bytes, keys)
		}
	}
	want(0, 0)
	_ = put(e, "key", "value", false)
	want(8, 1)
	_ = put(e, "key", "v", false)
	want(4, 1)
	_ = put(e, "key2", "", false)
	want(8, 2)
	var b storage.Batch
	b.DeleteRange(storage.Data, []byte("k"), []byte("key2"))
	b.Delete(storage.Data, []byte("absent"))
	if err := e.Write(&b, false); err != nil {
		t.Fatal(err)
	}
	want(4, 1)
}
