package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// ErrUnread is wrapped by the error of an Apply that changed nothing.
var ErrUnread = errors.New("the present value cannot be read")

// ErrDiverged means that a replica's state is not the one that its log goes on
// from. It must not be served from.
var ErrDiverged = errors.New("the state does not belong to the log")

// Entry is one position of the log. A nil Command is an entry without effect;
// it only advances the index.
type Entry struct {
	Index   kv.Index
	Command *command.Command
}

// Apply applies entries, whose indexes ascend and lie above Applied, as one
// engine batch: data, expiry index, change records and applied index become
// visible, and with sync durable, together or not at all. It stores what each
// command came to in results, which has as many elements as entries.
//
// An error that wraps ErrUnread means that nothing was applied, because what the
// entries depend on cannot be read; the machine goes on, and entries that depend
// on other keys can be applied. Any other error means that storage failed.
// Nothing of the batch may be acknowledged, and the machine writes nothing
// further, while reads go on from what was there before: it has to be opened
// anew, which shows whether the batch is there.
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
		if e.Index <= m.state.applied {
			return fmt.Errorf("entry %d follows entry %d", e.Index, m.state.applied)
		}
		m.state.applied = e.Index
		results[i] = command.Result{Index: e.Index}
		if e.Command == nil {
			continue
		}
		if results[i], err = tx.run(e); err != nil {
			return err
		}
	}
	m.requests.Flush(tx.batch)
	m.scratch.state = m.state.append(m.scratch.state[:0])
	tx.batch.Put(storage.Meta, keyState, m.scratch.state)
	m.reaching.Store(m.state.applied)
	if err := m.engine.Write(tx.batch, sync); err != nil {
		return err
	}
	if tx.named != nil {
		m.identity.Store(tx.named)
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
	m.restoring.Store(m.staged.active)
	m.scratch.effects = tx.effects
	m.scratch.release()
	return nil
}

// tx is a batch being built. Later entries of a batch see what earlier ones
// did: through known, the present value of every key that an entry names. It is
// nil where nothing depends on old values.
type tx struct {
	m       *Machine
	batch   *storage.Batch
	known   map[string]*current
	effects []kv.Mutation
	// named, members, format and timing are what the batch makes of the machine's, where it
	// changes them.
	named   *Identity
	members map[uint64][]byte
	format  uint32
	timing  *timing
}

// current is a key's physical value: what storage.Data holds, expired or not.
type current struct {
	value    []byte
	expireTS uint64
	found    bool
}

// begin reads the old values that entries depend on, all with one MultiGet.
// Where none of them can, as with plain puts into a keyspace without expiring
// keys, it reads nothing.
func (m *Machine) begin(entries []Entry) (*tx, error) {
	m.scratch.batch.Reset()
	tx := &tx{m: m, batch: &m.scratch.batch, effects: m.scratch.effects}
	if !m.needsOldValues(entries) {
		return tx, nil
	}
	keys := m.scratch.keys[:0]
	for i := range entries {
		if c := entries[i].Command; c != nil && c.Kind != command.StageRestore {
			for j := range c.Mutations {
				keys = append(keys, c.Mutations[j].Key)
			}
		}
	}
	return tx, tx.read(keys)
}

// read makes the present values of keys known.
func (tx *tx) read(keys [][]byte) error { return tx.readFrom(tx.m.engine, keys) }

func (tx *tx) readFrom(old multiGetter, keys [][]byte) error {
	m := tx.m
	stored, err := old.MultiGet(storage.Data, keys)
	if err != nil {
		return err
	}
	m.scratch.keys = keys
	olds := m.scratch.reserve(len(keys))
	tx.known = m.scratch.known
	for i, key := range keys {
		if tx.known[string(key)] != nil {
			continue
		}
		tx.known[string(key)] = &olds[i]
		if stored[i] == nil {
			continue
		}
		olds[i].found = true
		if olds[i].value, olds[i].expireTS, err = splitData(stored[i]); err != nil {
			return fmt.Errorf("key %q: %w", key, err)
		}
	}
	return nil
}

func (m *Machine) needsOldValues(entries []Entry) bool {
	if m.state.expiring > 0 {
		return true
	}
	for i := range entries {
		c := entries[i].Command
		if c == nil || !c.Kind.ChangesKeys() {
			continue
		}
		if c.Kind != command.Write {
			return true
		}
		for j := range c.Mutations {
			if c.Mutations[j].Delete || c.Mutations[j].ExpireTS != 0 {
				return true
			}
		}
	}
	return false
}

