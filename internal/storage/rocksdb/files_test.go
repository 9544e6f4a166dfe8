package rocksdb

import (
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/testkit"
)

// limitFiles lets the process open no more files until it is undone.
func limitFiles(t *testing.T) (undo func()) {
	t.Helper()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		testkit.SkipFault(t, "no file descriptors", err)
	}
	now := before
	now.Cur = uint64(len(open)) - 1 // of which one was for counting
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &now); err != nil {
		t.Fatal(err)
	}
	done := false
	undo = func() {
		if done {
			return
		}
		done = true
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(undo)
	return undo
}

// A write that fails because no file can be opened says so: it passes by itself, and
// what was written before is there when the engine is opened again.
func TestOutOfFilesIsAShortage(t *testing.T) {
	dir := t.TempDir()
	e, err := Open(Options{Dir: dir, WriteBufferBytes: minWriteBufferBytes, BlockCacheBytes: minBlockCacheBytes})
	if err != nil {
		t.Fatal(err)
	}
	write := func(i int) error {
		var b storage.Batch
		b.Put(storage.Data, fmt.Appendf(nil, "%06d", i), make([]byte, 64<<10))
		return e.Write(&b, true)
	}
	undo := limitFiles(t)
	n := 0
	for ; n < 1000; n++ {
		if err = write(n); err != nil {
			break
		}
	}
	undo()
	if storage.Shortage(err) != storage.ErrNoFiles {
		t.Errorf("after %d writes: %v", n, err)
	}
	_ = e.Close() // it has failed before
	if e, err = Open(Options{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for i := range n {
		if _, found, err := e.Get(storage.Data, fmt.Appendf(nil, "%06d", i)); err != nil || !found {
			t.Fatalf("write %d of %d: %v, %v", i, n, found, err)
		}
	}
	if err := write(n + 1); err != nil {
		t.Error(err)
	}
}
