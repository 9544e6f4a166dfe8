package fsm

import (
	"encoding/binary"
	"fmt"
	"maps"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// Epoch returns the epoch of the state.
func (m *Machine) Epoch() command.Epoch { return *m.epoch.Load() }

// Members returns what is kept of the log's replicas, by id. The map is not to
// be changed.
func (m *Machine) Members() map[uint64][]byte { return *m.members.Load() }

// control applies a command that concerns the log itself and not the keyspace,
// and tells whether c is one.
func (tx *tx) control(c *command.Command, res *command.Result) (bool, error) {
	switch c.Kind {
	case command.BeginEpoch:
		return true, tx.beginEpoch(c.Begin, res)
	case command.EndEpoch:
		tx.m.state.epoch.Ended = true
	case command.SetPaused:
		tx.m.state.paused = c.Flag
	case command.SetMember:
		tx.setMember(c.Member)
	case command.SetFormat:
		tx.setFormat(uint32(c.Delta))
	case command.SetTiming:
		tx.setTiming(c, res)
	case command.SetSlave:
		tx.setSlave(c)
	case command.Tick:
		// That it passed the fence has moved the clock.
	case command.SetClock:
		if tx.m.staged.active {
			tx.dropStaged() // its other commands are fenced from here on
		}
		tx.m.state.setClock(c.Clock, res.Index)
	case command.BeginRestore:
		tx.beginRestore(c.Expect)
	case command.StageRestore:
		tx.stage(c, res)
	case command.SealRestore:
		tx.seal(c, res)
	case command.AbortRestore:
		if tx.m.staged.is(c.Expect) {
			tx.dropStaged()
		}
	case command.EndRestore:
		// One that takes effect does not come through here: see Restored.
		res.Code = command.NotStaged
	default:
		return false, nil
	}
	return true, nil
}

// fenced reports whether c was proposed by a node that does not own the log here.
func (s *state) fenced(c *command.Command) bool {
	return c.Kind.Fenced() && (c.Fence != s.epoch.ID || s.epoch.Ended)
}

// beginEpoch replaces the epoch, if its next may be this one.
func (tx *tx) beginEpoch(b *command.Begin, res *command.Result) error {
	s := &tx.m.state
	now := s.epoch
	res.Previous = &now
	next, accepted := now.Next(b, res.Index)
	if !accepted {
		res.Code = command.Fenced
		return nil
	}
	if tx.m.staged.active {
		tx.dropStaged() // whoever staged it does not own the log any more
	}
	s.epoch = next
	switch named := tx.m.Identity().Cluster != "" || tx.named != nil; {
	case named:
		return nil
	case b.Cluster == "":
		// Its proposer's state has names: it had a beginning that is not here.
		return fmt.Errorf("%w: the log goes on from a state that this replica does not have; remove this node and let it join anew", ErrDiverged)
	}
	id := Identity{Cluster: b.Cluster, History: b.History}
	p := id.append(nil)
	if _, err := decodeIdentity(p); err != nil {
		return fmt.Errorf("%w: begin-epoch with names %q and %q", command.ErrMalformed, b.Cluster, b.History)
	}
	tx.batch.Put(storage.Meta, keyIdentity, p)
	tx.named = &id
	return nil
}

// setClock sets the log's clock, by a command at an index. The epoch, if there is
// one, goes on under a new id, as after a repeated begin: what its owner proposed by
// the clock that there was may still come, and would move the clock again.
func (s *state) setClock(to kv.Clock, index kv.Index) {
	s.clock = to
	if s.epoch.ID != 0 {
		s.epoch.ID = index
	}
}

func (tx *tx) setMember(member *command.Member) {
	if tx.members == nil {
		tx.members = maps.Clone(tx.m.Members())
	}
	key := memberKey(member.ID)
	if len(member.Record) == 0 {
		tx.batch.Delete(storage.Meta, key)
		delete(tx.members, member.ID)
		return
	}
	tx.batch.Put(storage.Meta, key, member.Record)
	tx.members[member.ID] = append([]byte(nil), member.Record...)
}

func memberKey(id uint64) []byte {
	return binary.BigEndian.AppendUint64(append([]byte(nil), prefixMember...), id)
}

func loadMembers(r storage.Reader) (map[uint64][]byte, error) {
	members := make(map[uint64][]byte)
	it := r.Iterate(storage.Meta, storage.Prefix(prefixMember))
	defer it.Close()
	for it.Next() {
		key := it.Key()
		if len(key) != len(prefixMember)+8 {
			return nil, fmt.Errorf("%w: member record %x", storage.ErrCorrupt, key)
		}
		members[binary.BigEndian.Uint64(key[len(prefixMember):])] = append([]byte(nil), it.Value()...)
	}
	return members, it.Err()
}
