package badger_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/badger"
	"github.com/dkvdb/dkv/internal/storage/enginetest"
)

// key returns a master key that differs for each n.
func key(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }

func sealed() enginetest.Factory {
	f := onDisk()
	f.Open = func(dir string) (enginetest.Engine, error) {
		return open(badger.Options{Dir: dir, EncryptionKey: key(1), MemtableBytes: 2 * badger.MinMemtableBytes, BlockCacheBytes: 1 << 20})
	}
	return f
}

func sealedDiskless() enginetest.Factory {
	f := sealed()
	return enginetest.Factory{
		Open: func(string) (enginetest.Engine, error) {
			return open(badger.Options{Diskless: true, EncryptionKey: key(1), MemtableBytes: 2 * badger.MinMemtableBytes, BlockCacheBytes: 1 << 20})
		},
		OpenCheckpoint: f.Open,
	}
}

func TestEncrypted(t *testing.T)         { enginetest.Run(t, sealed()) }
func TestEncryptedCrash(t *testing.T)    { enginetest.RunCrash(t, sealed()) }
func TestEncryptedDiskless(t *testing.T) { enginetest.Run(t, sealedDiskless()) }

// canary is a value that no file of an encrypted engine may contain.
const canary = "plaintext-canary-value"

// wantSealed fails if a file below dir contains the canary, as a key or as a value.
func wantSealed(t *testing.T, dir string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed by the engine meanwhile
		}
		files++
		if bytes.Contains(data, []byte(canary)) {
			t.Errorf("%s contains %s", path, canary)
		}
		return err
	})
	if err != nil || files == 0 {
		t.Errorf("%d files in %s: %v", files, dir, err)
	}
}

// fill writes values of all sizes that have a way of their own through the engine.
func fill(t *testing.T, e storage.Engine) {
	t.Helper()
	for i, size := range []int{1, 1 << 10, 2 << 20} {
		put(t, e, fmt.Sprintf("%s-%d", canary, i), []byte(strings.Repeat(canary, size/len(canary)+1)))
	}
}

// TestNothingIsInTheClear: neither logs nor tables nor checkpoints hold what was written.
func TestNothingIsInTheClear(t *testing.T) {
	for name, diskless := range map[string]bool{"on disk": false, "diskless": true} {
		t.Run(name, func(t *testing.T) {
			opts := badger.Options{Diskless: diskless, EncryptionKey: key(1), MemtableBytes: 2 * badger.MinMemtableBytes, ReserveBytes: -1}
			if !diskless {
				opts.Dir = t.TempDir()
			}
			e := mustOpen(t, opts)
			fill(t, e)
			checkpoint := filepath.Join(t.TempDir(), "checkpoint")
			if err := e.Checkpoint(checkpoint); err != nil {
				t.Fatal(err)
			}
			wantSealed(t, checkpoint)
			if !diskless {
				wantSealed(t, opts.Dir) // the log
				if err := e.Close(); err != nil {
					t.Fatal(err)
				}
				wantSealed(t, opts.Dir) // the tables
			}
			c := mustOpen(t, badger.Options{Dir: checkpoint, EncryptionKey: key(1), ReserveBytes: -1})
			wantValue(t, c, canary+"-0", []byte(canary))
		})
	}
}

// TestLoadIsNotInTheClear is the above for a bulk load, which has no log.
func TestLoadIsNotInTheClear(t *testing.T) {
	dir := t.TempDir()
	e := mustOpen(t, badger.Options{Dir: dir, EncryptionKey: key(1), ReserveBytes: -1})
	load, err := e.BeginLoad()
	if err != nil {
		t.Fatal(err)
	}
	var b storage.Batch
	b.Put(storage.Data, []byte(canary), []byte(strings.Repeat(canary, 100)))
	if err := errors.Join(load.Add(&b), load.Finish(), e.Close()); err != nil {
		t.Fatal(err)
	}
	wantSealed(t, dir)
}

