package badger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bdg "github.com/dgraph-io/badger/v4"

	"github.com/dkvdb/dkv/internal/storage"
)

// crashed returns the directory of an engine as a crash after n batches leaves
// it, and the path of its log.
func crashed(t *testing.T, n int) (dir, log string) {
	t.Helper()
	return crashedWith(t, Options{}, n)
}

// crashedWith is crashed for an engine with further options.
func crashedWith(t *testing.T, opts Options, n int) (dir, log string) {
	t.Helper()
	live := t.TempDir()
	// A log is twice as large as a memory table, and all of it is read here.
	opts.Dir, opts.MemtableBytes = live, 2*MinMemtableBytes
	e, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	var b storage.Batch
	for i := range n {
		b.Reset()
		b.Put(storage.Data, fmt.Appendf(nil, "k%d", i), bytes.Repeat([]byte{byte(i)}, 100))
		b.Put(storage.Meta, []byte("last"), fmt.Append(nil, i))
		if err := e.Write(&b, true); err != nil {
			t.Fatal(err)
		}
	}
	dir = t.TempDir()
	entries, err := os.ReadDir(live)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		data, err := os.ReadFile(filepath.Join(live, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, entry.Name())
		if filepath.Ext(path) == ".mem" || filepath.Ext(path) == ".vlog" {
			// Most of these is a hole.
			data = append(bytes.TrimRight(data, "\x00"), make([]byte, 4096)...)
		}
		if filepath.Ext(path) == ".mem" {
			log = path
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir, log
}

// change rewrites a file in place.
func change(t *testing.T, path string, do func(data []byte)) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	do(data)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func lastBatch(t *testing.T, dir string) string {
	t.Helper()
	e, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	defer e.Close()
	value, _, err := e.Get(storage.Meta, []byte("last"))
	if err != nil {
		t.Fatal(err)
	}
	return string(value)
}

func TestReplayAfterCrash(t *testing.T) {
	dir, _ := crashed(t, 10)
	if got := lastBatch(t, dir); got != "9" {
		t.Errorf("the last batch is %q, want 9", got)
	}
}

// TestTornTail damages the last batch, as a power failure might.
func TestTornTail(t *testing.T) {
	for name, torn := range map[string]func(data []byte, end int){
		"last byte":         func(data []byte, end int) { data[end-1] ^= 1 },
		"end record zeroed": func(data []byte, end int) { clear(data[end-30 : end]) },
		"a page lost":       func(data []byte, end int) { clear(data[end-150 : end-60]) },
	} {
		t.Run(name, func(t *testing.T) {
			dir, log := crashed(t, 10)
			change(t, log, func(data []byte) { torn(data, replayable(data)) })
			if got := lastBatch(t, dir); got != "8" {
				t.Errorf("the last batch is %q, want 8", got)
			}
		})
	}
}

// TestDamagedLog flips a bit in the middle of the log: what follows was
// acknowledged and must not be dropped in silence.
func TestDamagedLog(t *testing.T) {
	for _, part := range []int{4, 2} {
		dir, log := crashed(t, 10)
		change(t, log, func(data []byte) { data[replayable(data)/part] ^= 1 })
		_, err := Open(Options{Dir: dir})
		if !errors.Is(err, storage.ErrCorrupt) || !strings.Contains(err.Error(), filepath.Base(log)) {
			t.Errorf("Open: %v, want ErrCorrupt about %s", err, filepath.Base(log))
		}
	}
}

// TestDamagedOlderLog does not forgive the tail of a log that has a successor.
func TestDamagedOlderLog(t *testing.T) {
	_, log := crashed(t, 10)
	if err := verifyLog(log, false); err != nil {
		t.Fatalf("a sound log: %v", err)
	}
	change(t, log, func(data []byte) { data[replayable(data)-60] ^= 1 })
	if err := verifyLog(log, true); err != nil {
		t.Errorf("the last batch of the newest log: %v", err)
	}
	if err := verifyLog(log, false); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("the last batch of an older log: %v, want ErrCorrupt", err)
	}
}

// TestDamageWhileOpen lets verification find a table that rotted under an open
// engine: from then on nothing is served, and no checkpoint is taken.
func TestDamageWhileOpen(t *testing.T) {
	dir := t.TempDir()
	for range 2 { // the first one's close makes the table
		e, err := Open(Options{Dir: dir, VerifyInterval: -1})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		var b storage.Batch
		for i := range 200 {
			b.Put(storage.Data, fmt.Appendf(nil, "k%d", i), bytes.Repeat([]byte{1, 2, 3}, 50))
		}
		if err := e.Write(&b, true); err != nil {
			t.Fatal(err)
		}
		if err := e.verify(context.Background()); err != nil {
			t.Fatalf("verify of a sound engine: %v", err)
		}
		tables, _ := filepath.Glob(filepath.Join(dir, "*.sst"))
		if len(tables) == 0 {
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		rot(t, tables[0])
		checkpoint := filepath.Join(t.TempDir(), "checkpoint")
		if err := e.Checkpoint(checkpoint); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("Checkpoint: %v, want ErrCorrupt", err)
		}
		if _, err := os.Stat(checkpoint); err == nil {
			t.Error("a failed checkpoint leaves a directory")
		}
		if _, _, err := e.Get(storage.Data, []byte("k1")); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("Get: %v, want ErrCorrupt", err)
		}
		if err := e.Write(&b, true); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("Write: %v, want ErrCorrupt", err)
		}
	}
}

