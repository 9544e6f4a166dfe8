package fsm

import (
	"fmt"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/storage"
)

// The list of slaves is the cluster's and not the keyspace's: a restore, from
// wherever, leaves it as it is.

func (tx *tx) setSlave(c *command.Command) {
	key := append([]byte(nil), prefixSlave...)
	key = append(key, c.Expect...)
	if c.Flag {
		tx.batch.Put(storage.Meta, key)
		return
	}
	tx.batch.Delete(storage.Meta, key)
}

// Slaves returns the list of slaves, by zone and address.
func (m *Machine) Slaves() ([]command.Slave, error) {
	if !m.gate.enter() {
		return nil, ErrClosed
	}
	defer m.gate.leave()
	r := storage.Prefix(prefixSlave)
	r.KeysOnly = true
	it := m.engine.Iterate(storage.Meta, r)
	defer it.Close()
	var out []command.Slave
	for it.Next() {
		s, err := command.ParseSlave(it.Key()[len(prefixSlave):])
		if err != nil {
			return nil, m.note(fmt.Errorf("%w: %w", storage.ErrCorrupt, err))
		}
		out = append(out, s)
	}
	return out, m.note(it.Err())
}

// KeepSlaves makes the list of slaves in engine, which no machine has open, the
// one given. It is not durable yet.
func KeepSlaves(engine storage.Engine, slaves []command.Slave) error {
	if err := clearSpace(engine, storage.Meta, storage.Prefix(prefixSlave)); err != nil {
		return fmt.Errorf("drop the list of slaves: %w", err)
	}
	var b storage.Batch
	putSlaves(&b, slaves)
	if err := engine.Write(&b, false); err != nil {
		return fmt.Errorf("keep the list of slaves: %w", err)
	}
	return nil
}

func putSlaves(b *storage.Batch, slaves []command.Slave) {
	for _, s := range slaves {
		b.Put(storage.Meta, s.Append(append([]byte(nil), prefixSlave...)))
	}
}
