package fsm

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/storage"
)

// staged is a restore that is in progress in a replicated log. Its pairs arrive as commands
// and are staged, so that every replica has all of them, from the log or from a snapshot,
// when the one command arrives that makes them the keyspace.
//
// Each of its commands carries the restore's id as Expect. By that they are told from late
// commands of an earlier restore.
type staged struct {
	active bool
	// sealed means that all pairs are staged.
	sealed bool
	id     []byte
	pairs  uint64
}

// sealedMark is set in the record's number of pairs once all are staged.
const sealedMark = 1 << 63

// Restoring reports whether mutations are rejected because a restore is in progress.
func (m *Machine) Restoring() bool { return m.restoring.Load() }

// Restoring reports whether a restore is in progress in the view's state, which then includes
// the staged pairs.
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

// dropStaged ends a restore without effect, if one is in progress.
func (tx *tx) dropStaged() {
	r := storage.Prefix(prefixStaged)
	tx.batch.DeleteRange(storage.Meta, r.Start, r.End)
	tx.batch.Delete(storage.Meta, keyRestoring)
	tx.m.staged = staged{}
}

// is reports whether the restore with an id is in progress.
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

// endStaging ends the staging: the pairs no longer change.
func (tx *tx) endStaging(c *command.Command, res *command.Result) {
	if !tx.m.staged.is(c.Expect) {
		res.Code = command.NotStaged
		return
	}
	tx.m.staged.sealed = true
	tx.putStaged()
}

// Staged returns the id of the restore whose pairs are all staged, and whether there is one:
// Unstage may be called from then on. Only the goroutine that applies may call it.
func (m *Machine) Staged() (id []byte, sealed bool) { return m.staged.id, m.staged.sealed }

// Restores reports whether c is an EndRestore that takes effect. Such an entry is not applied
// with Apply but with Restored. Only the goroutine that applies may call it.
func (m *Machine) Restores(c *command.Command) bool {
	return c != nil && c.Kind == command.EndRestore && m.staged.is(c.Expect) &&
		m.staged.pairs == c.Restored.Pairs && !m.state.fenced(c)
}
