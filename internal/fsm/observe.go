package fsm

import (
	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/fsm/layout"
	"github.com/dkvdb/dkv/internal/fsm/requests"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// Applied returns the index of the last entry applied. Like all methods of this file, it may
// be called at any time.
func (m *Machine) Applied() kv.Index { return m.applied.Load() }

// LastEffect returns the index of the newest entry, at or below Applied, of which readers see
// anything: of the newest change, or of the last entry that was applied here and moved the log's
// clock so far that keys may have expired. Right after the machine was opened it may be higher, but
// not lower. It costs one atomic load.
func (m *Machine) LastEffect() kv.Index { return m.lastEffect.Load() }

// newestEffect returns what LastEffect is at most in a state that is opened. While keys expire,
// the last entry may have moved the clock. If retention has dropped the newest change, it is at
// most the last index that the changelog no longer holds.
func newestEffect(r storage.Reader, s *layout.State, floor kv.Index) (kv.Index, error) {
	if s.Expiring > 0 {
		return s.Applied, nil
	}
	return newestChange(r, floor)
}

// newestChange returns the index of the newest change; if retention has dropped it, the last index
// that the changelog no longer holds.
func newestChange(r storage.Reader, floor kv.Index) (kv.Index, error) {
	index, found, err := changelog.Newest(r)
	if err != nil || found {
		return index, err
	}
	return floor - min(floor, 1), nil
}

// StandsAt reports whether everything that was read from the machine since Applied returned
// index is of the state at that index. It is false while a batch is being written. A View
// shows one state whatever is written.
func (m *Machine) StandsAt(index kv.Index) bool { return m.reaching.Load() == index }

// Base returns where the state's current log begins: its first entry has index Base+1,
// whatever number the log itself gives it. Base is 0 unless the state came from another log,
// whose indexes must not be used again.
func (m *Machine) Base() kv.Index { return m.base }

// Clock returns the log's clock.
func (m *Machine) Clock() kv.Clock { return kv.Clock(m.clock.Load()) }

// Paused reports whether mutations are rejected.
func (m *Machine) Paused() bool { return m.paused.Load() }

// ExpiredTotal returns how many keys Expire has removed, ever.
func (m *Machine) ExpiredTotal() uint64 { return m.expired.Load() }

// RequestStats say how many requests are remembered, and how many were answered from
// memory.
type RequestStats = requests.Stats

// Requests returns the RequestStats.
func (m *Machine) Requests() RequestStats { return m.requests.Stats() }

// ChangelogFloor returns the lowest change number that is retained.
func (m *Machine) ChangelogFloor() kv.Index { return m.floor.Load() }

// Stats returns the engine's sizes, or zeros once the machine is closed.
func (m *Machine) Stats() storage.Stats {
	if !m.gate.enter() {
		return storage.Stats{}
	}
	defer m.gate.leave()
	return m.engine.Stats()
}

// MemtableBytes returns the MemtableBytes of Stats, and is cheap enough to be called for each write.
func (m *Machine) MemtableBytes() uint64 {
	if !m.gate.enter() {
		return 0
	}
	defer m.gate.leave()
	if e, ok := m.engine.(storage.MemtableSizer); ok {
		return e.MemtableBytes()
	}
	return m.engine.Stats().MemtableBytes
}

// EngineKind returns the name of the engine.
func (m *Machine) EngineKind() string { return m.engine.Kind() }

// Encrypted reports whether the engine encrypts what it stores.
func (m *Machine) Encrypted() bool { return storage.Encrypted(m.engine) }

// Corruption returns the error of the first read that found damaged data, or nil if none
// did.
func (m *Machine) Corruption() error {
	if err := m.corruption.Load(); err != nil {
		return *err
	}
	return nil
}
