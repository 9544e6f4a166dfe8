package badger

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	bdg "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/fb"
	bopt "github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/badger/v4/y"
	"github.com/dgraph-io/ristretto/v2"

	"github.com/dkvdb/dkv/internal/storage"
)

// Badger encrypts tables and logs with data keys, which it replaces from time to time.
// They are in the key registry, a file beside the data, encrypted with the master key. The
// registry begins with an initialisation vector and a known text, encrypted as well, by
// which a master key is recognised.
const (
	registryIV   = 16
	registryText = "Hello Badger"
	// manifestReads is how often a manifest that is being written to is read.
	manifestReads = 5
)

// sealing is how an engine's key registry is encrypted.
type sealing int

const (
	noRegistry sealing = iota
	inTheClear
	encrypted
)

// Encrypted reports whether the engine in a folder is encrypted.
func Encrypted(dir string) (bool, error) {
	s, _, err := readSealing(dir)
	return s == encrypted, err
}

// Encrypted implements storage.Encrypting.
func (e *Engine) Encrypted() bool { return len(e.opts.EncryptionKey) > 0 }

// readSealing returns how the registry in a folder is encrypted, and its beginning.
func readSealing(dir string) (sealing, []byte, error) {
	path := filepath.Join(dir, bdg.KeyRegistryFileName)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return noRegistry, nil, nil
	}
	if err != nil {
		return noRegistry, nil, err
	}
	defer f.Close()
	head := make([]byte, registryIV+len(registryText))
	if _, err := io.ReadFull(f, head); err != nil {
		return noRegistry, nil, corrupt(path, "it has no beginning: %v", err)
	}
	if string(head[registryIV:]) == registryText {
		return inTheClear, head, nil
	}
	return encrypted, head, nil
}

// opens reports whether a master key is the one that a registry was encrypted with.
func opens(key, head []byte) bool {
	if len(key) == 0 {
		return false
	}
	text, err := y.XORBlockAllocate(bytes.Clone(head[registryIV:]), key, head[:registryIV])
	return err == nil && string(text) == registryText
}

// unlock checks, before anything else reads or changes the folder, that the data can be
// opened as the options say, and replaces the previous master key.
func (e *Engine) unlock() error {
	dir := e.opts.Dir
	sealed, head, err := readSealing(dir)
	if err != nil {
		return err
	}
	bad := func(text string) error { return fmt.Errorf("%w: %s: %s", storage.ErrBadOptions, dir, text) }
	key := e.opts.EncryptionKey
	switch {
	case sealed == noRegistry:
		if len(key) == 0 {
			return nil // Badger makes one
		}
		return refuseUnsealed(dir)
	case sealed == inTheClear && len(key) > 0:
		return bad("the data is not encrypted, and encryption-key-file is set; restore a backup of it into an empty db-folder with the key, or remove encryption-key-file")
	case sealed == inTheClear:
		return nil
	case len(key) == 0:
		return bad("the data is encrypted; set encryption-key-file to the file with its key")
	case opens(key, head):
		return nil
	case opens(e.opts.PreviousKey, head):
		return e.replaceMasterKey()
	case len(e.opts.PreviousKey) > 0:
		return bad("the data is encrypted with neither the key of encryption-key-file nor that of encryption-previous-key-file; name the file with its key (or, if this is that key, restore a backup: KEYREGISTRY is damaged)")
	default:
		return bad("the data is encrypted with another key than that of encryption-key-file; name the file with its key, or, to replace that key, name it as encryption-previous-key-file (or, if this is that key, restore a backup: KEYREGISTRY is damaged)")
	}
}

// refuseUnsealed fails if there is data in a folder without a key registry: what is written
// from now on would be encrypted, and what is there cannot be known to be.
func refuseUnsealed(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		switch filepath.Ext(entry.Name()) {
		case ".sst", ".mem":
			return corrupt(filepath.Join(dir, bdg.KeyRegistryFileName), "missing, though there is data")
		}
	}
	return nil
}

// replaceMasterKey encrypts the data keys with the new master key. The registry is replaced
// by one rename, so a crash leaves it as it was or as it is meant to be.
func (e *Engine) replaceMasterKey() error {
	registry, err := openRegistry(e.opts.Dir, e.opts.PreviousKey)
	if err != nil {
		return err
	}
	err = bdg.WriteKeyRegistry(registry, bdg.KeyRegistryOptions{Dir: e.opts.Dir, EncryptionKey: e.opts.EncryptionKey})
	if err != nil {
		return fmt.Errorf("replace the master key of %s: %w", e.opts.Dir, mapped(err))
	}
	e.opts.Logger.Info("badger: replaced the master key", "folder", e.opts.Dir)
	return nil
}

// openRegistry reads the data keys.
func openRegistry(dir string, key []byte) (*bdg.KeyRegistry, error) {
	registry, err := bdg.OpenKeyRegistry(bdg.KeyRegistryOptions{Dir: dir, ReadOnly: true, EncryptionKey: key})
	if err != nil {
		return nil, corrupt(filepath.Join(dir, bdg.KeyRegistryFileName), "%v", err)
	}
	return registry, nil
}

// keyring has what it takes to read the tables of an engine without the engine. That of an
// engine in the clear is nil.
type keyring struct {
	registry *bdg.KeyRegistry
	index    *ristretto.Cache[uint64, *fb.TableIndex]
}

// newKeyring reads the data keys in a folder. The keyring must be closed.
func newKeyring(dir string, key []byte) (*keyring, error) {
	if len(key) == 0 {
		return nil, nil
	}
	registry, err := openRegistry(dir, key)
	if err != nil {
		return nil, err
	}
	index, err := ristretto.NewCache(&ristretto.Config[uint64, *fb.TableIndex]{
		NumCounters: 64, MaxCost: minIndexCache, BufferItems: 64,
	})
	if err != nil {
		return nil, err
	}
	return &keyring{registry: registry, index: index}, nil
}

func (k *keyring) close() {
	if k != nil {
		k.index.Close()
	}
}

// unlock sets the data key of a table, which the manifest knows by its number.
func (k *keyring) unlock(o *table.Options, keyID uint64) error {
	if keyID == 0 {
		return nil
	}
	if k == nil {
		return errors.New("it is encrypted, and the others are not")
	}
	var err error
	var data *pb.DataKey
	if data, err = k.registry.DataKey(keyID); err != nil {
		return err
	}
	o.DataKey, o.IndexCache = data, k.index
	return nil
}

// keysOf returns the keys of an open engine's tables, and what the manifest says of them.
// The manifest names a table before the engine has it, and drops it before the engine does.
func (e *Engine) keysOf(tables []bdg.TableInfo) (*keyring, map[uint64]bdg.TableManifest, error) {
	if len(e.opts.EncryptionKey) == 0 {
		known := make(map[uint64]bdg.TableManifest)
		for _, t := range tables {
			known[t.ID] = bdg.TableManifest{Compression: bopt.Snappy}
		}
		return nil, known, nil
	}
	var manifest bdg.Manifest
	var err error
	// A change that is being appended to the manifest fails its checksum.
	for range manifestReads {
		if manifest, err = readManifest(e.opts.Dir); err == nil {
			break
		}
	}
	if err != nil {
		return nil, nil, corrupt(filepath.Join(e.opts.Dir, bdg.ManifestFilename), "%v", err)
	}
	keys, err := newKeyring(e.opts.Dir, e.opts.EncryptionKey)
	return keys, manifest.Tables, err
}
