package fsm

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/storage"
)

// staged is a restore that is under way in a replicated log: its pairs come as
// commands and are laid aside, so that every replica has all of them, by the log
// or by a snapshot, when the one command comes that makes them the keyspace.
//
// The id, which each of its commands carries as Expect, tells a restore from what
// is left of an earlier one on its way.
type staged struct {
	active bool
	// sealed says that all pairs are there.
	sealed bool
	id     []byte
	pairs  uint64
}

// sealedMark is set in the record's number of pairs once all are there.
const sealedMark = 1 << 63

// Restoring tells whether mutations are refused because the keyspace is being
// replaced.
func (m *Machine) Restoring() bool { return m.restoring.Load() }

// Restoring tells whether a restore is under way in the view: what it has staged
// is part of the state.
func (v *View) Restoring() (found bool, err error) {
	err = v.read(func(r storage.Reader) (err error) {
		_, found, err = r.Get(storage.Meta, keyRestoring)
		return err
	})
	return found, v.m.note(err)
}

func (m *Machine) loadStaged() error {
	p, found, err := m.engine.Get(storage.Meta, keyRestoring)
	switch {
	case err != nil || !found:
		return err
	case len(p) < 8:
		return fmt.Errorf("%w: %s record", storage.ErrCorrupt, keyRestoring)
	}
	pairs := binary.BigEndian.Uint64(p)
	m.staged = staged{active: true, sealed: pairs&sealedMark != 0, id: bytes.Clone(p[8:]), pairs: pairs &^ sealedMark}
	m.restoring.Store(true)
	return nil
}

func (tx *tx) beginRestore(id []byte) {
	tx.dropStaged()
	tx.m.staged = staged{active: true, id: bytes.Clone(id)}
	tx.putStaged()
}

func (tx *tx) putStaged() {
	pairs := tx.m.staged.pairs
	if tx.m.staged.sealed {
		pairs |= sealedMark
	}
	tx.batch.Put(storage.Meta, keyRestoring, binary.BigEndian.AppendUint64(nil, pairs), tx.m.staged.id)
}

// dropStaged ends a restore, if there is one, without effect.
func (tx *tx) dropStaged() {
	r := storage.Prefix(prefixStaged)
	tx.batch.DeleteRange(storage.Meta, r.Start, r.End)
	tx.batch.Delete(storage.Meta, keyRestoring)
	tx.m.staged = staged{}
}

// is tells whether the restore with an id is under way.
func (s *staged) is(id []byte) bool { return s.active && bytes.Equal(s.id, id) }

func (tx *tx) stage(c *command.Command, res *command.Result) {
	if !tx.m.staged.is(c.Expect) || tx.m.staged.sealed {
		res.Code = command.NotStaged
		return
	}
	for i := range c.Mutations {
		m := &c.Mutations[i]
		putPair(tx.batch, storage.Meta, append(bytes.Clone(prefixStaged), m.Key...), m.Value, m.ExpireTS)
	}
	tx.m.staged.pairs += uint64(len(c.Mutations))
	tx.putStaged()
}

// seal ends the staging: from here on the pairs stay as they are.
func (tx *tx) seal(c *command.Command, res *command.Result) {
	if !tx.m.staged.is(c.Expect) {
		res.Code = command.NotStaged
		return
	}
	tx.m.staged.sealed = true
	tx.putStaged()
}

// Sealed returns the id of the restore of which all pairs are staged, and whether there
// is one: Unstage may be called from here on. Only the goroutine that applies may ask.
func (m *Machine) Sealed() (id []byte, sealed bool) { return m.staged.id, m.staged.sealed }

// Restores tells whether c is an EndRestore that takes effect. Such an entry is
// not for Apply but for Restored. Only who applies may ask.
func (m *Machine) Restores(c *command.Command) bool {
	return c != nil && c.Kind == command.EndRestore && m.staged.is(c.Expect) &&
		m.staged.pairs == c.Restored.Pairs && !m.state.fenced(c)
}

// Unstaged is what Unstage has put into an engine.
type Unstaged struct{ Pairs, Expiring uint64 }

