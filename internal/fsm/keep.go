package fsm

import (
	"fmt"

	"github.com/dkvdb/dkv/internal/fsm/layout"
	"github.com/dkvdb/dkv/internal/storage"
)

// KeepLineage records that the state in engine, which no machine has open and whose history
// is new, replaces m's. The result is not durable yet.
func (m *Machine) KeepLineage(engine storage.Engine) error {
	var b storage.Batch
	layout.PutLineage(&b, m.successorLineage())
	return engine.Write(&b, false)
}

// KeepStandbys records in engine, which no machine has open, that its owner waits for the same
// nodes as m's. The result is not durable yet.
func (m *Machine) KeepStandbys(engine storage.Engine) error {
	var b storage.Batch
	layout.PutOpaque(&b, layout.KeyStandbys, m.standbys.Load())
	return engine.Write(&b, false)
}

// KeepSlaves replaces the list of slaves in engine, which no machine has open. The result is
// not durable yet.
func KeepSlaves(engine storage.Engine, slaves []ListedSlave) error {
	if err := clearSpace(engine, storage.Meta, storage.Prefix(layout.PrefixSlave)); err != nil {
		return fmt.Errorf("drop the list of slaves: %w", err)
	}
	var b storage.Batch
	layout.PutSlaves(&b, slaves)
	if err := engine.Write(&b, false); err != nil {
		return fmt.Errorf("keep the list of slaves: %w", err)
	}
	return nil
}
