package rocksdb

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/linxGnu/grocksdb"
	"golang.org/x/sys/unix"

	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/testkit"
)

// createForeign makes a database with other column families than ours.
func createForeign(t *testing.T, dir string, write bool, families ...string) {
	t.Helper()
	o := grocksdb.NewDefaultOptions()
	defer o.Destroy()
	o.SetCreateIfMissing(true)
	db, err := grocksdb.OpenDb(o, dir)
	if err != nil {
		t.Fatal(err)
	}
	var handles []*grocksdb.ColumnFamilyHandle
	for _, name := range families {
		h, err := db.CreateColumnFamily(o, name)
		if err != nil {
			t.Fatal(err)
		}
		handles = append(handles, h)
	}
	if write {
		w := grocksdb.NewDefaultWriteOptions()
		defer w.Destroy()
		if err := db.Put(w, []byte("k"), []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	for _, h := range handles {
		h.Destroy()
	}
	db.Close()
}

// openBinding opens e's database a second time, with the binding and for reading.
func openBinding(t testing.TB, e *Engine) (*grocksdb.DB, []*grocksdb.ColumnFamilyHandle) {
	t.Helper()
	o := grocksdb.NewDefaultOptions()
	table := grocksdb.NewDefaultBlockBasedTableOptions()
	table.SetBlockCache(grocksdb.NewLRUCache(DefaultBlockCacheBytes))
	o.SetBlockBasedTableFactory(table)
	o.SetDbLogDir(t.TempDir())
	db, families, err := grocksdb.OpenDbForReadOnlyColumnFamilies(o, e.dir, familyNames[:],
		[]*grocksdb.Options{o, o, o, o}, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, cf := range families {
			cf.Destroy()
		}
		db.Close()
		o.Destroy()
	})
	return db, families
}

func TestOpenForeignFolder(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(t *testing.T, dir string)
		want error
		text string
	}{
		{"another program's database", func(t *testing.T, dir string) { createForeign(t, dir, true) },
			storage.ErrBadOptions, "column families default instead of default, expiry, changelog, meta"},
		{"other families", func(t *testing.T, dir string) { createForeign(t, dir, false, "users", "orders") },
			storage.ErrBadOptions, "another program's RocksDB database"},
		{"families in another order", func(t *testing.T, dir string) { createForeign(t, dir, false, "meta", "changelog", "expiry") },
			storage.ErrBadOptions, ""},
		{"interrupted creation, then written", func(t *testing.T, dir string) { createForeign(t, dir, true, "expiry") },
			storage.ErrBadOptions, "another program's"},
		{"badger", func(t *testing.T, dir string) { touch(t, dir, "KEYREGISTRY", "000001.vlog", "MANIFEST") },
			storage.ErrBadOptions, "holds a Badger database"},
		{"CURRENT is lost", func(t *testing.T, dir string) {
			e := open(t, testOptions(dir))
			write(t, e, true, "k", "v")
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(filepath.Join(dir, "CURRENT")); err != nil {
				t.Fatal(err)
			}
		}, storage.ErrCorrupt, "no file CURRENT"},
		{"MANIFEST is lost", func(t *testing.T, dir string) {
			if err := open(t, testOptions(dir)).Close(); err != nil {
				t.Fatal(err)
			}
			manifests, err := filepath.Glob(filepath.Join(dir, "MANIFEST-*"))
			if err != nil || len(manifests) == 0 {
				t.Fatal("no manifest", err)
			}
			for _, m := range manifests {
				if err := os.Remove(m); err != nil {
					t.Fatal(err)
				}
			}
		}, storage.ErrCorrupt, "MANIFEST"},
		{"CURRENT is garbage", func(t *testing.T, dir string) { touch(t, dir, "CURRENT") },
			storage.ErrCorrupt, "CURRENT"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			c.make(t, dir)
			before := listing(t, dir)
			_, err := Open(testOptions(dir))
			if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Fatalf("%v, want %v, %q", err, c.want, c.text)
			}
			if !strings.Contains(err.Error(), dir) || strings.Contains(err.Error(), "\n") {
				t.Errorf("not one line that names the folder: %q", err)
			}
			for name := range before {
				if _, err := os.Stat(filepath.Join(dir, name)); err != nil && !strings.HasPrefix(name, "LOG") {
					t.Errorf("Open removed %s", name)
				}
			}
		})
	}
}

