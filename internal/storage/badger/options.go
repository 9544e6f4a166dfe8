package badger

import (
	"fmt"
	"log/slog"
	"time"

	bdg "github.com/dgraph-io/badger/v4"
	bopt "github.com/dgraph-io/badger/v4/options"

	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/rowcache"
)

const (
	// DefaultBlockCacheBytes is the default of Options.BlockCacheBytes.
	DefaultBlockCacheBytes = 64 << 20
	// DefaultReserveBytes is the default of Options.ReserveBytes.
	DefaultReserveBytes = 256 << 20
	// DefaultVerifyInterval is the default of Options.VerifyInterval.
	DefaultVerifyInterval = 24 * time.Hour
	// DefaultKeyRotation is the default of Options.KeyRotation.
	DefaultKeyRotation = 10 * 24 * time.Hour

	// MaxBatchBytes is the largest Size of a batch that is written; a larger
	// one gets storage.ErrTooLarge.
	MaxBatchBytes = 11 << 20
	// MaxBatchOps is how many puts and deletes a batch may come to, counting
	// every key that a range delete finds.
	MaxBatchOps = 120_000
	// MaxKeyBytes is the longest key of any space; a longer one gets
	// storage.ErrTooLarge. Badger's own limit is for keys as they are stored.
	MaxKeyBytes = 65_000 - storedExtra
	// storedExtra is by how much a stored key is longer, that of a part.
	storedExtra = 5
)

const (
	// DefaultMemtableBytes is the default of Options.MemtableBytes, and what logs were
	// written with of which nothing is recorded. Badger takes 15 % of it for the largest
	// transaction: 80 MiB make 12 MiB, which is any batch in one piece.
	DefaultMemtableBytes = 80 << 20
	// MinMemtableBytes is the least of Options.MemtableBytes: it makes transactions
	// that a part of a value fits into.
	MinMemtableBytes = 8 << 20
	// valueThreshold is the size from which Badger would move a value to its value log. It
	// is the greatest that Badger accepts; maxInline keeps values below it.
	valueThreshold = 1 << 20
	// valueLogBytes is the nominal size of the value log, which stays empty: the least that
	// Badger accepts. It maps twice as much, of which a system reads ahead what it likes.
	valueLogBytes = 1 << 20
	blockBytes    = 4 << 10
	// minIndexCache is the least cache of the indices of encrypted tables, which cannot be
	// read from the mapped files: a few of them.
	minIndexCache = 4 << 20
	// compactors is the least that Badger accepts.
	compactors = 2
)

// Options say how to open an engine. The zero value of each field stands for
// its default.
type Options struct {
	// Dir is the engine's directory, which is created if it is missing. It
	// must be "" for a diskless engine.
	Dir string
	// Diskless keeps everything in memory; it is lost at Close.
	Diskless bool
	// BlockCacheBytes bounds the cache of uncompressed blocks.
	BlockCacheBytes int64
	// RowCache keeps whole pairs that Get has read, of any number of engines; nil for none. It
	// must outlive the engine.
	RowCache *rowcache.Cache
	// MemtableBytes is the size of a memory table, of which there are two at most. A
	// process with many engines makes it less, and pays with more and smaller tables on
	// disk, and with batches that are written in several steps.
	MemtableBytes int64
	// ReserveBytes is how much of the file system has to stay free: with less,
	// writes get storage.ErrNoSpace. Badger writes through memory maps, for
	// which a full disk is a fatal signal instead of an error, so there must
	// be room at all times for what it flushes and compacts by itself. Set it
	// lower for small data only. Negative turns the check off.
	ReserveBytes int64
	// VerifyInterval is the time between verifications of all tables in the
	// background. Negative turns them off.
	VerifyInterval time.Duration
	// EncryptionKey is the master key, of 16, 24 or 32 bytes, of all that the engine
	// writes, and of its checkpoints: AES of that length. Data in the clear is not
	// opened with a key, nor encrypted data without. Empty means in the clear.
	EncryptionKey []byte
	// PreviousKey is a master key that EncryptionKey replaces when the engine is opened.
	PreviousKey []byte
	// KeyRotation is the age at which a data key is replaced for what is written from
	// then on.
	KeyRotation time.Duration
	// Logger gets what Badger says: its warnings and errors as such, the rest
	// as debug. nil discards it.
	Logger *slog.Logger
}

