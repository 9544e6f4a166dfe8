package rocksdb

// #include "shim.h"
import "C"

import (
	"os"
	"path/filepath"
	"time"

	"github.com/dkvdb/dkv/internal/storage"
)

// Stats implements storage.Engine. CacheBytes is that of the whole cache, even
// if other engines share it. A closed engine reports zeroes.
func (e *Engine) Stats() storage.Stats {
	if e.closed.Load() {
		return storage.Stats{}
	}
	var s C.dkv_statistics
	C.dkv_stats(e.native, &s)
	return storage.Stats{
		MemtableBytes:          uint64(s.memtable_bytes),
		CacheBytes:             uint64(s.cache_bytes),
		SSTFiles:               uint64(s.sst_files),
		DiskBytes:              uint64(s.sst_bytes) + logBytes(e.dir),
		PendingCompactionBytes: uint64(s.pending_compaction_bytes),
		CompactionTime:         time.Duration(float64(s.compaction_seconds) * float64(time.Second)),
		Compactions:            uint64(s.compactions),
		EstimatedKeys:          uint64(s.estimated_keys),
	}
}

// MemtableBytes implements storage.MemtableSizer.
func (e *Engine) MemtableBytes() uint64 {
	if e.closed.Load() {
		return 0
	}
	return uint64(C.dkv_memtable_bytes(e.native))
}

// logBytes is the size of the write-ahead log. Files that vanish meanwhile
// count nothing.
func logBytes(dir string) uint64 {
	names, err := logFiles(dir)
	if err != nil {
		return 0
	}
	var total uint64
	for _, name := range names {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil {
			total += uint64(info.Size())
		}
	}
	return total
}
