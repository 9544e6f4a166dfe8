// Package layout is how the state of a Machine (see package fsm) is stored in an engine: the
// keys of each space, and the encoding of each record. It knows no Machine, so that a state
// can also be read and changed while no Machine has it open.
package layout

import (
	"encoding/binary"
	"fmt"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// How the state is stored in an engine. Integers in keys are big endian, so that the order
// of bytes is that of numbers.
//
//	data       key                    -> header, value
//	expiry     expireTS (8), key      -> (empty)
//	changelog  index (8)              -> see package changelog
//	meta       "state"                -> see State
//	           "identity"             -> see history.Identity
//	           "lineage"              -> the histories before this one, with ends; see package history
//	           "floor"                -> least retained change number (8)
//	           "base"                 -> where the current log begins; see fsm.Machine.Base (8)
//	           "format"               -> format of the log; see fsm.Machine.Format (8)
//	           "timing"               -> index of its last change (8), record; see fsm.Machine.Timing
//	           "standbys"             -> as timing; see fsm.Machine.Standbys
//	           "member/", id (8)      -> how the replica is reached
//	           "replica/", slave      -> when it was renewed (8), or empty; see ListedSlave
//	           "request/", "session/", "lost-sessions" -> see package requests
//	           "restoring"            -> see Restore
//	           "staged/", key         -> header, value
//
// A data value's header is one byte: 0 for a key that never expires, or 1, followed by the
// key's expireTS in 8 bytes.
const (
	headerForever = 0
	headerExpires = 1
	expiresHeader = 9
)

var (
	KeyState     = []byte("state")
	KeyIdentity  = []byte("identity")
	KeyLineage   = []byte("lineage")
	KeyFloor     = []byte("floor")
	KeyBase      = []byte("base")
	KeyFormat    = []byte("format")
	KeyTiming    = []byte("timing")
	KeyStandbys  = []byte("standbys")
	PrefixMember = []byte("member/")
	PrefixSlave  = []byte("replica/")
	KeyRestoring = []byte("restoring")
	PrefixStaged = []byte("staged/")

	foreverHeader = []byte{headerForever}
)

// PutData adds a pair of the keyspace to b. An expireTS of 0 means that it never expires.
func PutData(b *storage.Batch, key, value []byte, expireTS uint64) {
	putPair(b, storage.Data, key, value, expireTS)
}

func putPair(b *storage.Batch, space storage.Space, key, value []byte, expireTS uint64) {
	if expireTS == 0 {
		b.Put(space, key, foreverHeader, value)
		return
	}
	var h [expiresHeader]byte
	h[0] = headerExpires
	binary.BigEndian.PutUint64(h[1:], expireTS)
	b.Put(space, key, h[:], value)
}

// SplitData parses a stored value; value points into stored.
func SplitData(stored []byte) (value []byte, expireTS uint64, err error) {
	if len(stored) > 0 && stored[0] == headerForever {
		return stored[1:], 0, nil
	}
	if len(stored) >= expiresHeader && stored[0] == headerExpires {
		return stored[expiresHeader:], binary.BigEndian.Uint64(stored[1:]), nil
	}
	return nil, 0, fmt.Errorf("%w: value header", storage.ErrCorrupt)
}

// AppendExpiryKey appends the key of (expireTS, key) in storage.Expiry to dst.
func AppendExpiryKey(dst []byte, expireTS uint64, key []byte) []byte {
	return append(binary.BigEndian.AppendUint64(dst, expireTS), key...)
}

// ReadIndex reads a record that is an index of 8 bytes. It returns absent if there is none.
func ReadIndex(r storage.Reader, key []byte, absent kv.Index) (kv.Index, error) {
	p, found, err := r.Get(storage.Meta, key)
	switch {
	case err != nil:
		return 0, err
	case !found:
		return absent, nil
	case len(p) != 8:
		return 0, fmt.Errorf("%w: %s record", storage.ErrCorrupt, key)
	}
	return binary.BigEndian.Uint64(p), nil
}

// ReadFloor returns the least change number that is retained.
func ReadFloor(r storage.Reader) (kv.Index, error) { return ReadIndex(r, KeyFloor, 1) }
