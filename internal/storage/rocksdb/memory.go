package rocksdb

// #include "shim.h"
import "C"

import (
	"fmt"

	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/rowcache"
)

// Memory is a block cache, a row cache and a budget for write buffers that any
// number of engines share. It is safe for concurrent use.
type Memory struct {
	cache            *C.dkv_cache
	rows             *rowcache.Cache // nil for none
	budget           *C.dkv_write_budget
	writeBufferBytes int64
	// arenaBlock is by how much a memtable grows at a time. A block counts against the
	// budget as a whole: large blocks of many almost empty engines would use it up.
	arenaBlock int64
	engines    int // that share it, at least 1
}

const (
	// budgetBlocks is how many blocks make each memtable's share of the budget.
	budgetBlocks                 = 8
	minArenaBlock, maxArenaBlock = 4 << 10, 1 << 20
)

// Sizes are those of a Memory, in bytes.
type Sizes struct {
	// BlockCache is that of the cache of blocks, WriteBuffers the budget for writes that are not
	// in sorted files. Both are required.
	BlockCache, WriteBuffers int64
	// RowCache is that of the cache of whole pairs; 0 for none.
	RowCache int64
	// Engines is how many share all of it, at least 1.
	Engines int
}

// NewMemory makes memory of the given sizes. The caches take it only as they fill. The
// error wraps storage.ErrBadOptions, or is the system's.
func NewMemory(s Sizes) (*Memory, error) {
	o := Options{Dir: ".", BlockCacheBytes: s.BlockCache, RowCacheBytes: s.RowCache, WriteBufferBytes: s.WriteBuffers}
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if s.BlockCache == 0 || s.WriteBuffers == 0 {
		return nil, fmt.Errorf("%w: rocksdb: shared memory needs a size for its block cache and its write buffers", storage.ErrBadOptions)
	}
	m := &Memory{writeBufferBytes: s.WriteBuffers, engines: max(s.Engines, 1)}
	if s.RowCache > 0 {
		var err error
		if m.rows, err = rowcache.New(s.RowCache); err != nil {
			return nil, err
		}
	}
	m.cache = C.dkv_cache_new(C.size_t(s.BlockCache))
	m.budget = C.dkv_write_budget_new(C.size_t(s.WriteBuffers))
	m.arenaBlock = min(max(s.WriteBuffers/int64(m.engines*storage.Spaces*budgetBlocks), minArenaBlock), maxArenaBlock)
	return m, nil
}

// CacheBytes is how much the block cache holds.
func (m *Memory) CacheBytes() uint64 { return uint64(C.dkv_cache_used(m.cache)) }

// RowCacheBytes is how much the row cache holds.
func (m *Memory) RowCacheBytes() uint64 {
	if m.rows == nil {
		return 0
	}
	return m.rows.Bytes()
}

// WriteBufferBytes is how much of the budget the write buffers use.
func (m *Memory) WriteBufferBytes() uint64 { return uint64(C.dkv_write_budget_used(m.budget)) }

// Close releases the caches and the budget. The engines that use them must be
// closed before.
func (m *Memory) Close() {
	if m.cache == nil {
		return
	}
	C.dkv_cache_free(m.cache)
	C.dkv_write_budget_free(m.budget)
	m.cache, m.budget = nil, nil
	if m.rows != nil {
		m.rows.Close()
	}
}
