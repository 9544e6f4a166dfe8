package rocksdb

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/testkit"
)

// addKeys adds the pairs of key(from) to key(to-1) to a load.
func addKeys(l storage.Load, s storage.Space, from, to int, value string) error {
	var b storage.Batch
	for i := from; i < to; i++ {
		b.Put(s, []byte(key(i)), []byte(value))
		if b.Count() < 50 && i+1 < to {
			continue
		}
		if err := l.Add(&b); err != nil {
			return err
		}
		b.Reset()
	}
	return nil
}

func beginLoad(t *testing.T, e *Engine) storage.Load {
	t.Helper()
	l, err := e.BeginLoad()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// smallFiles are options under which some hundred pairs make several files.
func smallFiles(t *testing.T, dir string) Options {
	t.Helper()
	o := testOptions(dir)
	o.INI = filepath.Join(t.TempDir(), "small.ini")
	if err := os.WriteFile(o.INI, []byte("target_file_size_base=16K\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return o
}

func property(t *testing.T, e *Engine, s storage.Space, name string) string {
	t.Helper()
	db, families := openBinding(t, e)
	return db.GetPropertyCF("rocksdb."+name, families[s])
}

// What is loaded becomes several files of the last level, made as their space's
// options and the ini file say.
func TestLoadMakesFiles(t *testing.T) {
	e := open(t, smallFiles(t, t.TempDir()))
	value := strings.Repeat("v1w2", 50)
	l := beginLoad(t, e)
	for _, s := range []storage.Space{storage.Data, storage.Expiry, storage.Meta} {
		if err := addKeys(l, s, 0, 2000, value); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Finish(); err != nil {
		t.Fatal(err)
	}
	if n := countPrefix(t, e); n != 2000 {
		t.Errorf("%d pairs", n)
	}
	for s, want := range map[storage.Space]struct {
		compression string
		filter      bool
	}{
		storage.Data:   {"LZ4", true},
		storage.Expiry: {"LZ4", false},
		storage.Meta:   {"NoCompression", false},
	} {
		files := filesOf(t, e, s)
		if last := property(t, e, s, "num-files-at-level6"); fmt.Sprint(len(files)) != last || s == storage.Meta && len(files) < 3 {
			t.Errorf("%v has %d files, of which %s are of the last level", s, len(files), last)
		}
		table := property(t, e, s, "aggregated-table-properties")
		if filter := strings.Contains(table, "# entries for filter=2000;"); filter != want.filter {
			t.Errorf("%v: filter %v, want %v: %s", s, filter, want.filter, table)
		}
		// A file names its compression in the clear.
		content, err := os.ReadFile(filepath.Join(e.dir, files[0]))
		if err != nil || !bytes.Contains(content, []byte(want.compression)) {
			t.Errorf("%v is not compressed by %s (%v)", s, want.compression, err)
		}
	}
}

// filesOf lists the files of a space.
func filesOf(t *testing.T, e *Engine, s storage.Space) []string {
	t.Helper()
	db, _ := openBinding(t, e)
	var names []string
	for _, f := range db.GetLiveFilesMetaData() {
		if f.ColumnFamilyName == familyNames[s] {
			names = append(names, f.Name)
		}
	}
	return names
}

// Keys must ascend from file to file too.
func TestLoadOrderAcrossFiles(t *testing.T) {
	for _, first := range []int{0, 500, 999, 1000} {
		e := open(t, smallFiles(t, t.TempDir()))
		l := beginLoad(t, e)
		if err := addKeys(l, storage.Meta, 0, 1000, strings.Repeat("v", 200)); err != nil {
			t.Fatal(err)
		}
		if files, err := os.ReadDir(filepath.Join(e.dir, loadFolder)); err != nil || len(files) < 3 {
			t.Fatalf("%d files, %v", len(files), err)
		}
		err := addKeys(l, storage.Meta, first, first+1, "")
		if want := first < 1000; errors.Is(err, storage.ErrUnordered) != want {
			t.Errorf("key %d behind 999: %v", first, err)
		}
	}
}

// A load leaves nothing behind, whatever becomes of it.
func TestLoadFolder(t *testing.T) {
	o := smallFiles(t, t.TempDir())
	left := func() bool {
		_, err := os.Stat(filepath.Join(o.Dir, loadFolder))
		return err == nil
	}
	value := strings.Repeat("v", 200)
	e := open(t, o)
	l := beginLoad(t, e)
	if err := addKeys(l, storage.Data, 0, 1000, value); err != nil || !left() {
		t.Fatalf("add: %v, folder %v", err, left())
	}
	if _, err := e.BeginLoad(); err == nil {
		t.Error("a second load begins beside the first")
	}
	if err := addKeys(l, storage.Data, 0, 1, value); !errors.Is(err, storage.ErrUnordered) || left() {
		t.Errorf("after an error: %v, folder %v", err, left())
	}
	l = beginLoad(t, e) // the engine is as empty as it was
	if err := addKeys(l, storage.Data, 0, 1000, value); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil || left() {
		t.Errorf("closed: %v, folder %v", err, left())
	}
	// As a crash leaves it.
	if err := os.Mkdir(filepath.Join(o.Dir, loadFolder), 0o750); err != nil {
		t.Fatal(err)
	}
	touch(t, filepath.Join(o.Dir, loadFolder), "0-0.sst")
	e = open(t, o)
	if left() || countPrefix(t, e) != 0 {
		t.Errorf("opened after a crash: folder %v, %d pairs", left(), countPrefix(t, e))
	}
	l = beginLoad(t, e)
	if err := addKeys(l, storage.Data, 0, 1000, value); err != nil {
		t.Fatal(err)
	}
	if err := l.Finish(); err != nil || left() || countPrefix(t, e) != 1000 {
		t.Errorf("finished: %v, folder %v, %d pairs", err, left(), countPrefix(t, e))
	}
}

// A full disk is told as such, and costs nothing but the load.
func TestLoadOnFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		testkit.SkipFault(t, "disk full", fmt.Errorf("mount a tmpfs: %w", err))
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	e := open(t, testOptions(filepath.Join(dir, "db")))
	random := make([]byte, 64<<10) // so that it does not compress
	rand.NewChaCha8([32]byte{}).Read(random)
	l := beginLoad(t, e)
	err := addKeys(l, storage.Data, 0, 1000, string(random))
	if !errors.Is(err, storage.ErrNoSpace) {
		t.Fatalf("after the disk's size: %v", err)
	}
	if again := addKeys(l, storage.Data, 1000, 1001, ""); !errors.Is(again, storage.ErrNoSpace) {
		t.Errorf("Add after it: %v", again)
	}
	if err := l.Finish(); !errors.Is(err, storage.ErrNoSpace) {
		t.Errorf("Finish after it: %v", err)
	}
	entries, err := os.ReadDir(filepath.Join(dir, "db"))
	if err != nil || slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == loadFolder }) {
		t.Errorf("the load's folder is left (%v)", err)
	}
	write(t, e, true, "k", "v")
	if got := get(t, e, "k"); got != "v" {
		t.Errorf("k = %s", got)
	}
}
