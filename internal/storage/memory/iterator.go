package memory

import (
	"sync/atomic"

	"github.com/google/btree"

	"github.com/dkvdb/dkv/internal/storage"
)

// view is a state that was current once.
type view struct {
	closed *atomic.Bool // the engine's
	state  *state
}

func (v *view) Get(s storage.Space, key []byte) ([]byte, bool, error) {
	if v.closed.Load() {
		return nil, false, storage.ErrClosed
	}
	value, found := v.state.get(s, key)
	return value, found, nil
}

func (v *view) MultiGet(s storage.Space, keys [][]byte) ([][]byte, error) {
	if v.closed.Load() {
		return nil, storage.ErrClosed
	}
	return v.state.multiGet(s, keys), nil
}

func (v *view) Iterate(s storage.Space, r storage.Range) storage.Iterator {
	return newIterator(v.closed, v.state, s, r)
}

// Close has nothing to release: the garbage collector finds the state.
func (v *view) Close() {}

// block is how many pairs an iterator takes from the tree at once: the tree
// has no cursors, so each block costs a descent from the root.
const block = 64

// iterator walks over one tree, which never changes.
type iterator struct {
	closed *atomic.Bool // the engine's
	tree   *btree.BTreeG[pair]
	rng    storage.Range
	pairs  []pair // the present block
	at     int    // position in pairs, of the present pair
	last   bool   // nothing lies behind pairs
	done   bool   // closed
	err    error
}

func newIterator(closed *atomic.Bool, s *state, space storage.Space, r storage.Range) *iterator {
	// The caller keeps its slices.
	if r.Start != nil {
		r.Start = copyOf(r.Start)
	}
	if r.End != nil {
		r.End = copyOf(r.End)
	}
	return &iterator{closed: closed, tree: s.trees[space], rng: r, at: -1}
}

func (it *iterator) Next() bool {
	if it.done || it.err != nil {
		return false
	}
	if it.closed.Load() {
		it.err = storage.ErrClosed
		return false
	}
	it.at++
	if it.at >= len(it.pairs) && !it.last {
		it.fill()
	}
	return it.at < len(it.pairs)
}

// fill takes the block behind the present one.
func (it *iterator) fill() {
	var from []byte
	resume := len(it.pairs) > 0
	if resume {
		from = it.pairs[len(it.pairs)-1].key
	} else if it.rng.Reverse {
		from = it.rng.End
	} else {
		from = it.rng.Start
	}
	it.pairs, it.at, it.last = it.pairs[:0], 0, true
	take := func(p pair) bool {
		if (resume || it.rng.Reverse) && from != nil && string(p.key) == string(from) {
			return true // had before, or the excluded end itself
		}
		if !it.rng.Contains(p.key) {
			return false
		}
		if len(it.pairs) == block {
			it.last = false
			return false
		}
		it.pairs = append(it.pairs, p)
		return true
	}
	switch {
	case !it.rng.Reverse:
		it.tree.AscendGreaterOrEqual(pair{key: from}, take)
	case from == nil:
		it.tree.Descend(take)
	default:
		it.tree.DescendLessOrEqual(pair{key: from}, take)
	}
}

func (it *iterator) Key() []byte   { return it.pairs[it.at].key }
func (it *iterator) Value() []byte { return it.pairs[it.at].value }
func (it *iterator) Err() error    { return it.err }

func (it *iterator) Close() {
	it.done = true
	it.pairs = nil
}