func touch(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func listing(t testing.TB, dir string) map[string]bool {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, e := range entries {
		names[e.Name()] = true
	}
	return names
}

// A crash may leave a database with some of its column families.
func TestOpenCompletesInterruptedCreation(t *testing.T) {
	for n := range storage.Spaces {
		dir := t.TempDir()
		createForeign(t, dir, false, familyNames[1:n+1]...)
		e := open(t, testOptions(dir))
		var b storage.Batch
		for s := range storage.Space(storage.Spaces) {
			b.Put(s, []byte("k"), []byte(s.String()))
		}
		if err := e.Write(&b, true); err != nil {
			t.Fatal(err)
		}
		for s := range storage.Space(storage.Spaces) {
			if got := fmt.Sprint(scan(t, e, s, storage.Range{})); got != "[k="+s.String()+"]" {
				t.Errorf("with %d families: space %v holds %s", n+1, s, got)
			}
		}
	}
}

func TestOpenFolder(t *testing.T) {
	parent := t.TempDir()
	deep := filepath.Join(parent, "a", "b", "c")
	e := open(t, testOptions(deep))
	write(t, e, true, "k", "v")
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if get(t, open(t, testOptions(deep+"/")), "k") != "v" {
		t.Error("a trailing slash leads elsewhere")
	}
	touch(t, parent, "file")
	if _, err := Open(testOptions(filepath.Join(parent, "file"))); err == nil {
		t.Error("a file opens as a folder")
	}
	if _, err := Open(testOptions(filepath.Join(parent, "file", "below"))); err == nil {
		t.Error("a folder below a file opens")
	}
	t.Run("no permission", func(t *testing.T) {
		closed := filepath.Join(parent, "closed")
		if err := os.Mkdir(closed, 0o000); err != nil {
			t.Fatal(err)
		}
		testkit.Unprivileged(t, parent, func() {
			if _, err := Open(testOptions(closed)); !errors.Is(err, os.ErrPermission) {
				t.Errorf("folder without permission: %v", err)
			}
		})
	})
}

func TestOpenTornLogIsLogged(t *testing.T) {
	e := open(t, testOptions(t.TempDir()))
	write(t, e, false, "a", "1", "b", "2")
	dir := image(t, e.dir)
	log, content := newestLog(t, dir)
	if err := os.WriteFile(log, content[:len(content)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	var lines strings.Builder
	o := testOptions(dir)
	o.Logger = slog.New(slog.NewTextHandler(&lines, nil))
	torn := open(t, o)
	if get(t, torn, "a") != "(absent)" || get(t, torn, "b") != "(absent)" {
		t.Error("a part of a torn batch is there")
	}
	if got := lines.String(); !strings.Contains(got, "level=WARN") || !strings.Contains(got, filepath.Base(log)) {
		t.Errorf("logged: %s", got)
	}
}

func TestValidate(t *testing.T) {
	good := Options{Dir: "d"}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Options){
		"no folder":      func(o *Options) { o.Dir = "" },
		"negative cache": func(o *Options) { o.BlockCacheBytes = -1 },
		"tiny cache":     func(o *Options) { o.BlockCacheBytes = 1000 },
		"tiny buffer":    func(o *Options) { o.WriteBufferBytes = 1000 },
		"few files":      func(o *Options) { o.MaxOpenFiles = 3 },
		"negative files": func(o *Options) { o.MaxOpenFiles = -2 },
		"one job":        func(o *Options) { o.BackgroundJobs = 1 },
	} {
		o := good
		change(&o)
		if err := o.Validate(); !errors.Is(err, storage.ErrBadOptions) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := Open(o); !errors.Is(err, storage.ErrBadOptions) {
			t.Errorf("%s: Open: %v", name, err)
		}
	}
	for _, sizes := range [][2]int64{{0, 1 << 20}, {1 << 20, 0}, {-1, 1 << 20}, {1 << 20, 5}} {
		if _, err := NewMemory(sizes[0], sizes[1], 1); !errors.Is(err, storage.ErrBadOptions) {
			t.Errorf("NewMemory(%d, %d): %v", sizes[0], sizes[1], err)
		}
	}
}

// A full disk is told as such, and reads go on; with room again, and reopened,
// nothing that was acknowledged is missing.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=48m"); err != nil {
		testkit.SkipFault(t, "disk full", fmt.Errorf("mount a tmpfs: %w", err))
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	// Once it is gone there is room for all that a restart writes again before it removes logs.
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 32<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	o := testOptions(filepath.Join(dir, "db"))
	e, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	random := make([]byte, 64<<10) // so that it does not compress
	rand.NewChaCha8([32]byte{}).Read(random)
	value := string(random)
	acked := 0
	for ; acked < 1000; acked++ {
		var b storage.Batch
		b.Put(storage.Data, []byte(key(acked)), []byte(value))
		if err = e.Write(&b, true); err != nil {
			break
		}
	}
	if !errors.Is(err, storage.ErrNoSpace) {
		t.Fatalf("after %d writes: %v", acked, err)
	}
	if got := get(t, e, key(0)); got != value {
		t.Error("reads stop on a full disk")
	}
	var b storage.Batch
	b.Put(storage.Data, []byte("k"), nil)
	for name, err := range map[string]error{
		"Write": e.Write(&b, false), "Sync": e.Sync(), "Compact": e.Compact(),
		"Checkpoint": e.Checkpoint(filepath.Join(dir, "c")), "Close": e.Close(),
	} {
		if !errors.Is(err, storage.ErrNoSpace) {
			t.Errorf("%s after a failed write: %v", name, err)
		}
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if got := countPrefix(t, open(t, o)); got != acked && got != acked+1 {
		t.Errorf("%d writes were acknowledged, %d are left", acked, got)
	}
}

// RocksDB writes, syncs and reads back its options once when it opens a database, and once
// for each call that creates column families: on a node of a thousand vBuckets that is a
// good part of the first start.
func TestCreationWritesTheOptionsTwice(t *testing.T) {
	dir := t.TempDir()
	open(t, testOptions(dir))
	number := func(pattern string) (n int) {
		t.Helper()
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("no %s: %v", pattern, err)
		}
		_, digits, _ := strings.Cut(filepath.Base(files[len(files)-1]), "-")
		if n, err = strconv.Atoi(digits); err != nil {
			t.Fatal(err)
		}
		return n
	}
	// Each file of options takes two numbers, one of which is that of the file that becomes it.
	if files := (number("OPTIONS-??????") - number("MANIFEST-??????")) / 2; files != 2 {
		t.Errorf("the options were written %d times", files)
	}
}
