package badger_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/badger"
)

// mustOpen opens an engine until the test ends.
func mustOpen(t *testing.T, opts badger.Options) *badger.Engine {
	t.Helper()
	e, err := badger.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func put(t *testing.T, e storage.Engine, key string, value []byte) {
	t.Helper()
	var b storage.Batch
	b.Put(storage.Data, []byte(key), value)
	if err := e.Write(&b, true); err != nil {
		t.Fatal(err)
	}
}

func wantValue(t *testing.T, e storage.Reader, key string, want []byte) {
	t.Helper()
	got, found, err := e.Get(storage.Data, []byte(key))
	if err != nil || !found || string(got) != string(want) {
		t.Fatalf("Get(%s): %d bytes, %v, %v; want %d bytes", key, len(got), found, err, len(want))
	}
}

func TestBadOptions(t *testing.T) {
	for name, opts := range map[string]badger.Options{
		"no folder":             {},
		"diskless with folder":  {Diskless: true, Dir: t.TempDir()},
		"negative block cache":  {Dir: t.TempDir(), BlockCacheBytes: -1},
		"diskless, bad caching": {Diskless: true, BlockCacheBytes: -1},
	} {
		if _, err := badger.Open(opts); !errors.Is(err, storage.ErrBadOptions) {
			t.Errorf("%s: %v, want ErrBadOptions", name, err)
		}
	}
}

// wantOpenError checks that opening fails as it should, in one line that names
// what is wrong.
func wantOpenError(t *testing.T, dir string, want error, says string) {
	t.Helper()
	e, err := badger.Open(badger.Options{Dir: dir})
	if err == nil {
		_ = e.Close()
		t.Fatalf("Open succeeds, want %v", want)
	}
	if want != nil && !errors.Is(err, want) {
		t.Errorf("Open: %v, want %v", err, want)
	}
	if !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n") {
		t.Errorf("Open: %q, want one line about %q", err, says)
	}
}

