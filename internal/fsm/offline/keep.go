package offline

import (
	"fmt"

	"github.com/dkvdb/dkv/internal/fsm/history"
	"github.com/dkvdb/dkv/internal/fsm/layout"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// KeepLineage records that the state in engine, whose history is new, replaces a history with
// the given lineage. The result is not durable yet.
func KeepLineage(engine storage.Engine, replaced string, lineage []history.Former) error {
	var b storage.Batch
	layout.PutLineage(&b, history.After(history.Former{History: replaced}, lineage))
	return engine.Write(&b, false)
}

// KeepStandbys records in engine which nodes the log's owner waits for, as
// fsm.Machine.Standbys returns it. The result is not durable yet.
func KeepStandbys(engine storage.Engine, record []byte, changed kv.Index) error {
	var b storage.Batch
	layout.PutOpaque(&b, layout.KeyStandbys, &layout.Opaque{Record: record, Changed: changed})
	return engine.Write(&b, false)
}

// KeepClock sets the log's clock of the state in engine. The result is not durable yet.
func KeepClock(engine storage.Engine, clock kv.Clock) error {
	st, err := layout.ReadState(engine)
	if err != nil {
		return fmt.Errorf("keep the log's clock: %w", err)
	}
	st.Clock = clock
	var b storage.Batch
	b.Put(storage.Meta, layout.KeyState, st.Append(nil))
	if err := engine.Write(&b, false); err != nil {
		return fmt.Errorf("keep the log's clock: %w", err)
	}
	return nil
}

// KeepSlaves replaces the list of slaves in engine. The result is not durable yet.
func KeepSlaves(engine storage.Engine, slaves []layout.ListedSlave) error {
	if err := storage.Clear(engine, storage.Meta, storage.Prefix(layout.PrefixSlave)); err != nil {
		return fmt.Errorf("drop the list of slaves: %w", err)
	}
	var b storage.Batch
	layout.PutSlaves(&b, slaves)
	if err := engine.Write(&b, false); err != nil {
		return fmt.Errorf("keep the list of slaves: %w", err)
	}
	return nil
}