// Unstage copies the staged pairs of a view into the keyspace of an empty engine: the
// long part of what an EndRestore comes to. They must be all there; see Sealed.
func (v *View) Unstage(ctx context.Context, target storage.Engine) (out Unstaged, err error) {
	fill := filler{engine: target}
	err = v.eachStaged(ctx, func(key, stored []byte, expireTS uint64) error {
		out.Pairs++
		if expireTS != 0 {
			out.Expiring++
		}
		return fill.put(storage.Data, key, stored)
	})
	if err == nil {
		err = fill.finish()
	}
	if err == nil && out.Expiring > 0 {
		err = v.unstageExpiry(ctx, target)
	}
	return out, err
}

// unstageExpiry writes the index of the pairs that expire. The order of its keys is
// not that of the pairs, so it has no part in a bulk load.
func (v *View) unstageExpiry(ctx context.Context, target storage.Engine) error {
	var b storage.Batch
	var scratch []byte
	err := v.eachStaged(ctx, func(key, _ []byte, expireTS uint64) error {
		if expireTS == 0 {
			return nil
		}
		scratch = appendExpiryKey(scratch[:0], expireTS, key)
		b.Put(storage.Expiry, scratch)
		if b.Size() < fillStep {
			return nil
		}
		defer b.Reset()
		return target.Write(&b, false)
	})
	if err != nil {
		return err
	}
	return target.Write(&b, false)
}

// Restored completes, in an engine that holds what Unstage has put there and nothing
// else, the state that an EndRestore at a log entry makes of this one: the staged pairs
// under a new history. Epoch, members, slaves, requests, pause, format and timing stay, for the
// log goes on. Nothing of the present state changes. The result is durable, and its index
// is above any that either state had.
func (m *Machine) Restored(ctx context.Context, e Entry, target storage.Engine, staged Unstaged) error {
	if !m.gate.enter() {
		return ErrClosed
	}
	defer m.gate.leave()
	b, err := m.restoredMeta(ctx, e, target, staged)
	if err == nil {
		err = target.Write(b, true)
	}
	if err == nil {
		err = target.Sync()
	}
	if err != nil {
		return fmt.Errorf("restore at index %d: %w", e.Index, err)
	}
	return nil
}

// restoredMeta returns what a restored state has beside its pairs and the remembered
// requests, which it puts into target.
func (m *Machine) restoredMeta(ctx context.Context, e Entry, target storage.Engine, staged Unstaged) (*storage.Batch, error) {
	if want := e.Command.Restored.Pairs; staged.Pairs != want {
		return nil, fmt.Errorf("%w: %d pairs are staged, and %d were", storage.ErrCorrupt, staged.Pairs, want)
	}
	slaves, err := m.Slaves()
	if err == nil {
		err = m.KeepRequests(ctx, target)
	}
	if err != nil {
		return nil, err
	}
	st := m.state
	st.applied = max(e.Index, e.Command.Restored.Index+1)
	st.expiring, st.logged = staged.Expiring, 0
	b := new(storage.Batch)
	for id, record := range m.Members() {
		b.Put(storage.Meta, memberKey(id), record)
	}
	putSlaves(b, slaves)
	if format := m.Format(); format != command.FirstFormat {
		putFormat(b, format)
	}
	putTiming(b, m.timing.Load())
	id := Identity{Cluster: m.Identity().Cluster, History: e.Command.Restored.History}
	b.Put(storage.Meta, keyIdentity, id.append(nil))
	putLineage(b, m.successorLineage())
	b.Put(storage.Meta, keyFloor, changelog.Key(st.applied+1))
	b.Put(storage.Meta, keyState, st.append(nil))
	// The same log entries have higher indexes from here on, where the restored
	// state was further.
	b.Put(storage.Meta, keyBase, changelog.Key(m.base+st.applied-e.Index))
	return b, nil
}

// eachStaged calls yield for each staged pair in the order of the keys, until it
// returns an error. What it is given is valid until it returns.
func (v *View) eachStaged(ctx context.Context, yield func(key, stored []byte, expireTS uint64) error) error {
	r := storage.Prefix(prefixStaged)
	r.Bulk = true
	it := v.walk(storage.Meta, r)
	defer it.close()
	for n := 0; it.next(); n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		key := it.key[len(prefixStaged):]
		_, expireTS, err := splitData(it.value)
		if err != nil {
			return v.m.note(fmt.Errorf("staged key %q: %w", key, err))
		}
		if err := yield(key, it.value, expireTS); err != nil {
			return err
		}
	}
	return v.m.note(it.err)
}
