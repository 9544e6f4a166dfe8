package fsm

import (
	"bytes"
	"maps"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm/layout"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// control applies c if it concerns the log and not the keyspace, and reports whether it does.
func (tx *tx) control(c *command.Command, res *command.Result) (bool, error) {
	if c.TooLong() {
		res.Code = command.NotUpdated
		return true, nil
	}
	switch c.Kind {
	case command.BeginEpoch:
		return true, tx.beginEpoch(c.Begin, res)
	case command.EndEpoch:
		tx.m.state.Epoch.Ended = true
	case command.SetPaused:
		tx.m.state.Paused = c.Flag
	case command.SetMember:
		tx.setMember(c.Member)
	case command.SetFormat:
		tx.setFormat(uint32(c.Delta))
	case command.SetTiming:
		tx.setTiming(c, res)
	case command.SetStandbys:
		tx.setStandbys(c, res)
	case command.Seal:
		tx.seal(c, res)
	case command.Unseal:
		tx.m.unseal(c.Expect)
	case command.SetSlave:
		tx.setSlave(c)
	case command.Tick:
		// The clock has been moved already.
	case command.SetClock:
		if tx.m.staged.active {
			tx.dropStaged() // the restore's other commands are fenced from here on
		}
		tx.m.setClock(c.Clock, res.Index)
	case command.BeginRestore:
		tx.beginRestore(c.Expect)
	case command.StageRestore:
		tx.stage(c, res)
	case command.SealRestore:
		tx.endStaging(c, res)
	case command.AbortRestore:
		if tx.m.staged.is(c.Expect) {
			tx.dropStaged()
		}
	case command.EndRestore:
		// One that takes effect is not applied here: see Restores.
		res.Code = command.NotStaged
	default:
		return false, nil
	}
	return true, nil
}

// loadRecords reads what the control commands have recorded.
func (m *Machine) loadRecords() error {
	format, err := layout.ReadFormat(m.engine)
	if err != nil {
		return err
	}
	timing, err := layout.ReadOpaque(m.engine, layout.KeyTiming)
	if err != nil {
		return err
	}
	standbys, err := layout.ReadOpaque(m.engine, layout.KeyStandbys)
	if err != nil {
		return err
	}
	members, err := layout.ReadMembers(m.engine)
	if err != nil {
		return err
	}
	m.format.Store(format)
	m.timing.Store(timing)
	m.standbys.Store(standbys)
	m.members.Store(&members)
	return nil
}

// Members returns the records of the log's replicas by id. The caller must not change the
// map.
func (m *Machine) Members() map[uint64][]byte { return *m.members.Load() }

func (tx *tx) setMember(member *command.Member) {
	if tx.members == nil {
		tx.members = maps.Clone(tx.m.Members())
	}
	key := layout.MemberKey(member.ID)
	if len(member.Record) == 0 {
		tx.batch.Delete(storage.Meta, key)
		delete(tx.members, member.ID)
		return
	}
	tx.batch.Put(storage.Meta, key, member.Record)
	tx.members[member.ID] = append([]byte(nil), member.Record...)
}

// Format returns the format of the log: its owner proposes nothing that needs a newer one.
// It is command.FirstFormat until the log raises it.
func (m *Machine) Format() uint32 { return m.format.Load() }

// setFormat raises the log's format. A format that is not newer has no effect.
func (tx *tx) setFormat(format uint32) {
	if format <= max(tx.format, tx.m.Format()) {
		return
	}
	tx.format = format
	layout.PutFormat(tx.batch, format)
}

// Timing returns the record of the timing that the cluster's members agree on, and the index
// of its last change. They are nil and 0 if none was recorded. The caller must not change the
// record.
func (m *Machine) Timing() (record []byte, changed kv.Index) {
	t := m.timing.Load()
	return t.Record, t.Changed
}

// Standbys returns the record of the nodes that the log's owner waits for, and the index of
// its last change. They are nil and 0 if none was recorded. It costs one atomic load, so that
// an owner can compare the index for each answer. The caller must not change the record.
func (m *Machine) Standbys() (record []byte, changed kv.Index) {
	s := m.standbys.Load()
	return s.Record, s.Changed
}

func (tx *tx) setTiming(c *command.Command, res *command.Result) {
	if next := replaced(tx.m.timing.Load(), tx.timing, c, res); next != nil {
		tx.timing = next
		layout.PutOpaque(tx.batch, layout.KeyTiming, next)
	}
}

func (tx *tx) setStandbys(c *command.Command, res *command.Result) {
	if next := replaced(tx.m.standbys.Load(), tx.standbys, c, res); next != nil {
		tx.standbys = next
		layout.PutOpaque(tx.batch, layout.KeyStandbys, next)
	}
}

// replaced returns what a command makes of a record, which the batch may have changed before,
// or nil: the command has an effect only if the record's last change is the one that it
// names. So of two concurrent changes only the first counts.
func replaced(stored, inBatch *layout.Opaque, c *command.Command, res *command.Result) *layout.Opaque {
	now := stored
	if inBatch != nil {
		now = inBatch
	}
	if now.Changed != uint64(c.Delta) {
		res.Code = command.NotUpdated
		return nil
	}
	return &layout.Opaque{Record: bytes.Clone(c.Expect), Changed: res.Index}
}

// ListedSlave is an entry of the list of slaves. The list belongs to the cluster and not to
// the keyspace: a restore leaves it as it is, wherever the backup came from.
type ListedSlave = layout.ListedSlave

// Slaves returns the list of slaves in the order of zone and address.
func (m *Machine) Slaves() ([]ListedSlave, error) {
	if !m.gate.enter() {
		return nil, ErrClosed
	}
	defer m.gate.leave()
	slaves, err := layout.ReadSlaves(m.engine)
	return slaves, m.note(err)
}

func (tx *tx) setSlave(c *command.Command) {
	key := layout.SlaveKey(c.Expect)
	if c.Flag {
		// The clock of a log without writes does not move, so the command's is used.
		layout.PutSlave(tx.batch, key, max(tx.m.state.Clock, c.Clock))
		return
	}
	tx.batch.Delete(storage.Meta, key)
}
