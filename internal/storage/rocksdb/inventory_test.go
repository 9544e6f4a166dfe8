package rocksdb

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/storage"
)

// sealed returns the folder of an engine that was closed, with a key in a table and one in the
// newest log.
func sealed(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, k := range []string{"a", "b"} {
		e := open(t, testOptions(dir))
		write(t, e, true, k, "v")
		if k == "a" {
			if err := e.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// wantLack opens a folder that lacks something.
func wantLack(t *testing.T, dir, what string) {
	t.Helper()
	before := listing(t, dir)
	e, err := Open(testOptions(dir))
	if err == nil {
		t.Fatalf("it opens with %q, %q", get(t, e, "a"), get(t, e, "b"))
	}
	if !errors.Is(err, storage.ErrCorrupt) || !strings.Contains(err.Error(), what) || !strings.Contains(err.Error(), "restore the folder from a backup") {
		t.Errorf("%v, want %s", err, what)
	}
	if after := listing(t, dir); len(after) != len(before) {
		t.Errorf("the folder has %v, and had %v", after, before)
	}
}

// TestCopyThatWasCutShort: a file of a database that was closed is missing, or its end is.
func TestCopyThatWasCutShort(t *testing.T) {
	cut := func(t *testing.T, path string, by int64) {
		t.Helper()
		fi, err := os.Stat(path)
		if err == nil {
			err = os.Truncate(path, fi.Size()-by)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Run("newest log missing", func(t *testing.T) {
		dir := sealed(t)
		log, _ := newestLog(t, dir)
		if err := os.Remove(log); err != nil {
			t.Fatal(err)
		}
		wantLack(t, dir, filepath.Base(log)+" is missing")
	})
	t.Run("newest log cut", func(t *testing.T) {
		dir := sealed(t)
		log, content := newestLog(t, dir)
		cut(t, log, int64(len(content)))
		wantLack(t, dir, filepath.Base(log)+" has 0 bytes")
	})
	t.Run("manifest cut", func(t *testing.T) {
		dir := sealed(t)
		manifest, err := presentManifest(dir)
		if err != nil {
			t.Fatal(err)
		}
		cut(t, filepath.Join(dir, manifest), 20)
		wantLack(t, dir, manifest+" has ")
	})
}

// TestLogsDeletedAfterAKill: which logs there were is not known then, but that there were some.
func TestLogsDeletedAfterAKill(t *testing.T) {
	e := open(t, testOptions(t.TempDir()))
	write(t, e, true, "a", "v")
	dir := image(t, e.dir)
	names, err := logFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	wantLack(t, dir, "all files of the write-ahead log")
}

// logsOf returns the names of the logs in a folder.
func logsOf(t *testing.T, dir string) []string {
	t.Helper()
	names, err := logFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// withLogs opens an engine, whose first log stays needed, and writes n keys, until it has three
// logs or more that will do.
func withLogs(t *testing.T, do func(dir string, names []string) bool) (e *Engine, n int) {
	t.Helper()
	e = open(t, Options{Dir: t.TempDir(), WriteBufferBytes: minWriteBufferBytes, BlockCacheBytes: minBlockCacheBytes})
	var first storage.Batch
	first.Put(storage.Meta, []byte("m"), []byte("keeps the first log"))
	if err := e.Write(&first, true); err != nil {
		t.Fatal(err)
	}
	for names := logsOf(t, e.dir); len(names) < 3 || !do(e.dir, names); names = logsOf(t, e.dir) {
		write(t, e, true, key(n), strings.Repeat("v", 50<<10))
		if n++; n > 1000 {
			t.Fatalf("only %v after %d writes", names, n)
		}
	}
	return e, n
}

// TestLogMissingBetweenOthers: after a kill it shows by the numbers of the mutations, also without
// a list. A gap before the logs that are needed is none: obsolete ones may be deleted in any order.
func TestLogMissingBetweenOthers(t *testing.T) {
	e, n := withLogs(t, func(string, []string) bool { return true })
	whole := image(t, e.dir)
	lacks := image(t, whole)
	for _, name := range []string{logsOf(t, lacks)[1], inventoryFile} {
		if err := os.Remove(filepath.Join(lacks, name)); err != nil {
			t.Fatal(err)
		}
	}
	wantLack(t, lacks, "a file of the write-ahead log is missing")
	if got := countPrefix(t, open(t, testOptions(image(t, whole)))); got != n {
		t.Errorf("all logs have %d keys, and %d were written", got, n)
	}

	if err := e.Flush(); err != nil {
		t.Fatal(err)
	}
	write(t, e, true, key(n), "v")
	later := image(t, e.dir)
	obsolete := logsOf(t, whole)[0]
	raw, err := os.ReadFile(filepath.Join(whole, obsolete))
	if err == nil {
		err = os.WriteFile(filepath.Join(later, obsolete), raw, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if state, err := readLogs(later); err != nil || state.lacking.behind == 0 {
		t.Fatalf("%+v, %v: the obsolete log leaves no gap", state, err)
	}
	if got := countPrefix(t, open(t, testOptions(later))); got != n+1 {
		t.Errorf("with an obsolete log it has %d keys, and %d were written", got, n+1)
	}
}

// TestFirstOrLastLogMissing: after a kill the manifest names them. What remains would have a
// hole, or lack its end.
func TestFirstOrLastLogMissing(t *testing.T) {
	// The newest log is named when what was written before it has become a sorted file.
	named := func(dir string) bool {
		t.Helper()
		names := logsOf(t, dir)
		manifest, err := presentManifest(dir)
		if err != nil {
			t.Fatal(err)
		}
		logs, known, err := readManifest(filepath.Join(dir, manifest))
		if err != nil || !known {
			t.Fatalf("the manifest cannot be read: %+v, %v", logs, err)
		}
		return slices.Contains(logs.named, logNumber(names[len(names)-1]))
	}
	var dir string
	_, n := withLogs(t, func(running string, _ []string) bool {
		dir = image(t, running) // the engine may begin another log at any time
		return named(dir)
	})
	names := logsOf(t, dir)
	for _, name := range []string{names[0], names[len(names)-1]} {
		lacks := image(t, dir)
		if err := os.Remove(filepath.Join(lacks, name)); err != nil {
			t.Fatal(err)
		}
		wantLack(t, lacks, name+" is missing")
	}
	if got := countPrefix(t, open(t, testOptions(image(t, dir)))); got != n {
		t.Errorf("all logs have %d keys, and %d were written", got, n)
	}
}

// TestLogsOfARunningEngine: no moment at which the process may end looks like a loss.
func TestLogsOfARunningEngine(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 5))
	dir := t.TempDir()
	for life := range 3 {
		e, err := Open(Options{Dir: dir, WriteBufferBytes: minWriteBufferBytes, BlockCacheBytes: minBlockCacheBytes})
		if err != nil {
			t.Fatalf("life %d: %v", life, err)
		}
		for range 4 {
			for range 1 + rnd.IntN(40) {
				var b storage.Batch
				b.Put(storage.Space(rnd.IntN(storage.Spaces)), []byte(key(rnd.IntN(1000))), make([]byte, rnd.IntN(40<<10)))
				if err := e.Write(&b, rnd.IntN(4) == 0); err != nil {
					t.Fatal(err)
				}
			}
			if rnd.IntN(6) == 0 {
				if err := e.Flush(); err != nil {
					t.Fatal(err)
				}
			}
			if err := checkInventory(image(t, dir)); err != nil {
				t.Errorf("life %d: %v", life, err)
			}
		}
		killed := image(t, dir)
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		dir = killed
	}
}

// TestInventoryThatMeansNothing: a list of an earlier opening, as an older release leaves it, and
// one that a power failure has torn.
func TestInventoryThatMeansNothing(t *testing.T) {
	dir := sealed(t)
	path := filepath.Join(dir, inventoryFile)
	earlier, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range [][]byte{earlier, earlier[:len(earlier)/2], nil} {
		e := open(t, testOptions(dir))
		write(t, e, true, "c", "v")
		if err := e.Flush(); err != nil {
			t.Fatal(err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, list, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e := open(t, testOptions(dir))
	if got := get(t, e, "b"); got != "v" {
		t.Errorf("b is %q", got)
	}
}
