package rowcache

import (
	"fmt"
	"hash/maphash"
	"math/bits"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	// MinBytes is the least size of a cache.
	MinBytes = 1 << 20

	// maxShards bounds how many shards there are. A write keeps rows from being added to its keys'
	// shards, so there are many more of them than processors.
	maxShards = 256
	// leastShard is the size from which a shard is worth its lock.
	leastShard = 32 << 10
	// bytesPerSlot is how many bytes of rows there are for each slot.
	bytesPerSlot = 128
)

// Cache is the memory for rows of any number of engines. It is safe for concurrent use. A
// nil Cache keeps none.
type Cache struct {
	seed   maphash.Seed
	memory []byte
	shards []shard
	// engines is the last number that was given to one.
	engines atomic.Uint64
	// filled is what Bytes returns.
	filled atomic.Uint64
}

// New makes a cache of that many bytes, at least MinBytes. It takes memory as it fills.
func New(size int64) (*Cache, error) {
	if size < MinBytes {
		return nil, fmt.Errorf("a row cache of %d bytes: give at least %d", size, MinBytes)
	}
	shards := int64(1) << (bits.Len64(uint64(min(size/leastShard, maxShards))) - 1)
	each := size / shards
	buckets := int64(1) << (bits.Len64(uint64(each/(bytesPerSlot*bucketSlots))) - 1)
	table := buckets * bucketBytes
	ring := (each - table) &^ (align - 1)
	memory, err := unix.Mmap(-1, 0, int(shards*(table+ring)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("memory for a row cache of %d bytes: %w", size, err)
	}
	c := &Cache{seed: maphash.MakeSeed(), memory: memory, shards: make([]shard, shards)}
	for i := range c.shards {
		c.shards[i].filled = &c.filled
		c.shards[i].table, memory = memory[:table:table], memory[table:]
		c.shards[i].ring, memory = memory[:ring:ring], memory[ring:]
		c.shards[i].head = align // 0 is no place
	}
	return c, nil
}

// Bytes is the memory that rows have filled so far.
func (c *Cache) Bytes() uint64 {
	if c == nil {
		return 0
	}
	return c.filled.Load()
}

// Close gives the memory back. The engines that use the cache must be closed before.
func (c *Cache) Close() {
	if c == nil {
		return
	}
	memory := c.memory
	c.memory, c.shards = nil, nil
	if memory != nil {
		_ = unix.Munmap(memory) // fails only if it is no such memory
	}
}

// hash decides which shard a key belongs to, and where in it.
func (c *Cache) hash(key []byte) uint64 { return maphash.Bytes(c.seed, key) }

// shard is where the rows of keys with that hash are.
func (c *Cache) shard(hash uint64) (*shard, int) {
	i := int(hash >> tagBits & uint64(len(c.shards)-1))
	return &c.shards[i], i
}

// Rows returns the rows of an engine that is being opened: none so far.
func (c *Cache) Rows() *Rows {
	if c == nil {
		return nil
	}
	r := &Rows{cache: c}
	r.number.Store(c.engines.Add(1))
	return r
}
