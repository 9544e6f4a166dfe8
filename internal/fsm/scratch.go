package fsm

import (
	"slices"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// scratch is memory that Apply reuses.
type scratch struct {
	batch   storage.Batch
	changes changelog.Writer
	state   []byte
	expiry  []byte
	effects []kv.Mutation
	cause   kv.ChangeRequest
	keys    [][]byte
	known   map[string]*current
	olds    []current
}

// maxScratch is the largest number of keys for which the memory is kept. A larger batch
// allocates its own memory, and later ones need not clear it.
const maxScratch = 1 << 14

// reserve prepares known and returns n zero values for it.
func (s *scratch) reserve(n int) []current {
	if s.known == nil {
		s.known = make(map[string]*current)
	}
	s.olds = slices.Grow(s.olds, n)[:n]
	return s.olds
}

// release drops the pointers to requests and stored values, so that the garbage collector
// need not wait for the next batch.
func (s *scratch) release() {
	if max(cap(s.effects), cap(s.keys), cap(s.olds)) > maxScratch {
		s.effects, s.keys, s.olds, s.known = nil, nil, nil, nil
		return
	}
	clear(s.effects[:cap(s.effects)])
	clear(s.keys)
	clear(s.olds)
	clear(s.known)
	s.effects, s.keys, s.olds = s.effects[:0], s.keys[:0], s.olds[:0]
}
