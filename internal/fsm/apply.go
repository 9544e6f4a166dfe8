package fsm

import (
	"errors"
	"fmt"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
)

// ErrUnread is wrapped by the error of an Apply that changed nothing.
var ErrUnread = errors.New("the current value cannot be read")

// ErrDiverged means that the log continues from another state than this replica's. The
// replica must not serve it.
var ErrDiverged = errors.New("the state does not belong to the log")

// Entry is an entry of the log. One with a nil Command only advances the index.
type Entry struct {
	Index   kv.Index
	Command *command.Command
}

// Apply applies entries, whose indexes ascend and are above Applied, as one engine batch:
// data, expiry index, change records and applied index become visible, and with sync durable,
// together or not at all. It stores each command's result in results, which has as many
// elements as entries.
//
// An error that wraps ErrUnread means that nothing was applied, because a value that the
// entries depend on cannot be read. The machine continues, and entries that depend on other
// keys can be applied. Any other error means that storage failed. Nothing of the batch may be
// acknowledged, and the machine writes nothing more, while reads continue to see the state
// before the batch. The machine has to be opened again, which shows whether the batch was
// stored.
func (m *Machine) Apply(entries []Entry, results []command.Result, sync bool) error {
	if err := m.failure(); err != nil {
		return err
	}
	if len(entries) == 0 {
		return nil
	}
	if !m.gate.enter() {
		return ErrClosed
	}
	defer m.gate.leave()
	if err := m.apply(entries, results, sync); err != nil {
		if errors.Is(err, ErrUnread) {
			return err
		}
		return m.fail(fmt.Errorf("apply at index %d: %w", entries[0].Index, err))
	}
	m.publish()
	return nil
}

func (m *Machine) apply(entries []Entry, results []command.Result, sync bool) error {
	tx, err := m.begin(entries)
	if err != nil {
		m.scratch.release()
		return fmt.Errorf("%w: %w", ErrUnread, m.note(err))
	}
	for i := range entries {
		e := &entries[i]
		if e.Index <= m.state.Applied {
			return fmt.Errorf("entry %d follows entry %d", e.Index, m.state.Applied)
		}
		m.state.Applied = e.Index
		results[i] = command.Result{Index: e.Index}
		if e.Command == nil {
			continue
		}
		if results[i], err = tx.run(e); err != nil {
			return err
		}
	}
	m.scratch.changes.Flush(tx.batch)
	m.requests.Flush(tx.batch)
	if err := tx.write(sync); err != nil {
		return err
	}
	if tx.named != nil {
		m.histories.Store(&histories{Identity: *tx.named, former: m.Lineage(), since: m.state.Applied})
	}
	if tx.members != nil {
		m.members.Store(&tx.members)
	}
	if tx.format != 0 {
		m.format.Store(tx.format)
	}
	if tx.timing != nil {
		m.timing.Store(tx.timing)
	}
	if tx.standbys != nil {
		m.standbys.Store(tx.standbys)
	}
	m.restoring.Store(m.staged.active)
	m.scratch.effects = tx.effects
	m.scratch.release()
	return nil
}

// run applies one command and records its change.
func (tx *tx) run(e *Entry) (command.Result, error) {
	m, c := tx.m, e.Command
	res := command.Result{Index: e.Index}
	if m.seals(c) {
		// Before the fence, since no epoch begins here: a node that led the log later would
		// otherwise propose its commands again and again.
		res.Code = command.Sealed
		return res, nil
	}
	if m.fenced(c) {
		// Before the request table is asked: an answer from it acknowledges a write,
		// which only the log's owner may do. It alone knows that no other node serves
		// the state before that write under a lease. The result is not remembered,
		// since the same request may come again through the owner.
		res.Code = command.Fenced
		return res, nil
	}
	if c.Kind.Fenced() {
		// The owner was active when it proposed c, so the leases of earlier epochs had
		// ended by then.
		m.state.Epoch.Earlier = 0
	}
	if c.Kind.MovesClock() {
		m.moveClock(max(m.state.Clock, c.Clock), e.Index)
	}
	if !c.Request.IsZero() {
		if answer, known := m.requests.Lookup(c, e.Index, m.state.Clock); known {
			return answer, nil
		}
	}
	tx.effects = tx.effects[:0]
	control, err := tx.control(c, &res)
	switch {
	case err != nil:
		return res, err
	case control:
	case m.state.Paused:
		// The result is not remembered, since the same request may succeed after the
		// pause.
		res.Code = command.Paused
		return res, nil
	case m.staged.active:
		// Not remembered either: the request may succeed after the restore.
		res.Code = command.Restoring
		return res, nil
	default:
		if err := tx.mutate(c, &res); err != nil {
			return res, err
		}
	}
	if !c.Request.IsZero() {
		m.requests.Add(tx.batch, c, res, m.state.Clock)
	}
	if len(tx.effects) > 0 {
		change := kv.Change{Index: e.Index, Clock: m.state.Clock, Mutations: tx.effects, Request: tx.cause(c, res)}
		tx.record(change)
	}
	return res, nil
}
