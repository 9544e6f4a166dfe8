package rocksdb

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/dkvdb/dkv/internal/storage"
)

// A checkpoint takes the live log along instead of flushing, and links what it
// can.
func TestCheckpointNeedsNoFlush(t *testing.T) {
	e := open(t, testOptions(t.TempDir()))
	write(t, e, false, "in a file", "1")
	if err := e.Compact(); err != nil {
		t.Fatal(err)
	}
	write(t, e, false, "in the log", "2")
	before := e.Stats()
	dir := filepath.Join(t.TempDir(), "checkpoint")
	if err := e.Checkpoint(dir); err != nil {
		t.Fatal(err)
	}
	if after := e.Stats(); after.SSTFiles != before.SSTFiles {
		t.Errorf("the checkpoint flushed: %d files before, %d after", before.SSTFiles, after.SSTFiles)
	}
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("no tables in the checkpoint: %v", err)
	}
	for _, table := range tables {
		info, err := os.Stat(table)
		if err != nil {
			t.Fatal(err)
		}
		if links := info.Sys().(*syscall.Stat_t).Nlink; links < 2 {
			t.Errorf("%s is a copy", filepath.Base(table))
		}
	}
	state, err := readLogs(dir)
	if err != nil || state.damage != "" {
		t.Errorf("the checkpoint's log: %+v, %v", state, err)
	}
	// The engine moves on, and is even gone, before the checkpoint is read.
	write(t, e, true, "in a file", "changed", "later", "3")
	if err := e.Compact(); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	c := open(t, testOptions(dir))
	for key, want := range map[string]string{"in a file": "1", "in the log": "2", "later": "(absent)"} {
		if got := get(t, c, key); got != want {
			t.Errorf("%q is %s in the checkpoint, want %s", key, got, want)
		}
	}
}

// A checkpoint that was interrupted leaves no folder that looks like one, and
// does not stand in the way of the next.
func TestCheckpointAfterInterruptedOne(t *testing.T) {
	e := open(t, testOptions(t.TempDir()))
	write(t, e, true, "k", "v")
	dir := filepath.Join(t.TempDir(), "checkpoint")
	if err := os.Mkdir(dir+".tmp", 0o750); err != nil {
		t.Fatal(err)
	}
	touch(t, dir+".tmp", "000001.sst")
	if err := e.Checkpoint(dir); err != nil {
		t.Fatal(err)
	}
	if get(t, open(t, testOptions(dir)), "k") != "v" {
		t.Error("the checkpoint is not complete")
	}
}

// An engine that holds next to nothing takes next to no room.
func TestIdleDiskUse(t *testing.T) {
	e := open(t, Options{Dir: t.TempDir()})
	write(t, e, true, "k", "v")
	entries, err := os.ReadDir(e.dir)
	if err != nil {
		t.Fatal(err)
	}
	var blocks int64
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			t.Fatal(err)
		}
		blocks += info.Sys().(*syscall.Stat_t).Blocks
	}
	if blocks*512 > 1<<20 {
		t.Errorf("one small pair takes %d bytes on disk", blocks*512)
	}
	if s := e.Stats(); s.MemtableBytes > 8<<20 {
		t.Errorf("one small pair takes %d bytes of write buffers", s.MemtableBytes)
	}
}

// A trimmed change log gives its room back.
func TestTrimmedRangeIsReclaimed(t *testing.T) {
	e := open(t, testOptions(t.TempDir()))
	value := make([]byte, 1000)
	for i := range 20 {
		var b storage.Batch
		for j := range 200 {
			value[0] = byte(j)
			b.Put(storage.Changelog, []byte(key(i*200+j)), value)
		}
		if err := e.Write(&b, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Compact(); err != nil {
		t.Fatal(err)
	}
	full := e.Stats().DiskBytes
	var b storage.Batch
	b.DeleteRange(storage.Changelog, []byte(key(0)), []byte(key(3990)))
	if err := e.Write(&b, true); err != nil {
		t.Fatal(err)
	}
	if n := len(scan(t, e, storage.Changelog, storage.Range{})); n != 10 {
		t.Errorf("%d records are left, want 10", n)
	}
	if err := e.Compact(); err != nil {
		t.Fatal(err)
	}
	if left := e.Stats().DiskBytes; left > full/2 {
		t.Errorf("%d of %d bytes are left of 10 of 4000 records", left, full)
	}
}
