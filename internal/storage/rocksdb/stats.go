package rocksdb

// #include "shim.h"
import "C"

import (
	"os"
	"path/filepath"
	"time"

	"github.com/dkvdb/dkv/internal/histogram"
	"github.com/dkvdb/dkv/internal/storage"
)

// Stats implements storage.Engine. CacheBytes and RowCacheBytes are those of the whole
// caches, even if other engines share them. A closed engine reports zeroes.
func (e *Engine) Stats() storage.Stats {
	if e.closed.Load() {
		return storage.Stats{}
	}
	var s C.dkv_statistics
	C.dkv_stats(e.native, &s)
	out := storage.Stats{
		MemtableBytes:          uint64(s.memtable_bytes),
		CacheBytes:             uint64(s.cache_bytes),
		SSTFiles:               uint64(s.sst_files),
		DiskBytes:              uint64(s.sst_bytes) + logBytes(e.dir),
		PendingCompactionBytes: uint64(s.pending_compaction_bytes),
		CompactionTime:         time.Duration(float64(s.compaction_seconds) * float64(time.Second)),
		Compactions:            uint64(s.compactions),
		EstimatedKeys:          uint64(s.estimated_keys),
		WriteStopped:           s.write_stopped != 0,
		Counted:                counted(&s),
	}
	e.rows.Fill(&out)
	for i := range out.ByLevel {
		out.ByLevel[i] = storage.Level{Files: uint64(s.level_files[i]), Bytes: uint64(s.level_bytes[i])}
	}
	return out
}

// The C++ part has the levels and buckets of the packages above, or this does not compile.
var (
	_ = [1]struct{}{}[storage.Levels-C.DKV_LEVELS]
	_ = [1]struct{}{}[histogram.Buckets-C.DKV_SYNC_BUCKETS]
	_ = [1]struct{}{}[histogram.Least/time.Microsecond-C.DKV_SYNC_LEAST_MICROS]
)

func counted(s *C.dkv_statistics) storage.Counted {
	out := storage.Counted{
		CacheHits:     uint64(s.cache_hits),
		CacheMisses:   uint64(s.cache_misses),
		FilterSkipped: uint64(s.filter_skipped),
		FilterPassed:  uint64(s.filter_passed),
		FilterFound:   uint64(s.filter_found),
		StallTime:     time.Duration(s.stall_micros) * time.Microsecond,
		Syncs:         histogram.Counts{Sum: time.Duration(s.sync_micros) * time.Microsecond},
	}
	for i := range out.Syncs.In {
		out.Syncs.In[i] = uint64(s.syncs[i])
	}
	return out
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
