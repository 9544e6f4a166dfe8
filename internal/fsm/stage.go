package fsm

import (
	"bytes"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm/layout"
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
	layout.Restore
}

// Restoring reports whether mutations are rejected because a restore is in progress.
func (m *Machine) Restoring() bool { return m.restoring.Load() }

// Restoring reports whether a restore is in progress in the view's state, which then includes
// the staged pairs.
func (v *View) Restoring() (found bool, err error) {
	err = v.read(func(r storage.Reader) (err error) {
		_, found, err = r.Get(storage.Meta, layout.KeyRestoring)
		return err
	})
	return found, v.m.note(err)
}

func (m *Machine) loadStaged() error {
	restore, found, err := layout.ReadRestore(m.engine)
	if err != nil || !found {
		return err
	}
	m.staged = staged{active: true, Restore: restore}
	m.restoring.Store(true)
	return nil
}

func (tx *tx) beginRestore(id []byte) {
	tx.dropStaged()
	tx.m.staged = staged{active: true, Restore: layout.Restore{ID: bytes.Clone(id)}}
	tx.putStaged()
}

func (tx *tx) putStaged() { layout.PutRestore(tx.batch, &tx.m.staged.Restore) }

// dropStaged ends a restore without effect, if one is in progress.
func (tx *tx) dropStaged() {
	r := storage.Prefix(layout.PrefixStaged)
	tx.batch.DeleteRange(storage.Meta, r.Start, r.End)
	tx.batch.Delete(storage.Meta, layout.KeyRestoring)
	tx.m.staged = staged{}
}

// is reports whether the restore with an id is in progress.
func (s *staged) is(id []byte) bool { return s.active && bytes.Equal(s.ID, id) }

func (tx *tx) stage(c *command.Command, res *command.Result) {
	if !tx.m.staged.is(c.Expect) || tx.m.staged.Sealed {
		res.Code = command.NotStaged
		return
	}
	for i := range c.Mutations {
		m := &c.Mutations[i]
		layout.PutStaged(tx.batch, m.Key, m.Value, m.ExpireTS)
	}
	tx.m.staged.Pairs += uint64(len(c.Mutations))
	tx.putStaged()
}

// endStaging ends the staging: the pairs no longer change.
func (tx *tx) endStaging(c *command.Command, res *command.Result) {
	if !tx.m.staged.is(c.Expect) {
		res.Code = command.NotStaged
		return
	}
	tx.m.staged.Sealed = true
	tx.putStaged()
}

// Staged returns the id of the restore whose pairs are all staged, and whether there is one:
// Unstage may be called from then on. Only the goroutine that applies may call it.
func (m *Machine) Staged() (id []byte, sealed bool) { return m.staged.ID, m.staged.Sealed }

// Restores reports whether c is an EndRestore that takes effect. Such an entry is not applied
// with Apply but with Restored. Only the goroutine that applies may call it.
func (m *Machine) Restores(c *command.Command) bool {
	return c != nil && c.Kind == command.EndRestore && m.staged.is(c.Expect) &&
		m.staged.Pairs == c.Restored.Pairs && !m.fenced(c)
}
