package layout

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm/history"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// ReadIdentity returns the ids of the state, and whether there are any: an empty engine has
// none.
func ReadIdentity(r storage.Reader) (id history.Identity, found bool, err error) {
	p, found, err := r.Get(storage.Meta, KeyIdentity)
	if err != nil || !found {
		return id, false, err
	}
	id, err = history.DecodeIdentity(p)
	return id, true, err
}

// PutIdentity sets the ids of the state.
func PutIdentity(b *storage.Batch, id history.Identity) {
	b.Put(storage.Meta, KeyIdentity, id.Append(nil))
}

// ReadLineage returns the histories before the current one.
func ReadLineage(r storage.Reader) ([]history.Former, error) {
	p, _, err := r.Get(storage.Meta, KeyLineage)
	if err != nil {
		return nil, err
	}
	return history.DecodeLineage(p)
}

// PutLineage sets the histories before the current one, unless there are none.
func PutLineage(b *storage.Batch, lineage []history.Former) {
	if len(lineage) > 0 {
		b.Put(storage.Meta, KeyLineage, history.AppendLineage(nil, lineage))
	}
}

// ReadFormat returns the format of the log.
func ReadFormat(r storage.Reader) (uint32, error) {
	format, err := ReadIndex(r, KeyFormat, uint64(command.FirstFormat))
	if err != nil {
		return 0, err
	}
	if format == 0 || format != uint64(uint32(format)) {
		return 0, fmt.Errorf("%w: %s record", storage.ErrCorrupt, KeyFormat)
	}
	return uint32(format), nil
}

// PutFormat sets the format of the log.
func PutFormat(b *storage.Batch, format uint32) {
	b.Put(storage.Meta, KeyFormat, binary.BigEndian.AppendUint64(nil, uint64(format)))
}

// Opaque is a record that the log keeps and the state machine does not look into, as the
// members' timing, and the index of its last change. It is zero if there is none.
type Opaque struct {
	Record  []byte
	Changed kv.Index
}

// ReadOpaque returns the record at a key.
func ReadOpaque(r storage.Reader, key []byte) (*Opaque, error) {
	raw, found, err := r.Get(storage.Meta, key)
	switch {
	case err != nil:
		return nil, err
	case !found:
		return &Opaque{}, nil
	case len(raw) <= 8:
		return nil, fmt.Errorf("%w: %s record", storage.ErrCorrupt, key)
	}
	return &Opaque{Record: bytes.Clone(raw[8:]), Changed: binary.BigEndian.Uint64(raw)}, nil
}

// PutOpaque sets the record at a key, unless there is none.
func PutOpaque(b *storage.Batch, key []byte, o *Opaque) {
	if o.Changed != 0 {
		b.Put(storage.Meta, key, binary.BigEndian.AppendUint64(nil, o.Changed), o.Record)
	}
}
