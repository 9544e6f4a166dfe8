package node

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"

	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/keyfile"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/badger"
	"github.com/dkvdb/dkv/internal/storage/rocksdb"
	"github.com/dkvdb/dkv/internal/storage/rowcache"
)

// Engines opens the engines of a node as its configuration says.
type Engines struct {
	cfg *config.Storage
	log *slog.Logger
	// memory is what all RocksDB engines of the process share.
	memory *rocksdb.Memory
	// rows is what all engines of the process share, whatever their kind; nil for none.
	rows *rowcache.Cache
	// files is how many files each of them may have open.
	files int
	// key and previousKey are the master keys of encryption-key-file and
	// encryption-previous-key-file; nil for none.
	key, previousKey []byte
	// count is how many engines share what the process has.
	count int
	// wrap is put around each engine that is opened to be written to; nil for none.
	wrap func(storage.Engine) storage.Engine
}

// newEngines divides what the process has among so many engines.
func newEngines(cfg *config.Storage, count int, log *slog.Logger, wrap func(storage.Engine) storage.Engine) (*Engines, error) {
	e := &Engines{cfg: cfg, log: log, count: count, files: filesEach(config.EngineFiles(config.OpenFiles()), count), wrap: wrap}
	var err error
	if e.key, e.previousKey, err = readKeys(cfg); err != nil {
		return nil, err
	}
	if cfg.RowCacheSize > 0 {
		if e.rows, err = rowcache.New(int64(cfg.RowCacheSize)); err != nil {
			return nil, fmt.Errorf("row-cache-size: %w", err)
		}
	}
	if cfg.Engine != config.RocksDB {
		if each := BadgerShare(cfg, count); count > 1 {
			log.Info("badger engines share memory", "engines", count, "block-cache-bytes-each", each.BlockCacheBytes,
				"memtable-bytes-each", each.MemtableBytes, "heap-bytes-at-most", int64(count)*each.HeapBytes())
		}
		return e, nil
	}
	if e.memory, err = rocksdb.NewMemory(blockCache(cfg), int64(cfg.WriteBufferSize), count); err != nil {
		e.rows.Close()
		return nil, err
	}
	return e, nil
}

// What the configuration allows, the cache takes.
const _ = uint(config.LeastRowCache - rowcache.MinBytes)

// blockCache is the part of block-cache-size that is for blocks, in bytes.
func blockCache(cfg *config.Storage) int64 {
	return max(int64(cfg.BlockCacheSize-cfg.RowCacheSize), leastCache)
}

// Open opens an engine of the configured kind.
func (e *Engines) Open(dir string) (storage.Engine, error) {
	engine, err := e.openRaw(dir)
	if err == nil && e.wrap != nil {
		engine = e.wrap(engine)
	}
	return engine, err
}

func (e *Engines) openRaw(dir string) (storage.Engine, error) {
	if e.cfg.Engine == config.Badger {
		opts := e.badger(dir)
		opts.Diskless, opts.RowCache = e.cfg.Diskless, e.rows
		return badger.Open(opts)
	}
	return rocksdb.Open(rocksdb.Options{
		Dir:          dir,
		Memory:       e.memory,
		RowCache:     e.rows,
		MaxOpenFiles: e.files,
		INI:          e.cfg.EngineINI,
		Logger:       e.log,
	})
}

const (
	// otherFiles is about how many files an engine has open beside its tables:
	// logs, a lock, and what a compaction writes.
	otherFiles = 24
	// leastTables is how many tables an engine must be able to have open.
	leastTables = 64
)

// filesEach is how many files each of so many engines may keep open for its tables.
func filesEach(all, engines int) int {
	return min(max(all/engines-otherFiles, leastTables), rocksdb.DefaultMaxOpenFiles)
}

// BatchLimit is what the configured engine writes atomically.
func (e *Engines) BatchLimit() storage.BatchLimit {
	if e.cfg.Engine == config.Badger {
		return storage.BatchLimit{Bytes: badger.MaxBatchBytes, Ops: badger.MaxBatchOps, Key: config.MaxBadgerKey}
	}
	return storage.BatchLimit{}
}

// leastFree is how many bytes the configured engine needs free on its file system. With
// less it fails every write.
func (e *Engines) leastFree() uint64 {
	if e.cfg.Engine == config.Badger {
		return badger.DefaultReserveBytes
	}
	return 0
}

