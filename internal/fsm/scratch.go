package fsm

import (
	"slices"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// scratch is memory that Apply uses again.
type scratch struct {
	batch   storage.Batch
	changes changelog.Writer
	state   []byte
	expiry  []byte
	effects []kv.Mutation
	keys    [][]byte
	known   map[string]*current
	olds    []current
}

// maxScratch is how many keys scratch stays ready for: a batch beyond it pays
// for its own memory, and no later one pays for clearing that.
const maxScratch = 1 << 14

// reserve makes known ready and returns n zero values for it.
func (s *scratch) reserve(n int) []current {
	if s.known == nil {
		s.known = make(map[string]*current)
	}
	s.olds = slices.Grow(s.olds, n)[:n]
	return s.olds
}

// release empties what points into requests and stored values, so that they are
// not kept from the garbage collector until the next batch.
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