// rot flips a bit in place, without giving the file another inode.
func rot(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	one := make([]byte, 1)
	if _, err := f.ReadAt(one, 100); err != nil {
		t.Fatal(err)
	}
	one[0] ^= 0x10
	if _, err := f.WriteAt(one, 100); err != nil {
		t.Fatal(err)
	}
}

// TestNoWriteAfterFailure makes a commit fail inside Badger.
func TestNoWriteAfterFailure(t *testing.T) {
	e, err := Open(Options{Diskless: true})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	var b storage.Batch
	b.Put(storage.Data, []byte("k"), []byte("v"))
	if err := e.Write(&b, true); err != nil {
		t.Fatal(err)
	}
	injected := errors.New("injected")
	e.failed = injected
	if err := e.Write(&b, true); !errors.Is(err, injected) {
		t.Errorf("Write: %v", err)
	}
	if err := e.Sync(); !errors.Is(err, injected) {
		t.Errorf("Sync: %v", err)
	}
	if _, found, err := e.Get(storage.Data, []byte("k")); err != nil || !found {
		t.Errorf("reads stop with the writes: %v, %v", found, err)
	}
}

// TestPartsAreReclaimed looks at what is stored: no part outlives its value.
func TestPartsAreReclaimed(t *testing.T) {
	e, err := Open(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	write := func(fill func(b *storage.Batch)) {
		t.Helper()
		var b storage.Batch
		fill(&b)
		if err := e.Write(&b, false); err != nil {
			t.Fatal(err)
		}
	}
	wantParts := func(what string, want int) {
		t.Helper()
		n := 0
		txn := e.db.NewTransactionAt(e.snapshots.current(), false)
		defer txn.Discard()
		it := walk(txn, span{}, false)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			if it.Item().Key()[0]&partFlag != 0 {
				n++
			}
		}
		if n != want {
			t.Errorf("%s: %d parts are stored, want %d", what, n, want)
		}
		counted := 0
		for _, parts := range e.parts {
			counted += parts
		}
		if counted != want {
			t.Errorf("%s: %d parts are known of, want %d", what, counted, want)
		}
	}
	large := func(parts int) []byte { return make([]byte, parts*maxInline) }
	write(func(b *storage.Batch) { b.Put(storage.Data, []byte("a"), large(4)) })
	wantParts("one value", 4)
	write(func(b *storage.Batch) { b.Put(storage.Data, []byte("a"), large(2)) })
	wantParts("a shorter one", 2)
	write(func(b *storage.Batch) {
		b.Put(storage.Data, []byte("a"), large(3))
		b.Put(storage.Meta, []byte("a"), large(5))
		b.Put(storage.Data, []byte("b"), large(2))
		b.Put(storage.Data, []byte("b"), []byte("short"))
	})
	wantParts("two values", 8)
	write(func(b *storage.Batch) { b.Put(storage.Data, []byte("a"), []byte("short")) })
	wantParts("one of them short", 5)
	write(func(b *storage.Batch) {
		b.Put(storage.Meta, []byte("b"), large(2))
		b.DeleteRange(storage.Meta, []byte("a"), []byte("c"))
	})
	wantParts("range delete", 0)
	write(func(b *storage.Batch) { b.Put(storage.Data, []byte("a"), large(2)) })
	write(func(b *storage.Batch) { b.Delete(storage.Data, []byte("a")) })
	wantParts("delete", 0)
}

