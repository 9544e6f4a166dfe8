package rocksdb

// #include "shim.h"
import "C"

import (
	"fmt"

	"github.com/dkvdb/dkv/internal/storage"
)

// Memory is a block cache and a budget for write buffers that any number of
// engines share. It is safe for concurrent use.
type Memory struct {
	cache            *C.dkv_cache
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

// NewMemory makes a block cache of cacheBytes and a write buffer budget of
// writeBufferBytes, to be shared by that many engines. The cache takes memory only as it
// fills. The error wraps storage.ErrBadOptions.
func NewMemory(cacheBytes, writeBufferBytes int64, engines int) (*Memory, error) {
	o := Options{Dir: ".", BlockCacheBytes: cacheBytes, WriteBufferBytes: writeBufferBytes}
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if cacheBytes == 0 || writeBufferBytes == 0 {
		return nil, fmt.Errorf("%w: rocksdb: shared memory needs a size for its block cache and its write buffers", storage.ErrBadOptions)
	}
	engines = max(engines, 1)
	return &Memory{
		engines:          engines,
		cache:            C.dkv_cache_new(C.size_t(cacheBytes)),
		budget:           C.dkv_write_budget_new(C.size_t(writeBufferBytes)),
		writeBufferBytes: writeBufferBytes,
		arenaBlock:       min(max(writeBufferBytes/int64(engines*storage.Spaces*budgetBlocks), minArenaBlock), maxArenaBlock),
	}, nil
}

// CacheBytes is how much the block cache holds.
func (m *Memory) CacheBytes() uint64 { return uint64(C.dkv_cache_used(m.cache)) }

// WriteBufferBytes is how much of the budget the write buffers use.
func (m *Memory) WriteBufferBytes() uint64 { return uint64(C.dkv_write_budget_used(m.budget)) }

// Close releases the cache and the budget. The engines that use them must be
// closed before.
func (m *Memory) Close() {
	if m.cache == nil {
		return
	}
	C.dkv_cache_free(m.cache)
	C.dkv_write_budget_free(m.budget)
	m.cache, m.budget = nil, nil
}
