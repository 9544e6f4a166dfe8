package fsm

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// timing is the record of the timing that the cluster's members agree on, which the state
// machine does not look into, and the index of its last change.
type timing struct {
	record  []byte
	changed kv.Index
}

// Timing returns the record of the timing that the cluster's members agree on, and the index
// of its last change. They are nil and 0 if none was recorded. The caller must not change the
// record.
func (m *Machine) Timing() (record []byte, changed kv.Index) {
	t := m.timing.Load()
	return t.record, t.changed
}

func (m *Machine) loadTiming() error {
	m.timing.Store(&timing{})
	raw, found, err := m.engine.Get(storage.Meta, keyTiming)
	if err != nil || !found {
		return err
	}
	if len(raw) <= 8 {
		return fmt.Errorf("%w: %s record", storage.ErrCorrupt, keyTiming)
	}
	m.timing.Store(&timing{record: bytes.Clone(raw[8:]), changed: binary.BigEndian.Uint64(raw)})
	return nil
}

// setTiming replaces the record if its last change is the one that the command names. So of
// two concurrent changes only the first has an effect.
func (tx *tx) setTiming(c *command.Command, res *command.Result) {
	now := tx.m.timing.Load()
	if tx.timing != nil {
		now = tx.timing
	}
	if now.changed != uint64(c.Delta) {
		res.Code = command.NotUpdated
		return
	}
	tx.timing = &timing{record: bytes.Clone(c.Expect), changed: res.Index}
	putTiming(tx.batch, tx.timing)
}

func putTiming(b *storage.Batch, t *timing) {
	if t.changed != 0 {
		b.Put(storage.Meta, keyTiming, binary.BigEndian.AppendUint64(nil, t.changed), t.record)
	}
}
