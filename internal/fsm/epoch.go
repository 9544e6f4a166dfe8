package fsm

import (
	"fmt"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm/history"
	"github.com/dkvdb/dkv/internal/fsm/layout"
	"github.com/dkvdb/dkv/internal/kv"
)

// Epoch returns the current epoch of the log.
func (m *Machine) Epoch() command.Epoch { return *m.epoch.Load() }

// fenced reports whether c was proposed by a node that does not own the log in this state.
func (m *Machine) fenced(c *command.Command) bool {
	return c.Kind.Fenced() && (c.Fence != m.state.Epoch.ID || m.state.Epoch.Ended)
}

// beginEpoch replaces the epoch, unless the new one is too old.
func (tx *tx) beginEpoch(b *command.Begin, res *command.Result) error {
	s := &tx.m.state
	now := s.Epoch
	res.Previous = &now
	next, accepted := now.Next(b, res.Index)
	if !accepted {
		res.Code = command.Fenced
		return nil
	}
	if tx.m.staged.active {
		tx.dropStaged() // the node that staged it no longer owns the log
	}
	if b.Origin != nil && now.ID == 0 {
		// Before there is an epoch: later ones may be of a restored keyspace.
		if err := tx.m.comesFrom(b.Origin); err != nil {
			return err
		}
	}
	s.Epoch = next
	switch named := tx.m.Identity().Cluster != "" || tx.named != nil; {
	case named:
		return nil
	case b.Cluster == "":
		// The proposer's state has ids, so the log had a beginning that is missing here.
		return fmt.Errorf("%w: the log continues from a state that this replica does not have; remove this node from the cluster and add it again", ErrDiverged)
	}
	id := Identity{Cluster: b.Cluster, History: b.History}
	if _, err := history.DecodeIdentity(id.Append(nil)); err != nil {
		return fmt.Errorf("%w: begin-epoch with names %q and %q", command.ErrMalformed, b.Cluster, b.History)
	}
	layout.PutIdentity(tx.batch, id)
	tx.named = &id
	return nil
}

// setClock sets the log's clock by a command at an index. The epoch, if there is one,
// continues under a new id, as after a repeated BeginEpoch: what its owner proposed by the
// earlier clock may still arrive, and would move the clock again.
func (m *Machine) setClock(to kv.Clock, index kv.Index) {
	m.moveClock(to, index)
	if m.state.Epoch.ID != 0 {
		m.state.Epoch.ID = index
	}
}

// moveClock moves the log's clock by an entry. If keys may have expired by that, or be visible
// again, it counts like a change: readers see it.
func (m *Machine) moveClock(to kv.Clock, by kv.Index) {
	if m.state.Expiring > 0 && to.Second() != m.state.Clock.Second() {
		m.effect = by
	}
	m.state.Clock = to
}