// TestManifestThatWasCutShort: Badger would delete the tables that its end names. After a crash
// there may be such tables, which are of no use.
func TestManifestThatWasCutShort(t *testing.T) {
	dir := t.TempDir()
	for _, key := range []string{"a", "b"} {
		e := mustOpen(t, badger.Options{Dir: dir})
		put(t, e, key, []byte("v"))
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	cut := filepath.Join(t.TempDir(), "cut")
	if err := os.CopyFS(cut, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	manifest := filepath.Join(cut, "MANIFEST")
	info, err := os.Stat(manifest)
	if err == nil {
		err = os.Truncate(manifest, info.Size()-1)
	}
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // it stays as it is
		wantOpenError(t, cut, storage.ErrCorrupt, "the manifest does not name it")
	}

	// Without an engine that closed it last, a table that is not named is left over.
	e := mustOpen(t, badger.Options{Dir: dir})
	crashed := filepath.Join(t.TempDir(), "crashed")
	if err := os.CopyFS(crashed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	tables, err := filepath.Glob(filepath.Join(crashed, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatal(tables, err)
	}
	raw, err := os.ReadFile(tables[0])
	if err == nil {
		err = os.WriteFile(filepath.Join(crashed, "009999.sst"), raw, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	again := mustOpen(t, badger.Options{Dir: crashed})
	wantValue(t, again, "a", []byte("v"))
	wantValue(t, again, "b", []byte("v"))
}

// TestTablesThatAnIteratorHolds: an engine that is closed under a reader, so that it can be opened
// again, leaves tables that a compaction has replaced.
func TestTablesThatAnIteratorHolds(t *testing.T) {
	opts := badger.Options{Dir: t.TempDir(), MemtableBytes: badger.MinMemtableBytes}
	for range 7 { // more tables than Badger leaves on level 0
		e := mustOpen(t, opts)
		put(t, e, "k", []byte("v"))
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	e := mustOpen(t, opts)
	it := e.Iterate(storage.Data, storage.Range{})
	if !it.Next() {
		t.Fatal(it.Err())
	}
	if err := e.Compact(); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	it.Close()
	if left, err := filepath.Glob(filepath.Join(opts.Dir, "*.sst")); err != nil || len(left) < 2 {
		t.Fatalf("the iterator has held no table: %q, %v", left, err)
	}
	wantValue(t, mustOpen(t, opts), "k", []byte("v"))
}

func TestOpenOfFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	wantOpenError(t, path, nil, path)
}

func TestOpenOfOtherEngine(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "CURRENT"), []byte("MANIFEST-000004\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	wantOpenError(t, dir, storage.ErrBadOptions, "RocksDB")
}

// closedEngine leaves a directory with one table.
func closedEngine(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	e := mustOpen(t, badger.Options{Dir: dir})
	for i := range 100 {
		put(t, e, fmt.Sprintf("k%03d", i), []byte(strings.Repeat("v", 100)))
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestLostManifest(t *testing.T) {
	dir := closedEngine(t)
	if err := os.Remove(filepath.Join(dir, "MANIFEST")); err != nil {
		t.Fatal(err)
	}
	wantOpenError(t, dir, storage.ErrCorrupt, "MANIFEST")
	if tables, _ := filepath.Glob(filepath.Join(dir, "*.sst")); len(tables) == 0 {
		t.Error("the tables were removed")
	}
}

func TestDamagedManifest(t *testing.T) {
	for _, at := range []int{0, 5, 12, 20} {
		dir := closedEngine(t)
		flip(t, filepath.Join(dir, "MANIFEST"), at)
		wantOpenError(t, dir, storage.ErrCorrupt, "MANIFEST")
	}
}

func TestLostTable(t *testing.T) {
	dir := closedEngine(t)
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("no tables: %v", err)
	}
	if err := os.Remove(tables[0]); err != nil {
		t.Fatal(err)
	}
	wantOpenError(t, dir, storage.ErrCorrupt, filepath.Base(tables[0]))
}

// TestUnbornLogs has files that a crash between creating and sizing them
// leaves.
func TestUnbornLogs(t *testing.T) {
	dir := closedEngine(t)
	for _, name := range []string{"00099.mem", "000099.vlog"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	e := mustOpen(t, badger.Options{Dir: dir})
	wantValue(t, e, "k042", []byte(strings.Repeat("v", 100)))
}

func flip(t *testing.T, path string, at int) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[at] ^= 0x55
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestReserve(t *testing.T) {
	e := mustOpen(t, badger.Options{Dir: t.TempDir(), ReserveBytes: 1 << 60})
	var b storage.Batch
	b.Put(storage.Data, []byte("k"), []byte("v"))
	for range 2 { // and it is not the end of the engine
		if err := e.Write(&b, true); !errors.Is(err, storage.ErrNoSpace) {
			t.Fatalf("Write: %v, want ErrNoSpace", err)
		}
	}
	if _, found, err := e.Get(storage.Data, []byte("k")); err != nil || found {
		t.Errorf("Get after a refused write: %v, %v", found, err)
	}
}

// TestLimits has the largest batches that are accepted, and ones just above.
func TestLimits(t *testing.T) {
	dir := t.TempDir()
	for name, opts := range map[string]badger.Options{"disk": {Dir: dir}, "diskless": {Diskless: true}} {
		t.Run(name, func(t *testing.T) {
			e := mustOpen(t, opts)
			var b storage.Batch
			for i := range badger.MaxBatchOps {
				b.Put(storage.Changelog, fmt.Appendf(nil, "k%06d", i), []byte("v"))
			}
			write := func(want error) {
				t.Helper()
				if err := e.Write(&b, false); !errors.Is(err, want) {
					t.Fatalf("Write: %v, want %v", err, want)
				}
			}
			write(nil)
			b.Put(storage.Data, []byte("extra"), nil)
			write(storage.ErrTooLarge)

			b.Reset()
			b.DeleteRange(storage.Changelog, []byte("k"), []byte("l"))
			b.Put(storage.Data, []byte("extra"), nil)
			write(storage.ErrTooLarge) // the range has MaxBatchOps keys
			b.Reset()
			b.DeleteRange(storage.Changelog, []byte("k000001"), []byte("l"))
			b.Put(storage.Data, []byte("extra"), []byte("v"))
			write(nil)

			b.Reset()
			value := make([]byte, badger.MaxBatchBytes/8)
			for i := range 7 {
				b.Put(storage.Data, fmt.Appendf(nil, "large%d", i), value)
			}
			b.Put(storage.Data, []byte("filler"), value[:badger.MaxBatchBytes-b.Size()-16])
			write(nil)
			wantValue(t, e, "large6", value)
			b.Put(storage.Data, []byte("one more"), value)
			write(storage.ErrTooLarge)
		})
	}
}

// A key that is too long is refused by name, and nothing has failed.
func TestLongKey(t *testing.T) {
	e := mustOpen(t, badger.Options{Dir: t.TempDir()})
	long := bytes.Repeat([]byte("K"), badger.MaxKeyBytes+1)
	var b storage.Batch
	b.Put(storage.Data, long, []byte("v"))
	err := e.Write(&b, true)
	if !errors.Is(err, storage.ErrTooLarge) || !strings.Contains(err.Error(), "begins with \"KKKK") || len(err.Error()) > 300 {
		t.Errorf("error %v", err)
	}
	l := beginLoad(t, e)
	if err := l.Add(&b); !errors.Is(err, storage.ErrTooLarge) {
		t.Errorf("a load: %v", err)
	}
	e = mustOpen(t, badger.Options{Dir: t.TempDir()})
	if err := e.Write(&b, true); !errors.Is(err, storage.ErrTooLarge) {
		t.Errorf("error %v", err)
	}
	put(t, e, string(long[1:]), []byte("v"))
	wantValue(t, e, string(long[1:]), []byte("v"))
}

// TestCloseOnADiskThatTakesNothing takes the folder away, so that no table can be made, as on a
// disk that has become read-only: Badger tries it for ever, and a node that is told to stop must
// end all the same. The log has what is in memory.
func TestCloseOnADiskThatTakesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "engine")
	e := mustOpen(t, badger.Options{Dir: dir})
	put(t, e, "k", []byte("v"))
	away := dir + "-away"
	if err := os.Rename(dir, away); err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	go func() { closed <- e.Close() }()
	select {
	case err := <-closed:
		if err == nil || !strings.Contains(err.Error(), "stays in the log alone") {
			t.Errorf("Close: %v, want that the memory table could not be written", err)
		}
	case <-time.After(time.Minute):
		t.Error("Close does not return")
	}
	if _, err := badger.Open(badger.Options{Dir: away}); !errors.Is(err, storage.ErrLocked) {
		t.Errorf("Open while Badger still tries: %v, want ErrLocked", err)
	}
	if err := os.Rename(away, dir); err != nil {
		t.Fatal(err)
	}
	for { // until Badger has written the table after all
		again, err := badger.Open(badger.Options{Dir: dir})
		if errors.Is(err, storage.ErrLocked) {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		wantValue(t, again, "k", []byte("v"))
		return
	}
}
