package fsm

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
//	meta       "state"                -> see state
//	           "identity"             -> see Identity
//	           "lineage"              -> the histories before this one, with ends; see readLineage
//	           "floor"                -> least retained change number (8)
//	           "base"                 -> see Machine.Base (8)
//	           "format"               -> see Machine.Format (8)
//	           "timing"               -> index of its last change (8), record; see Machine.Timing
//	           "standbys"             -> as timing; see Machine.Standbys
//	           "member/", id (8)      -> how the replica is reached
//	           "replica/", slave      -> when it was renewed (8), or empty; see ListedSlave
//	           "request/", "session/", "lost-sessions" -> see package requests
//	           "restoring"            -> number of pairs staged (8)
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
	keyState     = []byte("state")
	keyIdentity  = []byte("identity")
	keyLineage   = []byte("lineage")
	keyFloor     = []byte("floor")
	keyBase      = []byte("base")
	keyFormat    = []byte("format")
	keyTiming    = []byte("timing")
	keyStandbys  = []byte("standbys")
	prefixMember = []byte("member/")
	prefixSlave  = []byte("replica/")
	keyRestoring = []byte("restoring")
	prefixStaged = []byte("staged/")

	foreverHeader = []byte{headerForever}
)

// putData adds a key to b in the form that storage.Data has.
func putData(b *storage.Batch, key, value []byte, expireTS uint64) {
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

// splitData parses a stored value; value points into stored.
func splitData(stored []byte) (value []byte, expireTS uint64, err error) {
	if len(stored) > 0 && stored[0] == headerForever {
		return stored[1:], 0, nil
	}
	if len(stored) >= expiresHeader && stored[0] == headerExpires {
		return stored[expiresHeader:], binary.BigEndian.Uint64(stored[1:]), nil
	}
	return nil, 0, fmt.Errorf("%w: value header", storage.ErrCorrupt)
}

// appendExpiryKey appends the key of (expireTS, key) in storage.Expiry to dst.
func appendExpiryKey(dst []byte, expireTS uint64, key []byte) []byte {
	return append(binary.BigEndian.AppendUint64(dst, expireTS), key...)
}

// readIndex reads a record that is an index of 8 bytes. It returns absent if there is none.
func readIndex(r storage.Reader, key []byte, absent kv.Index) (kv.Index, error) {
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

func readFloor(r storage.Reader) (kv.Index, error) { return readIndex(r, keyFloor, 1) }
