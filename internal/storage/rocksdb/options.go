package rocksdb

import (
	"fmt"
	"log/slog"
	"runtime"

	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/rowcache"
)

// Defaults of Options.
const (
	DefaultBlockCacheBytes  = 512 << 20
	DefaultWriteBufferBytes = 64 << 20
	DefaultMaxOpenFiles     = 4096

	minBlockCacheBytes  = 1 << 20
	minWriteBufferBytes = 1 << 20
	minMaxOpenFiles     = 64
)

// Options say how to open an engine. Only Dir is required; a zero field means
// its default.
type Options struct {
	// Dir is the folder of the database. It is created if it is missing.
	Dir string

	// Memory is a block cache and a write buffer budget shared with other
	// engines. It must outlive the engine. nil gives the engine its own, of
	// the two sizes below.
	Memory *Memory
	// RowCache keeps whole pairs that Get has read, of any number of engines; nil for none. It
	// must outlive the engine.
	RowCache *rowcache.Cache
	// BlockCacheBytes is the size of the cache of uncompressed blocks, indexes
	// and filters (default 512 MiB). Ignored if Memory is set.
	BlockCacheBytes int64
	// WriteBufferBytes limits the memory of writes that are not yet in sorted
	// files (default 64 MiB). More makes fewer and larger files, and longer
	// recovery: the log may grow to twice as much. If Memory is set, its
	// budget is the limit and this one only sizes the engine's own buffers; it
	// defaults to that budget then.
	WriteBufferBytes int64

	// MaxOpenFiles is how many file descriptors the engine may hold (default
	// 4096); -1 for no limit, which spares a lookup per read.
	MaxOpenFiles int
	// BackgroundJobs is how many flushes and compactions run at a time
	// (default: the number of processors, at least 2 and at most 4). The
	// threads are shared by all engines of the process.
	BackgroundJobs int

	// INI is the path of a file of raw RocksDB options, which win over the
	// engine's own; "" for none. The package comment describes its form.
	INI string

	// Logger receives what an operator should know of opening and recovery;
	// nil discards it. RocksDB's own messages, warnings and worse, go to the
	// files LOG* in Dir, the first of which creates the file.
	Logger *slog.Logger
}

// Validate checks the options and returns an error that wraps
// storage.ErrBadOptions for the first that cannot be used.
func (o Options) Validate() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: rocksdb: %s", storage.ErrBadOptions, fmt.Sprintf(format, args...))
	}
	switch {
	case o.Dir == "":
		return bad("no folder is given")
	case o.BlockCacheBytes != 0 && o.BlockCacheBytes < minBlockCacheBytes:
		return bad("block cache of %d bytes: give at least %d", o.BlockCacheBytes, minBlockCacheBytes)
	case o.WriteBufferBytes != 0 && o.WriteBufferBytes < minWriteBufferBytes:
		return bad("write buffer of %d bytes: give at least %d", o.WriteBufferBytes, minWriteBufferBytes)
	case o.MaxOpenFiles != 0 && o.MaxOpenFiles != -1 && o.MaxOpenFiles < minMaxOpenFiles:
		return bad("max open files %d: give -1 for no limit, or at least %d", o.MaxOpenFiles, minMaxOpenFiles)
	case o.BackgroundJobs != 0 && o.BackgroundJobs < 2:
		return bad("background jobs %d: give at least 2, one flush and one compaction", o.BackgroundJobs)
	}
	return nil
}

// withDefaults fills in the zero fields.
func (o Options) withDefaults() Options {
	if o.BlockCacheBytes == 0 {
		o.BlockCacheBytes = DefaultBlockCacheBytes
	}
	if o.WriteBufferBytes == 0 {
		o.WriteBufferBytes = DefaultWriteBufferBytes
		if o.Memory != nil {
			o.WriteBufferBytes = o.Memory.writeBufferBytes
		}
	}
	if o.MaxOpenFiles == 0 {
		o.MaxOpenFiles = DefaultMaxOpenFiles
	}
	if o.BackgroundJobs == 0 {
		o.BackgroundJobs = min(max(runtime.GOMAXPROCS(0), 2), 4)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}