// run applies one command and records its change.
func (tx *tx) run(e *Entry) (command.Result, error) {
	m, c := tx.m, e.Command
	res := command.Result{Index: e.Index}
	if m.state.fenced(c) {
		// Before the request table is asked: an answer from it acknowledges a
		// write, which only the log's owner may do, since it alone knows that no
		// other node's lease reads the state before that write. Not remembered:
		// the same request may come again through the owner.
		res.Code = command.Fenced
		return res, nil
	}
	if c.Kind.Fenced() {
		// Its owner was active when it proposed c, so that leases of earlier epochs
		// had ended.
		m.state.epoch.Earlier = 0
	}
	if c.Kind.MovesClock() {
		m.state.clock = max(m.state.clock, c.Clock)
	}
	if !c.Request.IsZero() {
		if answer, known := m.requests.Lookup(c, e.Index, m.state.clock); known {
			return answer, nil
		}
	}
	tx.effects = tx.effects[:0]
	control, err := tx.control(c, &res)
	switch {
	case err != nil:
		return res, err
	case control:
	case m.state.paused:
		// Not remembered: the same request may succeed after the pause.
		res.Code = command.Paused
		return res, nil
	case m.staged.active:
		// Nor is this.
		res.Code = command.Restoring
		return res, nil
	default:
		if err := tx.mutate(c, &res); err != nil {
			return res, err
		}
	}
	if !c.Request.IsZero() {
		m.requests.Add(tx.batch, c, res, m.state.clock)
	}
	if len(tx.effects) > 0 {
		change := kv.Change{Index: e.Index, Clock: m.state.clock, Mutations: tx.effects}
		m.state.logged = m.scratch.changes.Append(tx.batch, change, m.state.logged)
	}
	return res, nil
}

func (tx *tx) mutate(c *command.Command, res *command.Result) error {
	switch c.Kind {
	case command.Write:
		for i := range c.Mutations {
			tx.set(c.Mutations[i])
		}
	case command.CompareAndSet:
		if !tx.matches(c.Mutations[0].Key, c.Expect) {
			res.Code = command.NotUpdated
			return nil
		}
		tx.set(c.Mutations[0])
	case command.Increment:
		res.Counter, res.Code = tx.increment(c.Mutations[0], c.Delta)
	case command.Expire:
		for i := range c.Mutations {
			tx.expire(c.Mutations[i])
		}
	default:
		return fmt.Errorf("%w: %v", command.ErrMalformed, c.Kind)
	}
	return nil
}

// live returns a key's value as a user sees it at the log's clock.
func (tx *tx) live(key []byte) (current, bool) {
	cur := tx.known[string(key)]
	return *cur, cur.found && !tx.m.state.clock.Expired(cur.expireTS)
}

// matches is CompareAndSet's condition.
func (tx *tx) matches(key, expect []byte) bool {
	cur, live := tx.live(key)
	if len(expect) == 0 {
		return !live || len(cur.value) == 0
	}
	return live && string(cur.value) == string(expect)
}

func (tx *tx) increment(m kv.Mutation, delta int64) (int64, command.Code) {
	cur, live := tx.live(m.Key)
	var counter int64
	if live && len(cur.value) > 0 {
		if len(cur.value) != 8 {
			return 0, command.NotACounter
		}
		counter = int64(binary.BigEndian.Uint64(cur.value))
	}
	if (delta > 0 && counter > math.MaxInt64-delta) || (delta < 0 && counter < math.MinInt64-delta) {
		return counter, command.Overflow
	}
	counter += delta
	if live && m.ExpireTS == 0 {
		m.ExpireTS = cur.expireTS
	}
	m.Value = binary.BigEndian.AppendUint64(nil, uint64(counter))
	tx.set(m)
	return counter, command.OK
}

func (tx *tx) expire(m kv.Mutation) {
	cur := tx.known[string(m.Key)]
	if !cur.found || cur.expireTS != m.ExpireTS || !tx.m.state.clock.Expired(m.ExpireTS) {
		return // overwritten since it was proposed
	}
	tx.remove(m.Key, cur)
	tx.m.state.expired++
}

// set puts or deletes a key. A put whose expiry has passed is a delete.
func (tx *tx) set(m kv.Mutation) {
	cur := tx.known[string(m.Key)]
	if m.Delete || tx.m.state.clock.Expired(m.ExpireTS) {
		tx.remove(m.Key, cur)
		return
	}
	if cur != nil {
		tx.reindex(m.Key, cur, m.ExpireTS)
		*cur = current{value: m.Value, expireTS: m.ExpireTS, found: true}
	}
	putData(tx.batch, m.Key, m.Value, m.ExpireTS)
	tx.effects = append(tx.effects, m)
}

// remove deletes a key, if it is there.
func (tx *tx) remove(key []byte, cur *current) {
	if !cur.found {
		return
	}
	tx.reindex(key, cur, 0)
	*cur = current{}
	tx.batch.Delete(storage.Data, key)
	tx.effects = append(tx.effects, kv.Mutation{Key: key, Delete: true})
}

// reindex moves a key's entry in the expiry index from its present expiry to
// the next one; 0 is none, as of a key that is not there.
func (tx *tx) reindex(key []byte, cur *current, next uint64) {
	if cur.expireTS == next {
		return
	}
	s := &tx.m.scratch
	if cur.expireTS != 0 {
		s.expiry = appendExpiryKey(s.expiry[:0], cur.expireTS, key)
		tx.batch.Delete(storage.Expiry, s.expiry)
		tx.m.state.expiring--
	}
	if next != 0 {
		s.expiry = appendExpiryKey(s.expiry[:0], next, key)
		tx.batch.Put(storage.Expiry, s.expiry)
		tx.m.state.expiring++
	}
}
