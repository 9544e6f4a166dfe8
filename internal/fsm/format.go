package fsm

import (
	"encoding/binary"
	"fmt"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/storage"
)

// Format returns the format of the state's log, beyond which its owner proposes
// nothing. It is command.FirstFormat until the log says otherwise.
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

// setFormat raises the log's format; a lower one, or the same again, has no effect.
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
