package fsm

import (
	"encoding/binary"
	"fmt"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/storage"
)

// Format returns the format of the log: its owner proposes nothing that needs a newer one.
// It is command.FirstFormat until the log raises it.
func (m *Machine) Format() uint32 { return m.format.Load() }

func (m *Machine) loadFormat() error {
	format, err := readIndex(m.engine, keyFormat, uint64(command.FirstFormat))
	if err != nil {
		return err
	}
	if format == 0 || format != uint64(uint32(format)) {
		return fmt.Errorf("%w: %s record", storage.ErrCorrupt, keyFormat)
	}
	m.format.Store(uint32(format))
	return nil
}

// setFormat raises the log's format. A format that is not newer has no effect.
func (tx *tx) setFormat(format uint32) {
	if format <= max(tx.format, tx.m.Format()) {
		return
	}
	tx.format = format
	putFormat(tx.batch, format)
}

func putFormat(b *storage.Batch, format uint32) {
	b.Put(storage.Meta, keyFormat, binary.BigEndian.AppendUint64(nil, uint64(format)))
}