// TestVersionsAreDiscarded overwrites the same keys in one table after the
// other and counts what compaction keeps of them.
func TestVersionsAreDiscarded(t *testing.T) {
	const keys, rounds = 300, 7 // more tables than Badger leaves on level 0
	dir := t.TempDir()
	for round := range rounds {
		e, err := Open(Options{Dir: dir, MemtableBytes: MinMemtableBytes})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		var b storage.Batch
		for i := range keys {
			b.Put(storage.Data, fmt.Appendf(nil, "k%d", i), fmt.Append(nil, round))
		}
		if err := e.Write(&b, false); err != nil {
			t.Fatal(err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	e, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if err := e.Compact(); err != nil {
		t.Fatal(err)
	}
	stored := uint32(0)
	for _, table := range e.db.Tables() {
		stored += table.KeyCount
	}
	if stored != keys {
		t.Errorf("%d versions of %d keys are stored after compaction", stored, keys)
	}
	if got, _, err := e.Get(storage.Data, []byte("k7")); err != nil || string(got) != fmt.Sprint(rounds-1) {
		t.Errorf("Get: %q, %v", got, err)
	}
}

func TestSnapshots(t *testing.T) {
	var s snapshots
	if got := s.publish(5); got != 5 {
		t.Errorf("oldest = %d, want 5", got)
	}
	a, b := s.acquire(), s.acquire()
	s.publish(6)
	c := s.acquire()
	if a != 5 || b != 5 || c != 6 {
		t.Fatalf("acquired %d, %d, %d", a, b, c)
	}
	s.retain(a)
	for i, step := range []struct {
		release uint64
		oldest  uint64
	}{{5, 5}, {5, 5}, {5, 6}, {6, 10}} {
		s.release(step.release)
		if got := s.publish(uint64(7 + i)); got != step.oldest {
			t.Errorf("after step %d the oldest is %d, want %d", i, got, step.oldest)
		}
	}
	if len(s.open) != 0 {
		t.Errorf("pins left: %v", s.open)
	}
}

func TestSpanOf(t *testing.T) {
	cases := []struct {
		rng                storage.Range
		start, end, prefix string
	}{
		{storage.Range{}, "\x01", "\x02", "\x01"},
		{storage.Prefix([]byte("ab")), "\x01ab", "\x01ac", "\x01ab"},
		{storage.Range{Start: []byte("abc"), End: []byte("abz")}, "\x01abc", "\x01abz", "\x01ab"},
		{storage.Range{Start: []byte("a"), End: []byte("z"), Reverse: true}, "\x01a", "\x01z", "\x01"},
		{storage.Range{Start: []byte("z"), End: []byte("a")}, "\x01z", "\x01a", "\x01"},
		{storage.Range{End: []byte{}}, "\x01", "\x01", "\x01"},
		{storage.Prefix([]byte("\xff")), "\x01\xff", "\x02", "\x01\xff"},
	}
	for _, c := range cases {
		got := spanOf(storage.Data, c.rng)
		if string(got.start) != c.start || string(got.end) != c.end || string(got.prefix) != c.prefix {
			t.Errorf("spanOf(%+v) = %q, %q, %q", c.rng, got.start, got.end, got.prefix)
		}
	}
}

func TestLogger(t *testing.T) {
	var out bytes.Buffer
	var l bdg.Logger = logger{log: slog.New(slog.NewTextHandler(&out, nil))}
	l.Debugf("quiet %d", 1)
	l.Infof("quiet %d", 2)
	l.Warningf("loud %d\n", 3)
	l.Errorf("loud %d", 4)
	if got := out.String(); strings.Contains(got, "quiet") || strings.Count(got, "\n") != 2 ||
		!strings.Contains(got, `level=WARN msg="badger: loud 3"`) || !strings.Contains(got, `level=ERROR msg="badger: loud 4"`) {
		t.Errorf("logged %q", got)
	}
}

func TestMappedErrors(t *testing.T) {
	for _, c := range []struct{ err, want error }{
		{bdg.ErrTxnTooBig, storage.ErrTooLarge},
		{bdg.ErrDBClosed, storage.ErrClosed},
		{fmt.Errorf("in text only: %s", "no space left on device"), storage.ErrNoSpace},
		{&os.PathError{Op: "write", Path: "x", Err: os.ErrPermission}, os.ErrPermission},
	} {
		if got := mapped(c.err); !errors.Is(got, c.want) || !errors.Is(got, c.err) {
			t.Errorf("mapped(%v) = %v, want %v", c.err, got, c.want)
		}
	}
	if mapped(nil) != nil {
		t.Error("mapped(nil) is an error")
	}
}

// TestEncryptedLogIsNotCutShort: behind a damaged record of an encrypted log, the batches that
// were acknowledged after it are noticed, though nothing in them can be read.
func TestEncryptedLogIsNotCutShort(t *testing.T) {
	dir, log := crashedWith(t, Options{EncryptionKey: bytes.Repeat([]byte{1}, 32)}, 5)
	change(t, log, func(data []byte) { data[logHeader+30] ^= 1 })
	_, err := Open(Options{Dir: dir, EncryptionKey: bytes.Repeat([]byte{1}, 32)})
	if !errors.Is(err, storage.ErrCorrupt) || !strings.Contains(err.Error(), "batches follow it") {
		t.Errorf("got %v, want ErrCorrupt because of the batches that follow", err)
	}
}
