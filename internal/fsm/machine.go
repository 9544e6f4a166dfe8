// Package fsm is DKV's state machine: it turns log entries into engine batches,
// and nothing else decides what a write means. It is deterministic: the same
// entries leave the same bytes, however they were batched, on any engine.
// Standalone nodes feed it from a log of one, masters from Raft. DESIGN.md in
// this folder tells why it is built as it is.
package fsm

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm/requests"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// ErrClosed is returned by a machine that was closed.
var ErrClosed = errors.New("state machine is closed")

// Machine is the state machine of one vBucket over one engine. Apply and the
// other mutating methods are called by one goroutine at a time; reads run
// concurrently with them and with Close, which waits for them.
type Machine struct {
	engine storage.Engine
	gate   gate
	views  views
	base   kv.Index
	bounds requests.Bounds
	// lineage is the histories before the present one, the oldest first.
	lineage []string

	// Owned by the applying goroutine.
	state    state
	requests *requests.Table
	staged   staged
	scratch  scratch

	// broken is the storage error after which nothing may be written.
	broken atomic.Pointer[error]

	// reaching is the last index of the batch that is being written: from when it is
	// stored until applied is the same, readers may find the batch or not.
	reaching atomic.Uint64

	// Mirrors for readers.
	identity atomic.Pointer[Identity]
	epoch    atomic.Pointer[command.Epoch]
	members  atomic.Pointer[map[uint64][]byte]
	applied  atomic.Uint64
	clock    atomic.Uint64
	expiring atomic.Uint64
	expired  atomic.Uint64
	floor    atomic.Uint64
	format   atomic.Uint32
	timing   atomic.Pointer[timing]
	paused   atomic.Bool
	// restoring tells that mutations are refused because a restore is under way.
	restoring atomic.Bool
	// corruption is the first damage that a read has met.
	corruption atomic.Pointer[error]
}

// New loads the machine whose state engine holds; an empty engine becomes a
// new one with random ids. The machine owns the engine from here on.
func New(engine storage.Engine) (*Machine, error) {
	return open(engine, Identity{Cluster: NewID(), History: NewID()}, requests.DefaultBounds())
}

// NewReplica is New for one of several replicas of a log: an empty engine
// becomes a state without ids, which the log's first epoch will name, so that all
// of them have the same.
func NewReplica(engine storage.Engine) (*Machine, error) {
	return open(engine, Identity{}, requests.DefaultBounds())
}

// open loads the machine; fresh are the ids of an empty engine.
func open(engine storage.Engine, fresh Identity, bounds requests.Bounds) (*Machine, error) {
	m := &Machine{engine: engine, bounds: bounds}
	m.gate.init()
	if err := m.load(fresh); err != nil {
		return nil, fmt.Errorf("load state: %w", err)
	}
	return m, nil
}

func (m *Machine) load(fresh Identity) error {
	idBytes, found, err := m.engine.Get(storage.Meta, keyIdentity)
	if err != nil {
		return err
	}
	if !found {
		if idBytes, err = m.initialise(fresh); err != nil {
			return err
		}
	}
	identity, err := decodeIdentity(idBytes)
	if err != nil {
		return err
	}
	m.identity.Store(&identity)
	if m.lineage, err = readLineage(m.engine); err != nil {
		return err
	}
	if m.state, err = readState(m.engine); err != nil {
		return err
	}
	floor, err := readFloor(m.engine)
	if err != nil {
		return err
	}
	m.floor.Store(floor)
	if m.requests, err = requests.Load(m.engine, m.bounds); err != nil {
		return err
	}
	if m.base, err = readIndex(m.engine, keyBase, 0); err != nil {
		return err
	}
	if err := m.loadFormat(); err != nil {
		return err
	}
	if err := m.loadTiming(); err != nil {
		return err
	}
	if err := m.loadStaged(); err != nil {
		return err
	}
	members, err := loadMembers(m.engine)
	if err != nil {
		return err
	}
	m.members.Store(&members)
	m.epoch.Store(&command.Epoch{})
	m.publish()
	return nil
}

func readFloor(r storage.Reader) (kv.Index, error) { return readIndex(r, keyFloor, 1) }

// readIndex reads an index of 8 bytes; it is absent where the record is.
func readIndex(r storage.Reader, key []byte, absent kv.Index) (kv.Index, error) {
	p, found, err := r.Get(storage.Meta, key)
	switch {
	case err != nil:
		return 0, err
	case !found:
		return absent, nil
	case len(p) != 8:
		return 0, fmt.Errorf("%w: %s record", storage.ErrCorrupt, key)
	}
	return binary.BigEndian.Uint64(p), nil
}

// initialise gives an empty engine its identity.
func (m *Machine) initialise(fresh Identity) ([]byte, error) {
	for space := range storage.Space(storage.Spaces) {
		if err := requireEmpty(m.engine, space); err != nil {
			return nil, err
		}
	}
	id := fresh.append(nil)
	var b storage.Batch
	b.Put(storage.Meta, keyIdentity, id)
	b.Put(storage.Meta, keyState, new(state).append(nil))
	return id, m.engine.Write(&b, true)
}

func requireEmpty(r storage.Reader, space storage.Space) error {
	it := r.Iterate(space, storage.Range{KeysOnly: true})
	defer it.Close()
	if it.Next() {
		return fmt.Errorf("%w: there are keys in %v, but no identity record", storage.ErrCorrupt, space)
	}
	return it.Err()
}