// openKind opens a backup's engine, whatever its kind is, to be read once.
func (e *Engines) openKind(kind, dir string) (storage.Engine, error) {
	switch config.Engine(kind) {
	case config.RocksDB:
		return rocksdb.Open(rocksdb.Options{Dir: dir, BlockCacheBytes: copyCache, Logger: e.log})
	case config.Badger:
		return e.openBadgerCopy(dir)
	default:
		return nil, kv.Errorf(kv.Precondition, "engine %q is not known to this dkvsrv; use the one that made the backup", kind)
	}
}

const (
	// copyCache is the block cache of an engine that is opened to be copied.
	copyCache = 8 << 20
	// leastCache is used for a block cache that is turned off: the block that a read
	// is using has to be somewhere.
	leastCache = 1 << 20
)

func (e *Engines) badger(dir string) badger.Options {
	opts := BadgerShare(e.cfg, e.count)
	opts.Dir, opts.Logger = dir, e.log
	opts.EncryptionKey, opts.PreviousKey, opts.KeyRotation = e.key, e.previousKey, e.cfg.EncryptionRotation
	return opts
}

// openBadgerCopy opens a copy of a backup. One that is in the clear is opened as such on a
// node that encrypts, too: that is how its data comes to be encrypted.
func (e *Engines) openBadgerCopy(dir string) (storage.Engine, error) {
	opts := e.badger(dir)
	encrypted, err := badger.Encrypted(dir)
	if err != nil {
		return nil, err
	}
	if !encrypted {
		opts.EncryptionKey, opts.PreviousKey = nil, nil
	}
	return badger.Open(opts)
}

// readKeys reads the master keys, if there are any.
func readKeys(cfg *config.Storage) (key, previous []byte, err error) {
	if cfg.EncryptionKeyFile != "" {
		if key, err = keyfile.Read(cfg.EncryptionKeyFile); err != nil {
			return nil, nil, fmt.Errorf("encryption-key-file: %w", err)
		}
	}
	if cfg.PreviousKeyFile != "" {
		if previous, err = keyfile.Read(cfg.PreviousKeyFile); err != nil {
			return nil, nil, fmt.Errorf("encryption-previous-key-file: %w", err)
		}
	}
	return key, previous, nil
}

// Reopens returns why the data could not be opened again by this configuration, as a slave does that
// becomes a master: the files of its keys are read again then.
func (e *Engines) Reopens() error {
	if e.key == nil {
		return nil // what was opened without a key needs none
	}
	key, previous, err := readKeys(e.cfg)
	if err == nil && !bytes.Equal(key, e.key) && !bytes.Equal(previous, e.key) {
		err = errors.New("encryption-key-file: it has another key now than at the start, and encryption-previous-key-file does not have that one")
	}
	return err
}

// Unfit returns why the node could not be a master, as a slave is asked before it may become one.
func (n *Node) Unfit() error {
	if err := n.Engines.Reopens(); err != nil {
		return fmt.Errorf("it could not open its data again: %w", err)
	}
	return n.Certs.CallableByNodes()
}

// BadgerShare is the memory of each of so many Badger engines. They cannot share a cache,
// so each gets its part of what one engine would have, down to the least that Badger works
// with.
func BadgerShare(cfg *config.Storage, engines int) badger.Options {
	return badger.Options{
		BlockCacheBytes: max(blockCache(cfg)/int64(engines), leastCache),
		MemtableBytes:   max(badger.DefaultMemtableBytes/int64(engines), badger.MinMemtableBytes),
	}
}

// checkBadgerFits rejects more Badger engines than there is memory for, in bytes; 0 means
// that the memory is unknown.
func checkBadgerFits(cfg *config.Config, memory int64) error {
	count := len(LayoutOf(cfg).VBuckets)
	if cfg.Storage.Engine != config.Badger || count == 1 || memory == 0 {
		return nil
	}
	need := int64(count) * BadgerShare(&cfg.Storage, count).HeapBytes()
	if need <= memory {
		return nil
	}
	return fmt.Errorf("vbuckets: %d Badger engines may take %d MiB of memory for caches and memory tables, and this process has %d MiB: use --db-engine rocksdb, lower block-cache-size, or give it more memory",
		count, need>>20, memory>>20)
}

// close releases what the engines shared. They must be closed before.
func (e *Engines) close() {
	if e.memory != nil {
		e.memory.Close()
	}
	e.rows.Close()
}
