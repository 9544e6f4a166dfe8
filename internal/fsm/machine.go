package fsm

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm/layout"
	"github.com/dkvdb/dkv/internal/fsm/requests"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// Machine is the state machine of one vBucket over one engine. Apply and the other methods
// that change the state are called by one goroutine at a time. Reads may run concurrently
// with them, and with Close, which waits for reads.
type Machine struct {
	engine storage.Engine
	gate   gate
	views  views
	base   kv.Index
	line   *Line
	bounds requests.Bounds
	// Owned by the applying goroutine.
	state    layout.State
	requests *requests.Table
	staged   staged
	scratch  scratch
	// effect is what LastEffect returns once the batch is written.
	effect kv.Index

	// staging is held by a staged write and by a trim: between the batches of a staged write
	// an engine takes no other one, and its refusal would count as a failure of storage.
	staging sync.Mutex

	// broken is the storage error after which nothing more may be written.
	broken atomic.Pointer[error]

	// reaching is the last index of the batch that is being written. Until applied is the
	// same, readers may or may not see that batch.
	reaching atomic.Uint64

	// Copies of parts of the state, which readers may load at any time.
	histories  atomic.Pointer[histories]
	epoch      atomic.Pointer[command.Epoch]
	members    atomic.Pointer[map[uint64][]byte]
	applied    atomic.Uint64
	lastEffect atomic.Uint64
	clock      atomic.Uint64
	expiring   atomic.Uint64
	expired    atomic.Uint64
	floor      atomic.Uint64
	// changelogSize is what ChangelogBytes found last; nil before that.
	changelogSize atomic.Pointer[changelogSize]
	format        atomic.Uint32
	timing        atomic.Pointer[layout.Opaque]
	standbys      atomic.Pointer[layout.Opaque]
	paused        atomic.Bool
	// sealed is the seal of the log; nil for none.
	sealed atomic.Pointer[layout.Seal]
	// restoring means that mutations are rejected because a restore is in progress.
	restoring atomic.Bool
	// corruption is the first damage that a read has found.
	corruption atomic.Pointer[error]
}

// New opens the machine whose state is in engine. An empty engine becomes a new state with
// random ids. The machine owns the engine from here on.
func New(engine storage.Engine) (*Machine, error) {
	return open(engine, Identity{Cluster: kv.NewID(), History: kv.NewID()}, requests.DefaultBounds())
}

// NewReplica is New for one of several replicas of a log. An empty engine becomes a state
// without ids: the log's first epoch names it, so that all replicas have the same ids.
func NewReplica(engine storage.Engine) (*Machine, error) {
	return open(engine, Identity{}, requests.DefaultBounds())
}

// open opens the machine. An empty engine gets the ids in fresh.
func open(engine storage.Engine, fresh Identity, bounds requests.Bounds) (*Machine, error) {
	m := &Machine{engine: engine, bounds: bounds, line: new(Line)}
	m.gate.init()
	if err := m.load(fresh); err != nil {
		return nil, fmt.Errorf("load state: %w", err)
	}
	return m, nil
}

func (m *Machine) load(fresh Identity) error {
	identity, found, err := layout.ReadIdentity(m.engine)
	if err == nil && !found {
		identity, err = fresh, m.initialise(fresh)
	}
	if err != nil {
		return err
	}
	lineage, err := layout.ReadLineage(m.engine)
	if err != nil {
		return err
	}
	m.histories.Store(&histories{Identity: identity, former: lineage})
	if m.state, err = layout.ReadState(m.engine); err != nil {
		return err
	}
	floor, err := layout.ReadFloor(m.engine)
	if err != nil {
		return err
	}
	m.floor.Store(floor)
	if m.effect, err = newestEffect(m.engine, &m.state, floor); err != nil {
		return err
	}
	if m.requests, err = requests.Load(m.engine, m.bounds); err != nil {
		return err
	}
	if m.base, err = layout.ReadIndex(m.engine, layout.KeyBase, 0); err != nil {
		return err
	}
	if err := m.loadRecords(); err != nil {
		return err
	}
	if err := m.loadStaged(); err != nil {
		return err
	}
	m.epoch.Store(&command.Epoch{})
	m.publish()
	return nil
}

// initialise writes the first records into an empty engine.
func (m *Machine) initialise(fresh Identity) error {
	for space := range storage.Space(storage.Spaces) {
		if err := requireEmpty(m.engine, space); err != nil {
			return err
		}
	}
	var b storage.Batch
	layout.PutIdentity(&b, fresh)
	b.Put(storage.Meta, layout.KeyState, new(layout.State).Append(nil))
	return m.engine.Write(&b, true)
}

func requireEmpty(r storage.Reader, space storage.Space) error {
	it := r.Iterate(space, storage.Range{KeysOnly: true})
	defer it.Close()
	if it.Next() {
		return fmt.Errorf("%w: there are keys in %v, but no identity record", storage.ErrCorrupt, space)
	}
	return it.Err()
}

// publish updates the copies of the state that readers load.
func (m *Machine) publish() {
	m.clock.Store(uint64(m.state.Clock))
	m.expiring.Store(m.state.Expiring)
	m.expired.Store(m.state.Expired)
	m.paused.Store(m.state.Paused)
	m.publishSeal()
	if *m.epoch.Load() != m.state.Epoch {
		epoch := m.state.Epoch
		m.epoch.Store(&epoch)
	}
	m.lastEffect.Store(m.effect)
	m.reaching.Store(m.state.Applied)
	m.applied.Store(m.state.Applied)
}
