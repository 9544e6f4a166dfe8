package rocksdb

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/dkvdb/dkv/internal/storage"
)

// image copies the files of an engine that nothing is written to, as a kill -9 would leave them.
// Files that RocksDB is about to delete in the background may vanish meanwhile; it begins again if
// the manifest has changed, which says what of them is needed.
func image(t testing.TB, dir string) string {
	t.Helper()
	for {
		before := manifestOf(t, dir)
		to := t.TempDir()
		for name := range listing(t, dir) {
			data, err := os.ReadFile(filepath.Join(dir, name))
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(to, name), data, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if bytes.Equal(manifestOf(t, dir), before) {
			return to
		}
	}
}

// manifestOf is the content of the present manifest.
func manifestOf(t testing.TB, dir string) []byte {
	t.Helper()
	name, err := presentManifest(dir)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// newestLog is the path of the last log file in dir, and its content.
func newestLog(t testing.TB, dir string) (string, []byte) {
	t.Helper()
	names, err := logFiles(dir)
	if err != nil || len(names) == 0 {
		t.Fatalf("no log: %v", err)
	}
	path := filepath.Join(dir, names[len(names)-1])
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, data
}

func key(i int) string { return fmt.Sprintf("key%05d", i) }

// countPrefix returns n where the engine holds exactly the keys 0 to n-1.
func countPrefix(t testing.TB, e *Engine) int {
	t.Helper()
	it := e.Iterate(storage.Data, storage.Range{KeysOnly: true})
	defer it.Close()
	n := 0
	for ; it.Next(); n++ {
		if string(it.Key()) != key(n) {
			t.Fatalf("key %d is missing, %s follows", n, it.Key())
		}
	}
	if err := it.Err(); err != nil {
		t.Fatal(err)
	}
	return n
}

// reopen opens an image whose log has been replaced and returns how many keys
// it holds, or the error of Open.
func reopen(t testing.TB, dir, log string, content []byte) (int, error) {
	t.Helper()
	if err := os.WriteFile(log, content, 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := Open(testOptions(dir))
	if err != nil {
		return 0, err
	}
	defer e.Close()
	return countPrefix(t, e), nil
}

// A flipped bit anywhere in the log of synced writes is noticed, or does no
// harm; in the last record it may pass for a torn tail.
func TestFlippedBitInLog(t *testing.T) {
	const n = 60
	for _, sealed := range []bool{false, true} {
		t.Run(fmt.Sprintf("sealed=%v", sealed), func(t *testing.T) {
			e := open(t, testOptions(t.TempDir()))
			for i := range n {
				// Some records take several blocks.
				write(t, e, true, key(i), strings.Repeat("v", 1+i*i*20))
			}
			dir, least := e.dir, n
			if sealed {
				if err := e.Close(); err != nil {
					t.Fatal(err)
				}
			} else {
				dir, least = image(t, e.dir), n-1
			}
			_, clean := newestLog(t, dir)
			rnd := rand.New(rand.NewPCG(1, 1))
			noticed := 0
			for range 30 {
				damaged := image(t, dir)
				log, _ := newestLog(t, damaged)
				at := rnd.IntN(len(clean))
				if rnd.IntN(2) == 0 {
					at = rnd.IntN(min(len(clean), 8<<10)) // many small records, and their headers
				}
				content := bytes.Clone(clean)
				content[at] ^= 1 << rnd.IntN(8)
				got, err := reopen(t, damaged, log, content)
				switch {
				case errors.Is(err, storage.ErrCorrupt):
					noticed++
					if left, _ := os.ReadFile(log); !bytes.Equal(left, content) {
						t.Fatalf("byte %d: the refused log was changed", at)
					}
				case err != nil:
					t.Fatalf("byte %d: %v", at, err)
				case got < least:
					t.Fatalf("byte %d flipped: %d of %d acknowledged writes are left, and no error", at, got, n)
				}
			}
			if noticed < 15 {
				t.Errorf("only %d of 30 flips were noticed", noticed)
			}
		})
	}
}

// The length in a fragment's header is what RocksDB itself takes for the end
// of the log when it is too large.
func TestFlippedLengthInLog(t *testing.T) {
	e := open(t, testOptions(t.TempDir()))
	for i := range 3 {
		write(t, e, true, key(i), "v")
	}
	dir := image(t, e.dir)
	log, content := newestLog(t, dir)
	content[5] ^= 0x40
	if _, err := reopen(t, dir, log, content); !errors.Is(err, storage.ErrCorrupt) {
		t.Fatalf("opening with the first length damaged: %v", err)
	}
}

// A log that was cut anywhere, or whose last pages were never written, opens
// with the writes that precede the cut.
func TestTornLog(t *testing.T) {
	const n = 40
	e := open(t, testOptions(t.TempDir()))
	var ends []int // of the log behind each write
	for i := range n {
		write(t, e, false, key(i), strings.Repeat("v", i*100))
		_, content := newestLog(t, e.dir)
		ends = append(ends, len(content))
	}
	dir := image(t, e.dir)
	_, clean := newestLog(t, dir)
	whole := func(cut int) int {
		i := 0
		for i < n && ends[i] <= cut {
			i++
		}
		return i
	}
	rnd := rand.New(rand.NewPCG(2, 2))
	for round := range 24 {
		torn := image(t, dir)
		log, _ := newestLog(t, torn)
		cut := rnd.IntN(len(clean))
		content, what := bytes.Clone(clean[:cut]), "cut"
		switch round % 3 {
		case 1:
			content, what = append(content, make([]byte, len(clean)-cut)...), "zeroed from"
		case 2:
			// A page that never reached the disk, with later ones that did.
			content, what = bytes.Clone(clean), "page lost at"
			clear(content[cut:min(cut+4096, len(content))])
		}
		got, err := reopen(t, torn, log, content)
		if err != nil {
			t.Fatalf("%s %d: %v", what, cut, err)
		}
		if want := whole(cut); got != want && !(got == want+1 && clean[cut] == 0) {
			t.Fatalf("%s %d: %d writes are left, want %d", what, cut, got, want)
		}
	}
}

// What Sync made durable is protected like a synced write.
func TestDamageBeforeSync(t *testing.T) {
	for _, synced := range []bool{false, true} {
		e := open(t, testOptions(t.TempDir()))
		for i := range 10 {
			write(t, e, false, key(i), "value")
		}
		if synced {
			if err := e.Sync(); err != nil {
				t.Fatal(err)
			}
		}
		write(t, e, false, key(10), "value")
		dir := image(t, e.dir)
		log, content := newestLog(t, dir)
		content[len(content)/2] ^= 1
		got, err := reopen(t, dir, log, content)
		if synced && !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("damage before Sync: %d writes left, %v", got, err)
		}
		if !synced && (err != nil || got == 0 || got >= 10) {
			t.Errorf("damage in writes never synced: %d writes left, %v", got, err)
		}
	}
}

// A torn log that recovery has left behind may outlast a second crash, since it is deleted later: by
// then other mutations have the numbers behind its gap, and nothing is missing. A gap in a log that is
// needed is found beside it.
func TestObsoleteLogWithAGap(t *testing.T) {
	e := open(t, testOptions(t.TempDir()))
	for i := range 10 {
		write(t, e, false, key(i), "value")
	}
	dir := image(t, e.dir)
	log, torn := newestLog(t, dir)
	torn[len(torn)/2] ^= 1
	if err := os.WriteFile(log, torn, 0o600); err != nil {
		t.Fatal(err)
	}
	again := open(t, testOptions(dir))
	n := countPrefix(t, again)
	if n == 0 || n >= 10 {
		t.Fatalf("%d writes left", n)
	}
	for range 20 {
		write(t, again, true, key(n), "value")
		n++
	}
	later := image(t, dir)
	if err := os.WriteFile(filepath.Join(later, filepath.Base(log)), torn, 0o600); err != nil {
		t.Fatal(err)
	}
	if state, err := readLogs(later); err != nil || len(state.gaps) != 1 {
		t.Fatalf("%+v, %v: the obsolete log has no gap", state, err)
	}
	if got := countPrefix(t, open(t, testOptions(image(t, later)))); got != n {
		t.Errorf("with an obsolete log it has %d keys, and %d were written", got, n)
	}
	newest, content := newestLog(t, later)
	content[len(content)/2] ^= 1
	if got, err := reopen(t, later, newest, content); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("the log that is needed is damaged: %d writes left, %v", got, err)
	}
}

// RocksDB passes over zeroes in silence; a gap in the sequence numbers shows
// them.
func TestRecordsZeroedOut(t *testing.T) {
	e := open(t, testOptions(t.TempDir()))
	value := strings.Repeat("v", 1000)
	for i := range 100 {
		write(t, e, false, key(i), value)
	}
	dir := image(t, e.dir)
	log, content := newestLog(t, dir)
	// From a record's start to the end of its block, and on to the next
	// record's start: as if they had never been there.
	size := logFragmentHeader + batchHeader + 1 + 1 + len(key(0)) + 2 + len(value) + markSize
	first := logBlock / size * size // spans the blocks
	rest := first + size + logFragmentHeader - logBlock
	clear(content[first:logBlock])
	content = append(content[:logBlock], content[logBlock+rest:][:logBlock/2]...)
	got, err := reopen(t, dir, log, content)
	if !errors.Is(err, storage.ErrCorrupt) {
		t.Fatalf("a record is gone between others: %d writes, %v", got, err)
	}
}

// The log of an undamaged engine never raises suspicion, whatever is written.
func TestSoundLogs(t *testing.T) {
	e := open(t, testOptions(t.TempDir()))
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			rnd := rand.New(rand.NewPCG(3, uint64(w)))
			for i := range 60 {
				var b storage.Batch
				for range rnd.IntN(20) {
					k := fmt.Appendf(nil, "%d-%d", w, rnd.IntN(50))
					s := storage.Space(rnd.IntN(storage.Spaces))
					switch rnd.IntN(4) {
					case 0:
						b.Delete(s, k)
					case 1:
						b.DeleteRange(s, k, append(k, 0xff))
					default:
						b.Put(s, k, make([]byte, rnd.IntN(5000)))
					}
				}
				if err := e.Write(&b, rnd.IntN(4) == 0); err != nil {
					t.Error(err)
					return
				}
				if i%20 == 19 {
					if err := e.Compact(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	writers.Wait()
	write(t, e, true, "last", "but not least")
	write(t, e, false, "last", "")
	for _, dir := range []string{e.dir, image(t, e.dir)} {
		state, err := readLogs(dir)
		if err != nil || state.damage != "" || len(state.gaps) != 0 || state.durable == 0 {
			t.Fatalf("the log of a sound engine: %+v, %v", state, err)
		}
	}
}

// Each open and close adds to the logs; none of it looks like damage.
func TestSealedLogsReopen(t *testing.T) {
	dir := t.TempDir()
	for i := range 5 {
		e, err := Open(testOptions(dir))
		if err != nil {
			t.Fatal(err)
		}
		if n := countPrefix(t, e); n != i {
			t.Fatalf("%d keys after %d lives", n, i)
		}
		write(t, e, i%2 == 0, key(i), "v")
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		state, err := readLogs(dir)
		if err != nil || state.damage != "" || len(state.gaps) != 0 || state.durable < uint64(i+1) {
			t.Fatalf("life %d: %+v, %v", i, state, err)
		}
	}
}
