package fsm

import (
	"fmt"
	"sync"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// ErrRevoked is returned by a view that was open when the machine had to be closed. It
// is an ErrClosed.
var ErrRevoked = fmt.Errorf("%w: the read took so long that it was given up, because storage had to be opened again; begin it again", ErrClosed)

// View is a pinned state of the machine. It must be closed, and keeps the
// machine from closing until then, unless it is revoked.
type View struct {
	m     *Machine
	view  storage.View
	state state

	// mu is held by who reads, and exclusively by who revokes or closes.
	mu      sync.RWMutex
	revoked bool
	closed  bool
}

// View pins the present state.
func (m *Machine) View() (*View, error) {
	if !m.gate.enter() {
		return nil, ErrClosed
	}
	v := &View{m: m}
	if err := v.open(); err != nil {
		v.Close()
		return nil, err
	}
	return v, nil
}

func (v *View) open() error {
	var err error
	if v.view, err = v.m.engine.NewView(); err != nil {
		return err
	}
	if v.state, err = readState(v.view); err != nil {
		return err
	}
	v.m.views.add(v)
	return nil
}

// enter lets the caller read the engine, until it calls leave.
func (v *View) enter() error {
	v.mu.RLock()
	if v.revoked {
		v.mu.RUnlock()
		return ErrRevoked
	}
	return nil
}

func (v *View) leave() { v.mu.RUnlock() }

// read calls f with the pinned state.
func (v *View) read(f func(storage.Reader) error) error {
	if err := v.enter(); err != nil {
		return err
	}
	defer v.leave()
	return f(v.view)
}

// Close releases the state. It is idempotent, and no other use of the view may
// run concurrently.
func (v *View) Close() {
	v.mu.Lock()
	closed, revoked := v.closed, v.revoked
	v.closed = true
	v.mu.Unlock()
	switch {
	case closed:
	case revoked:
		v.m.release(v.view)
	default:
		v.m.views.remove(v)
		if v.view != nil {
			v.view.Close()
		}
		v.m.gate.leave()
	}
}

// release closes what was opened before its view was revoked. A closed engine has
// released it by itself.
func (m *Machine) release(c interface{ Close() }) {
	if m.gate.enter() {
		c.Close()
		m.gate.leave()
	}
}

// revoke ends the view for its reader, and reports whether it was open. It waits for a
// read that is under way.
func (v *View) revoke() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed || v.revoked {
		return false
	}
	v.revoked = true
	v.m.gate.leave()
	return true
}

// views are the open views of a machine.
type views struct {
	mu   sync.Mutex
	open map[*View]struct{}
}

func (s *views) add(v *View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[*View]struct{})
	}
	s.open[v] = struct{}{}
}

func (s *views) remove(v *View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, v)
}

// revoke revokes all views and returns how many.
func (s *views) revoke() (n int) {
	s.mu.Lock()
	open := s.open
	s.open = nil
	s.mu.Unlock()
	for v := range open {
		if v.revoke() {
			n++
		}
	}
	return n
}

// Index returns the log index that the view reflects.
func (v *View) Index() kv.Index { return v.state.applied }

// Clock returns the log's clock at that index.
func (v *View) Clock() kv.Clock { return v.state.clock }

// Identity returns the ids of the state.
func (v *View) Identity() Identity { return v.m.Identity() }

// Get is Machine.Get of the view's state.
func (v *View) Get(key []byte, now kv.Clock) (pair kv.Pair, found bool, err error) {
	err = v.read(func(r storage.Reader) error {
		stored, there, err := r.Get(storage.Data, key)
		if err == nil && there {
			pair, found, err = parsePair(key, stored, now)
		}
		return err
	})
	return pair, found, v.m.note(err)
}

// MultiGet returns the pairs of those keys that are there as of now, in the
// order of keys.
func (v *View) MultiGet(keys [][]byte, now kv.Clock) ([]kv.Pair, error) {
	var pairs []kv.Pair
	err := v.read(func(r storage.Reader) error {
		stored, err := r.MultiGet(storage.Data, keys)
		if err == nil {
			pairs, err = livePairs(keys, stored, now)
		}
		return err
	})
	return pairs, v.m.note(err)
}

// Iterate walks the live keys of r as of now. The iterator must be closed before
// the view is.
func (v *View) Iterate(r storage.Range, now kv.Clock) *Iterator {
	return &Iterator{it: v.walk(storage.Data, r), now: now}
}

// walk walks over a range of a space.
func (v *View) walk(s storage.Space, r storage.Range) viewIterator {
	if err := v.enter(); err != nil {
		return viewIterator{v: v, err: err}
	}
	defer v.leave()
	return viewIterator{v: v, it: v.view.Iterate(s, r)}
}

// viewIterator walks over stored pairs, which it copies: the engine's memory may go
// when the view is revoked, while the reader still has the last pair in hand.
type viewIterator struct {
	v          *View
	it         storage.Iterator // nil where err was there from the beginning
	key, value []byte
	err        error
}

func (i *viewIterator) next() bool {
	if i.err != nil {
		return false
	}
	if i.err = i.v.enter(); i.err != nil {
		return false
	}
	defer i.v.leave()
	if !i.it.Next() {
		i.err = i.it.Err()
		return false
	}
	i.key = append(i.key[:0], i.it.Key()...)
	i.value = append(i.value[:0], i.it.Value()...)
	return true
}

func (i *viewIterator) close() {
	if i.it == nil {
		return
	}
	if i.v.enter() == nil {
		i.it.Close()
		i.v.leave()
	} else {
		i.v.m.release(i.it)
	}
	i.it = nil
}

// Iterator walks over live pairs; see storage.Iterator for how it is used. The
// pair's slices are valid until the next call of Next or Close.
type Iterator struct {
	it   viewIterator
	now  kv.Clock
	pair kv.Pair
	err  error
}

// Next moves to the next live pair and reports whether there is one.
func (i *Iterator) Next() bool {
	for i.err == nil && i.it.next() {
		var live bool
		i.pair, live, i.err = parsePair(i.it.key, i.it.value, i.now)
		if live {
			return true
		}
	}
	return false
}

// Pair returns the present pair.
func (i *Iterator) Pair() kv.Pair { return i.pair }

// Err returns what ended the walk early, if anything did.
func (i *Iterator) Err() error {
	if i.err != nil {
		return i.it.v.m.note(i.err)
	}
	return i.it.v.m.note(i.it.err)
}

// Close releases the iterator.
func (i *Iterator) Close() { i.it.close() }
