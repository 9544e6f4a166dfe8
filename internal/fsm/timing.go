package fsm

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// logRecord is a record that the log keeps and the state machine does not look into, and the
// index of its last change.
type logRecord struct {
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

// Standbys returns the record of the nodes that the log's owner waits for, and the index of
// its last change. They are nil and 0 if none was recorded. It costs one atomic load, so that
// an owner can compare the index for each answer. The caller must not change the record.
func (m *Machine) Standbys() (record []byte, changed kv.Index) {
	s := m.standbys.Load()
	return s.record, s.changed
}

// KeepStandbys records in engine, which no machine has open, that its owner waits for the same
// nodes as m's. The result is not durable yet.
func (m *Machine) KeepStandbys(engine storage.Engine) error {
	var b storage.Batch
	putRecord(&b, keyStandbys, m.standbys.Load())
	return engine.Write(&b, false)
}

func (m *Machine) loadRecords() error {
	timing, err := readRecord(m.engine, keyTiming)
	if err != nil {
		return err
	}
	standbys, err := readRecord(m.engine, keyStandbys)
	if err != nil {
		return err
	}
	m.timing.Store(timing)
	m.standbys.Store(standbys)
	return nil
}

func readRecord(r storage.Reader, key []byte) (*logRecord, error) {
	raw, found, err := r.Get(storage.Meta, key)
	switch {
	case err != nil:
		return nil, err
	case !found:
		return &logRecord{}, nil
	case len(raw) <= 8:
		return nil, fmt.Errorf("%w: %s record", storage.ErrCorrupt, key)
	}
	return &logRecord{record: bytes.Clone(raw[8:]), changed: binary.BigEndian.Uint64(raw)}, nil
}

func (tx *tx) setTiming(c *command.Command, res *command.Result) {
	if next := replaced(tx.m.timing.Load(), tx.timing, c, res); next != nil {
		tx.timing = next
		putRecord(tx.batch, keyTiming, next)
	}
}

func (tx *tx) setStandbys(c *command.Command, res *command.Result) {
	if next := replaced(tx.m.standbys.Load(), tx.standbys, c, res); next != nil {
		tx.standbys = next
		putRecord(tx.batch, keyStandbys, next)
	}
}

// replaced returns what a command makes of a record, which the batch may have changed before,
// or nil: the command has an effect only if the record's last change is the one that it
// names. So of two concurrent changes only the first counts.
func replaced(stored, inBatch *logRecord, c *command.Command, res *command.Result) *logRecord {
	now := stored
	if inBatch != nil {
		now = inBatch
	}
	if now.changed != uint64(c.Delta) {
		res.Code = command.NotUpdated
		return nil
	}
	return &logRecord{record: bytes.Clone(c.Expect), changed: res.Index}
}

func putRecord(b *storage.Batch, key []byte, r *logRecord) {
	if r.changed != 0 {
		b.Put(storage.Meta, key, binary.BigEndian.AppendUint64(nil, r.changed), r.record)
	}
}