// NewID returns a random id for an Identity: 32 hexadecimal digits.
func NewID() string {
	var p [16]byte
	_, _ = rand.Read(p[:]) // never fails: crypto/rand ends the process instead
	return hex.EncodeToString(p[:])
}

// publish makes the applied state visible to readers' bookkeeping.
func (m *Machine) publish() {
	m.clock.Store(uint64(m.state.clock))
	m.expiring.Store(m.state.expiring)
	m.expired.Store(m.state.expired)
	m.paused.Store(m.state.paused)
	if *m.epoch.Load() != m.state.epoch {
		epoch := m.state.epoch
		m.epoch.Store(&epoch)
	}
	m.reaching.Store(m.state.applied)
	m.applied.Store(m.state.applied)
}

// Identity returns the ids of the state.
func (m *Machine) Identity() Identity { return *m.identity.Load() }

// Applied returns the index of the last entry applied.
func (m *Machine) Applied() kv.Index { return m.applied.Load() }

// StandsAt reports whether all that was read of the machine since Applied returned
// index is of the state at that index. It is not, for certain, while a batch is being
// written; a View is always of one state.
func (m *Machine) StandsAt(index kv.Index) bool { return m.reaching.Load() == index }

// Base is where the state's present log begins: its first entry has index
// Base+1, whatever number the log itself gives it. It is 0 but for a state that
// came from another log, whose indexes it must not use again.
func (m *Machine) Base() kv.Index { return m.base }

// Clock returns the log's clock.
func (m *Machine) Clock() kv.Clock { return kv.Clock(m.clock.Load()) }

// Paused tells whether mutations are refused.
func (m *Machine) Paused() bool { return m.paused.Load() }

// ExpiredTotal returns how many keys Expire has removed, ever.
func (m *Machine) ExpiredTotal() uint64 { return m.expired.Load() }

// RequestStats say how large the table of requests is, and what became of them.
type RequestStats = requests.Stats

// Requests returns them. It may be called at any time.
func (m *Machine) Requests() RequestStats { return m.requests.Stats() }

// ChangelogFloor returns the least change number that is retained.
func (m *Machine) ChangelogFloor() kv.Index { return m.floor.Load() }

// Stats returns the engine's sizes; zeros once the machine is closed.
func (m *Machine) Stats() storage.Stats {
	if !m.gate.enter() {
		return storage.Stats{}
	}
	defer m.gate.leave()
	return m.engine.Stats()
}

// MemtableBytes is that of Stats. It is cheap enough to be asked for all the time.
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

// EngineKind names the engine underneath.
func (m *Machine) EngineKind() string { return m.engine.Kind() }

// Sync makes everything applied so far durable. After an error, as after one of
// Apply, nothing more is written.
func (m *Machine) Sync() error {
	if err := m.failure(); err != nil {
		return err
	}
	if !m.gate.enter() {
		return ErrClosed
	}
	defer m.gate.leave()
	if err := m.engine.Sync(); err != nil {
		return m.fail(fmt.Errorf("sync at index %d: %w", m.Applied(), err))
	}
	return nil
}

// fail remembers the first storage error: what the engine holds is unknown
// from then on, and nothing may be written on top of it.
func (m *Machine) fail(err error) error {
	m.broken.CompareAndSwap(nil, &err)
	return m.failure()
}

func (m *Machine) failure() error {
	if err := m.broken.Load(); err != nil {
		return *err
	}
	return nil
}

// Flush writes what the engine holds in memtables into files, where it knows how
// to. It may run concurrently with Apply.
func (m *Machine) Flush() error {
	if !m.gate.enter() {
		return ErrClosed
	}
	defer m.gate.leave()
	if f, ok := m.engine.(storage.Flusher); ok {
		return f.Flush()
	}
	return nil
}

// Checkpoint writes a copy of the present state into dir; see storage.Engine.
// It may run concurrently with Apply.
func (m *Machine) Checkpoint(dir string) error {
	if !m.gate.enter() {
		return ErrClosed
	}
	defer m.gate.leave()
	return m.engine.Checkpoint(dir)
}

// Readable tells whether reads are let in: whether the machine is neither closed
// nor being closed.
func (m *Machine) Readable() bool { return m.gate.open() }

// TryClose is Close, unless reads are still under way when ctx is done: then the
// machine stays open and the result is false.
func (m *Machine) TryClose(ctx context.Context) (bool, error) {
	if !m.gate.tryClose(ctx.Done(), nil) {
		return false, nil
	}
	return true, m.engine.Close()
}

// TryCloseWithout is TryClose, but does not wait for views to be closed: those that
// are open are revoked, and returns how many there were. A read of one of them that is
// under way is waited for; a later one is an ErrRevoked.
func (m *Machine) TryCloseWithout(ctx context.Context) (closed bool, revoked int, err error) {
	if !m.gate.tryClose(ctx.Done(), func() { revoked = m.views.revoke() }) {
		return false, revoked, nil
	}
	return true, revoked, m.engine.Close()
}

// Close waits for the reads under way, refuses new ones and closes the engine.
// It is idempotent.
func (m *Machine) Close() error {
	m.gate.close()
	return m.engine.Close()
}
