package fsm

import (
	"fmt"
	"sync"

	"github.com/dkvdb/dkv/internal/fsm/layout"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// ErrRevoked is returned by a view that was open when the machine had to be closed. It wraps
// ErrClosed.
var ErrRevoked = fmt.Errorf("%w: the read took too long and was ended, because storage had to be reopened; start it again", ErrClosed)

// View is a pinned state of the machine. It must be closed, and until then the machine cannot
// be closed, except by revoking the view.
type View struct {
	m     *Machine
	view  storage.View
	state layout.State
	// histories are those of the state, whatever becomes of the machine.
	histories *histories

	// mu is held for reading by reads, and for writing by revoke and Close.
	mu      sync.RWMutex
	revoked bool
	closed  bool
}

// View pins the current state.
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
	if v.state, err = layout.ReadState(v.view); err != nil {
		return err
	}
	if v.histories, err = v.m.historiesAt(v.view, v.state.Applied); err != nil {
		return err
	}
	v.m.views.add(v)
	return nil
}

// enter lets the caller read the engine until it calls leave.
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

// Close releases the state. It is idempotent, and must not run concurrently with any other
// use of the view.
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

// release closes what was opened before its view was revoked, unless the engine is closed,
// which has released it already.
func (m *Machine) release(c interface{ Close() }) {
	if m.gate.enter() {
		c.Close()
		m.gate.leave()
	}
}

// revoke makes further reads of the view fail, and reports whether it was open. It waits for
// a read that is running.
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

// revoke revokes all views and returns how many there were.
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
func (v *View) Index() kv.Index { return v.state.Applied }

// EstimatedKeys estimates how many keys the keyspace has.
func (v *View) EstimatedKeys() uint64 { return v.m.Stats().EstimatedKeys }

// Clock returns the log's clock at that index.
func (v *View) Clock() kv.Clock { return v.state.Clock }

// Identity returns the ids of the state.
func (v *View) Identity() Identity { return v.histories.Identity }

// Get reads a key like Machine.Get, from the view's state.
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

// MultiGet reads keys like Machine.MultiGet, from the view's state.
func (v *View) MultiGet(keys [][]byte, now kv.Clock) ([]kv.Pair, error) {
	pairs, n, err := v.ReadSome(keys, now)
	if err == nil && n < len(keys) {
		return nil, ErrTooMuch
	}
	return pairs, err
}

// ReadSome reads as many of the first keys as may be read at once, at least one of them. It
// returns their number besides the pairs, which are fewer if keys are not there.
func (v *View) ReadSome(keys [][]byte, now kv.Clock) (pairs []kv.Pair, n int, err error) {
	err = v.read(func(r storage.Reader) error {
		stored, err := r.MultiGet(storage.Data, keys)
		if err != nil {
			return err
		}
		n = len(stored)
		pairs, err = livePairs(keys, stored, now)
		return err
	})
	return pairs, n, v.m.note(err)
}