// content returns a digest of every file below dir.
func content(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		files[path] = fmt.Sprintf("%x", sha256.Sum256(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestWrongKeyChangesNothing: a folder that cannot be opened with the keys that are given
// stays as it is, and the error says what to do.
func TestWrongKeyChangesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		with, open badger.Options
		says       string
	}{
		"no key":             {badger.Options{EncryptionKey: key(1)}, badger.Options{}, "the data is encrypted; set encryption-key-file"},
		"key, data in clear": {badger.Options{}, badger.Options{EncryptionKey: key(1)}, "the data is not encrypted, and encryption-key-file is set"},
		"another key":        {badger.Options{EncryptionKey: key(1)}, badger.Options{EncryptionKey: key(2)}, "with another key than that of encryption-key-file"},
		"another length":     {badger.Options{EncryptionKey: key(1)}, badger.Options{EncryptionKey: key(1)[:16]}, "with another key than that of encryption-key-file"},
		"neither key":        {badger.Options{EncryptionKey: key(1)}, badger.Options{EncryptionKey: key(2), PreviousKey: key(3)}, "neither the key of encryption-key-file nor"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c.with.Dir, c.open.Dir = dir, dir
			e := mustOpen(t, c.with)
			put(t, e, "k", []byte("v"))
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			// What a crash leaves of a log that was about to begin is removed when the engine opens.
			if err := os.WriteFile(filepath.Join(dir, "00099.mem"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			before := content(t, dir)
			_, err := badger.Open(c.open)
			if !errors.Is(err, storage.ErrBadOptions) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want one that says %q", err, c.says)
			}
			if after := content(t, dir); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("the folder has changed from %v to %v", before, after)
			}
			wantValue(t, mustOpen(t, c.with), "k", []byte("v"))
		})
	}
}

func TestMissingRegistryIsNotReplaced(t *testing.T) {
	dir := t.TempDir()
	opts := badger.Options{Dir: dir, EncryptionKey: key(1)}
	e := mustOpen(t, opts)
	put(t, e, "k", []byte("v"))
	if err := errors.Join(e.Close(), os.Remove(filepath.Join(dir, "KEYREGISTRY"))); err != nil {
		t.Fatal(err)
	}
	wantOpenErrorOf(t, opts, storage.ErrCorrupt, "KEYREGISTRY: missing, though there is data")
}

func wantOpenErrorOf(t *testing.T, opts badger.Options, want error, says string) {
	t.Helper()
	e, err := badger.Open(opts)
	if err == nil {
		e.Close()
	}
	if !errors.Is(err, want) || !strings.Contains(err.Error(), says) {
		t.Errorf("got %v, want %v that says %q", err, want, says)
	}
}

// TestMasterKeyIsReplaced: what was written with the previous key stays readable, the
// previous key opens nothing any more, and giving it again does no harm.
func TestMasterKeyIsReplaced(t *testing.T) {
	dir := t.TempDir()
	before := badger.Options{Dir: dir, EncryptionKey: key(1), ReserveBytes: -1}
	e := mustOpen(t, before)
	fill(t, e)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	after := badger.Options{Dir: dir, EncryptionKey: key(2)[:16], PreviousKey: key(1), ReserveBytes: -1}
	for range 2 {
		e = mustOpen(t, after)
		wantValue(t, e, canary+"-0", []byte(canary))
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	after.PreviousKey = nil
	e = mustOpen(t, after)
	fill(t, e)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	wantSealed(t, dir)
	wantOpenErrorOf(t, before, storage.ErrBadOptions, "with another key")
}

// TestReplacingTheMasterKeySurvivesACrash: what an interrupted replacement leaves beside
// the registry is in no one's way, and the registry is one or the other.
func TestReplacingTheMasterKeySurvivesACrash(t *testing.T) {
	dir := t.TempDir()
	before := badger.Options{Dir: dir, EncryptionKey: key(1)}
	e := mustOpen(t, before)
	put(t, e, "k", []byte("v"))
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "REWRITE-KEYREGISTRY"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	e = mustOpen(t, before)
	wantValue(t, e, "k", []byte("v"))
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	wantValue(t, mustOpen(t, badger.Options{Dir: dir, EncryptionKey: key(2), PreviousKey: key(1)}), "k", []byte("v"))
}

// TestDataKeysAreReplaced: tables of several data keys are read, also by verification.
func TestDataKeysAreReplaced(t *testing.T) {
	opts := badger.Options{Dir: t.TempDir(), EncryptionKey: key(1), KeyRotation: 1, MemtableBytes: badger.MinMemtableBytes, ReserveBytes: -1}
	for i := range 3 {
		e := mustOpen(t, opts)
		put(t, e, fmt.Sprint(i), []byte(canary))
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	e := mustOpen(t, opts)
	if err := e.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		wantValue(t, e, fmt.Sprint(i), []byte(canary))
	}
	wantSealed(t, opts.Dir)
}

func TestBadKeys(t *testing.T) {
	for name, opts := range map[string]badger.Options{
		"length":           {Dir: t.TempDir(), EncryptionKey: key(1)[:20]},
		"previous alone":   {Dir: t.TempDir(), PreviousKey: key(1)},
		"length, previous": {Dir: t.TempDir(), EncryptionKey: key(1), PreviousKey: key(1)[:5]},
	} {
		if _, err := badger.Open(opts); !errors.Is(err, storage.ErrBadOptions) {
			t.Errorf("%s: %v, want ErrBadOptions", name, err)
		}
	}
}
