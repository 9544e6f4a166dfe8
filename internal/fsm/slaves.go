package fsm

import (
	"encoding/binary"
	"fmt"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// The list of slaves belongs to the cluster and not to the keyspace: a restore leaves it as
// it is, wherever the backup came from.

// ListedSlave is an entry of the list of slaves.
type ListedSlave struct {
	command.Slave
	// Renewed is the log's clock when the slave was last added, and 0 if that was done by
	// a release that did not record it.
	Renewed kv.Clock
}

func (tx *tx) setSlave(c *command.Command) {
	key := append([]byte(nil), prefixSlave...)
	key = append(key, c.Expect...)
	if c.Flag {
		// The clock of a log without writes does not move, so the command's is used.
		putSlave(tx.batch, key, max(tx.m.state.clock, c.Clock))
		return
	}
	tx.batch.Delete(storage.Meta, key)
}

// Slaves returns the list of slaves in the order of zone and address.
func (m *Machine) Slaves() ([]ListedSlave, error) {
	if !m.gate.enter() {
		return nil, ErrClosed
	}
	defer m.gate.leave()
	it := m.engine.Iterate(storage.Meta, storage.Prefix(prefixSlave))
	defer it.Close()
	var out []ListedSlave
	for it.Next() {
		s, err := parseSlave(it.Key()[len(prefixSlave):], it.Value())
		if err != nil {
			return nil, m.note(fmt.Errorf("%w: %w", storage.ErrCorrupt, err))
		}
		out = append(out, s)
	}
	return out, m.note(it.Err())
}

func parseSlave(slave, renewed []byte) (ListedSlave, error) {
	s, err := command.ParseSlave(slave)
	switch {
	case err != nil:
		return ListedSlave{}, err
	case len(renewed) == 0:
		return ListedSlave{Slave: s}, nil
	case len(renewed) != 8:
		return ListedSlave{}, fmt.Errorf("slave %s has a time of %d bytes", s.Address, len(renewed))
	}
	return ListedSlave{Slave: s, Renewed: kv.Clock(binary.BigEndian.Uint64(renewed))}, nil
}

// KeepSlaves replaces the list of slaves in engine, which no machine has open. The result is
// not durable yet.
func KeepSlaves(engine storage.Engine, slaves []ListedSlave) error {
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

func putSlaves(b *storage.Batch, slaves []ListedSlave) {
	for _, s := range slaves {
		putSlave(b, s.Append(append([]byte(nil), prefixSlave...)), s.Renewed)
	}
}

func putSlave(b *storage.Batch, key []byte, renewed kv.Clock) {
	if renewed == 0 {
		b.Put(storage.Meta, key)
		return
	}
	b.Put(storage.Meta, key, binary.BigEndian.AppendUint64(nil, uint64(renewed)))
}