// Validate checks whether the options can be used; its errors wrap
// storage.ErrBadOptions.
func (o Options) Validate() error {
	switch {
	case o.Diskless && o.Dir != "":
		return fmt.Errorf("%w: a diskless engine has no folder, but %s is given", storage.ErrBadOptions, o.Dir)
	case !o.Diskless && o.Dir == "":
		return fmt.Errorf("%w: no folder is given", storage.ErrBadOptions)
	case o.BlockCacheBytes < 0:
		return fmt.Errorf("%w: block cache of %d bytes", storage.ErrBadOptions, o.BlockCacheBytes)
	case o.MemtableBytes != 0 && o.MemtableBytes < MinMemtableBytes:
		return fmt.Errorf("%w: memory tables of %d bytes: give at least %d", storage.ErrBadOptions, o.MemtableBytes, MinMemtableBytes)
	case !validKey(o.EncryptionKey) || !validKey(o.PreviousKey):
		return fmt.Errorf("%w: an encryption key has 16, 24 or 32 bytes", storage.ErrBadOptions)
	case len(o.PreviousKey) > 0 && len(o.EncryptionKey) == 0:
		return fmt.Errorf("%w: a previous encryption key without the one that replaces it", storage.ErrBadOptions)
	case o.KeyRotation < 0:
		return fmt.Errorf("%w: data keys of age %s", storage.ErrBadOptions, o.KeyRotation)
	}
	return nil
}

// validKey reports whether a key is one of AES, or none.
func validKey(key []byte) bool {
	switch len(key) {
	case 0, 16, 24, 32:
		return true
	}
	return false
}

func (o Options) withDefaults() Options {
	if o.BlockCacheBytes == 0 {
		o.BlockCacheBytes = DefaultBlockCacheBytes
	}
	if o.MemtableBytes == 0 {
		o.MemtableBytes = DefaultMemtableBytes
	}
	if o.ReserveBytes == 0 {
		o.ReserveBytes = DefaultReserveBytes
	}
	if o.VerifyInterval == 0 {
		o.VerifyInterval = DefaultVerifyInterval
	}
	if o.KeyRotation == 0 {
		o.KeyRotation = DefaultKeyRotation
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// HeapBytes is how much of Go's heap an engine on disk holds at most while it is
// used: its block cache and two memory tables, one being filled and one being
// flushed. Tables that are being built come on top.
func (o Options) HeapBytes() int64 {
	o = o.withDefaults()
	// Badger makes a memory table's arena larger by the largest transaction.
	return o.BlockCacheBytes + o.indexCache() + 2*o.MemtableBytes*13/10
}

// indexCache is the size of the cache of the tables' indices. Those of tables in the clear
// are read from the mapped files.
func (o Options) indexCache() int64 {
	if len(o.EncryptionKey) == 0 || o.Diskless {
		return 0
	}
	return max(o.BlockCacheBytes/8, minIndexCache)
}

// txnLimits are what a transaction holds at most, with room for the marker of a write in
// several steps and for what Badger adds.
func (o Options) txnLimits() (bytes, ops int) {
	const nodeBytes = 96 // of a skip list's node, at its highest
	largest := int(o.MemtableBytes) * 15 / 100
	return largest - 64<<10, largest/nodeBytes - 64
}

// badger translates the options. What is in memory only is not encrypted. unflushed may be nil;
// see logger.
func (o Options) badger(unflushed chan error) bdg.Options {
	opts := bdg.DefaultOptions(o.Dir).
		WithInMemory(o.Diskless).
		WithLogger(logger{o.Logger, unflushed}).
		WithSyncWrites(true).
		WithDetectConflicts(false). // one writer at a time
		WithNumVersionsToKeep(1).
		WithMemTableSize(o.MemtableBytes).
		WithNumMemtables(1). // waiting to be flushed, beside the active one
		WithValueThreshold(valueThreshold).
		WithValueLogFileSize(valueLogBytes).
		WithBlockSize(blockBytes).
		WithBlockCacheSize(o.BlockCacheBytes).
		WithIndexCacheSize(o.indexCache()).
		WithCompression(bopt.Snappy).
		WithChecksumVerificationMode(bopt.OnBlockRead).
		WithVerifyValueChecksum(true).
		WithNumCompactors(compactors).
		WithMetricsEnabled(false).
		WithBypassLockGuard(true) // lock.go holds the lock
	if len(o.EncryptionKey) > 0 && !o.Diskless {
		opts = opts.WithEncryptionKey(o.EncryptionKey).WithEncryptionKeyRotationDuration(o.KeyRotation)
	}
	return opts
}
