package rowcache

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/dkvdb/dkv/internal/storage"
)

// Rows are the rows of one engine. They are safe for concurrent use. Nil Rows are of a
// nil Cache: there is never one.
type Rows struct {
	cache *Cache
	// number is the engine's in its rows; 0 while they are hidden.
	number atomic.Uint64

	mu sync.Mutex
	// hiding is how many writes that delete ranges are under way.
	hiding int

	counts [countShares]struct {
		hits, misses atomic.Uint64
		_            [48]byte // see shard
	}
}

// countShares is how many parts hits and misses are counted in, so that readers do not wait for
// each other to count.
const countShares = 8

// Miss is what it takes to add a row that was not found. The zero value adds nothing.
type Miss struct {
	hash, version, engine uint64
}

// Read returns the value of key, from its row or by a search of the engine, whose result it keeps.
func (r *Rows) Read(key []byte, search func() ([]byte, bool, error)) ([]byte, bool, error) {
	value, miss := r.Get(key)
	if value != nil {
		return value, true, nil
	}
	value, found, err := search()
	if found && err == nil {
		r.Add(key, value, miss)
	}
	return value, found, err
}

// Get returns a copy of the row's value, or nil and a Miss for Add.
func (r *Rows) Get(key []byte) ([]byte, Miss) {
	if r == nil {
		return nil, Miss{}
	}
	hash := r.cache.hash(key)
	s, i := r.cache.shard(hash)
	counts := &r.counts[i%countShares]
	s.mu.Lock()
	defer s.mu.Unlock()
	engine := r.number.Load()
	if slot, found := s.find(hash, engine, key); slot != nil {
		counts.hits.Add(1)
		value := append(make([]byte, 0, len(found)), found...)
		if s.old(slot) {
			remove(slot)
			s.add(hash, engine, key, value)
		}
		return value, Miss{}
	}
	counts.misses.Add(1)
	if engine == 0 || s.writing > 0 {
		return nil, Miss{}
	}
	return nil, Miss{hash: hash, version: s.version, engine: engine}
}

// Add keeps what the engine has returned for a key that was missed. It copies both slices.
func (r *Rows) Add(key, value []byte, m Miss) {
	if m.engine == 0 {
		return
	}
	s, _ := r.cache.shard(m.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.version != m.version {
		return
	}
	if slot, _ := s.find(m.hash, m.engine, key); slot == nil {
		s.add(m.hash, m.engine, key, value)
	}
}

// Fill sets the figures of the row cache in those of the engine. The bytes are the whole cache's.
func (r *Rows) Fill(s *storage.Stats) {
	if r == nil {
		return
	}
	s.RowCacheBytes = r.cache.Bytes()
	s.Counted.RowHits, s.Counted.RowMisses = r.Counts()
}

// Counts returns how often Get has found a row, and how often not.
func (r *Rows) Counts() (hits, misses uint64) {
	if r == nil {
		return 0, 0
	}
	for i := range r.counts {
		hits += r.counts[i].hits.Load()
		misses += r.counts[i].misses.Load()
	}
	return hits, misses
}

// Write is a write of an engine that is under way. The zero value is one that has not begun.
type Write struct {
	rows   *Rows
	shards [maxShards / 64]uint64 // a bit for each shard that it holds
	ranges bool
}

// Begin announces what a batch changes. The engine may write it then, and has to call End
// afterwards, also after an error of Begin or of its own. A write of several batches, which become visible
// together, begins with each of them.
func (w *Write) Begin(r *Rows, b *storage.Batch) error {
	if r == nil {
		return nil
	}
	w.rows = r
	return b.Each(func(op storage.Op) error {
		switch {
		case op.Space != storage.Data:
		case op.Kind == storage.OpDeleteRange:
			w.hide()
		default:
			w.forget(op.Key)
		}
		return nil
	})
}

// forget removes the row of a key, and keeps its shard from taking another one.
func (w *Write) forget(key []byte) {
	hash := w.rows.cache.hash(key)
	s, i := w.rows.cache.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if bit := uint64(1) << (i % 64); w.shards[i/64]&bit == 0 {
		w.shards[i/64] |= bit
		s.writing++
		s.version++
	}
	// With the number of now: rows of a later one cannot come into this shard any more.
	if slot, _ := s.find(hash, w.rows.number.Load(), key); slot != nil {
		remove(slot)
	}
}

// hide makes all rows of the engine unknown.
func (w *Write) hide() {
	if w.ranges {
		return
	}
	w.ranges = true
	r := w.rows
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hiding++
	r.number.Store(0)
}

// End says that the engine shows what it was to write, or has failed to write it. It may be called again.
func (w *Write) End() {
	for i, held := range w.shards {
		for ; held != 0; held &= held - 1 {
			s := &w.rows.cache.shards[i*64+bits.TrailingZeros64(held)]
			s.mu.Lock()
			s.writing--
			s.mu.Unlock()
		}
	}
	if w.ranges {
		w.rows.show()
	}
	*w = Write{}
}

// show ends a hide; the last one gives the engine a number that none of its rows has.
func (r *Rows) show() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hiding--; r.hiding == 0 {
		r.number.Store(r.cache.engines.Add(1))
	}
}
