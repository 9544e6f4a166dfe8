package layout

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/dkvdb/dkv/internal/storage"
)

// Restore is the record of a restore that is in progress: the number of pairs staged (8), and
// the restore's id.
type Restore struct {
	ID    []byte
	Pairs uint64
	// Sealed means that all pairs are staged.
	Sealed bool
}

// sealedMark is set in the record's number of pairs once all are staged.
const sealedMark = 1 << 63

// ReadRestore returns the record, and whether a restore is in progress.
func ReadRestore(r storage.Reader) (restore Restore, found bool, err error) {
	p, found, err := r.Get(storage.Meta, KeyRestoring)
	switch {
	case err != nil || !found:
		return restore, false, err
	case len(p) < 8:
		return restore, false, fmt.Errorf("%w: %s record", storage.ErrCorrupt, KeyRestoring)
	}
	pairs := binary.BigEndian.Uint64(p)
	return Restore{ID: bytes.Clone(p[8:]), Pairs: pairs &^ sealedMark, Sealed: pairs&sealedMark != 0}, true, nil
}

// PutRestore sets the record.
func PutRestore(b *storage.Batch, r *Restore) {
	pairs := r.Pairs
	if r.Sealed {
		pairs |= sealedMark
	}
	b.Put(storage.Meta, KeyRestoring, binary.BigEndian.AppendUint64(nil, pairs), r.ID)
}

// PutStaged stages a pair.
func PutStaged(b *storage.Batch, key, value []byte, expireTS uint64) {
	putPair(b, storage.Meta, append(bytes.Clone(PrefixStaged), key...), value, expireTS)
}
