package fsm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// How state is laid out in an engine. Integers in keys are big endian, so that
// byte order is numeric order.
//
//	data       key                    -> header, value
//	expiry     expireTS (8), key      -> (empty)
//	changelog  index (8)              -> see package changelog
//	meta       "state"                -> see state
//	           "identity"             -> see Identity
//	           "lineage"              -> the histories before this one; see readLineage
//	           "floor"                -> least retained change number (8)
//	           "base"                 -> see Machine.Base (8)
//	           "format"               -> see Machine.Format (8)
//	           "timing"               -> index of its last change (8), record; see Machine.Timing
//	           "member/", id (8)      -> how the replica is reached
//	           "replica/", slave      -> when it was renewed (8), or empty; see ListedSlave
//	           "request/", "session/", "lost-sessions" -> see package requests
//	           "restoring"            -> number of pairs staged (8)
//	           "staged/", key         -> header, value
//
// A data value's header is one byte, 0 for a key that never expires; 1 is
// followed by the key's expireTS in 8 bytes.
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
	prefixMember = []byte("member/")
	prefixSlave  = []byte("replica/")
	keyRestoring = []byte("restoring")
	prefixStaged = []byte("staged/")

	foreverHeader = []byte{headerForever}
)

// putData adds a key to b as it stands in storage.Data.
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

// state is the record that goes with every batch: where in the log the data
// stands, and what else the next apply starts from.
type state struct {
	applied kv.Index
	clock   kv.Clock
	// expiring counts the entries of storage.Expiry. While it is 0, a put need
	// not look for an expiry to replace.
	expiring uint64
	// logged is the changelog's running total.
	logged uint64
	// expired counts the keys that Expire has removed, ever.
	expired uint64
	paused  bool
	// epoch is the present owner's; zero in a log that never changes hands.
	epoch command.Epoch
}

// Versions of the state record. The second has the lengths of leases behind the rest;
// it is written if the first would not say what they are, so that a release that only
// knows the first can read the record until an epoch states its lease.
const (
	stateVersion1 = 1
	stateVersion2 = 2
)

func (s *state) append(dst []byte) []byte {
	version := byte(stateVersion1)
	if s.epoch.Lease != unstatedLease(s.epoch) || s.epoch.Earlier != 0 {
		version = stateVersion2
	}
	dst = append(dst, version)
	dst = binary.AppendUvarint(dst, s.applied)
	dst = binary.AppendUvarint(dst, uint64(s.clock))
	dst = binary.AppendUvarint(dst, s.expiring)
	dst = binary.AppendUvarint(dst, s.logged)
	dst = binary.AppendUvarint(dst, s.expired)
	dst = append(dst, bit(s.paused), bit(s.epoch.Ended))
	dst = binary.AppendUvarint(dst, s.epoch.ID)
	dst = binary.AppendUvarint(dst, s.epoch.Term)
	dst = binary.AppendUvarint(dst, s.epoch.Owner)
	dst = binary.BigEndian.AppendUint64(dst, s.epoch.Nonce)
	if version == stateVersion2 {
		dst = binary.AppendUvarint(dst, uint64(s.epoch.Lease))
		dst = binary.AppendUvarint(dst, uint64(s.epoch.Earlier))
	}
	return dst
}

// unstatedLease is the lease of an epoch that was recorded without one.
func unstatedLease(e command.Epoch) time.Duration {
	if e.ID == 0 {
		return 0
	}
	return command.UnstatedLease
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func decodeState(p []byte) (state, error) {
	var s state
	bad := fmt.Errorf("%w: state record", storage.ErrCorrupt)
	switch {
	case len(p) == 0 || p[0] == 0:
		return s, bad
	case p[0] > stateVersion2:
		return s, storage.Newer("the state record", uint64(p[0]), stateVersion2)
	}
	version, p := p[0], p[1:]
	clock := uint64(0)
	if p = takeUvarints(p, &s.applied, &clock, &s.expiring, &s.logged, &s.expired); len(p) < 2 || p[0] > 1 || p[1] > 1 {
		return s, bad
	}
	s.clock, s.paused, s.epoch.Ended = kv.Clock(clock), p[0] == 1, p[1] == 1
	if p = takeUvarints(p[2:], &s.epoch.ID, &s.epoch.Term, &s.epoch.Owner); len(p) < 8 {
		return s, bad
	}
	s.epoch.Nonce = binary.BigEndian.Uint64(p)
	s.epoch.Lease, p = unstatedLease(s.epoch), p[8:]
	if version == stateVersion2 {
		var lease, earlier uint64
		if p = takeUvarints(p, &lease, &earlier); p == nil || lease > math.MaxInt64 || earlier > math.MaxInt64 {
			return s, bad
		}
		s.epoch.Lease, s.epoch.Earlier = time.Duration(lease), time.Duration(earlier)
	}
	if len(p) != 0 {
		return s, bad
	}
	return s, nil
}

// takeUvarints takes fields off the front of p and returns what is left; nil
// where p is too short.
func takeUvarints(p []byte, fields ...*uint64) []byte {
	for _, field := range fields {
		v, n := binary.Uvarint(p)
		if n <= 0 {
			return nil
		}
		*field, p = v, p[n:]
	}
	return p
}

// readState returns the state record, which is there from the first batch on.
func readState(r storage.Reader) (state, error) {
	stored, found, err := r.Get(storage.Meta, keyState)
	if err != nil {
		return state{}, err
	}
	if !found {
		return state{}, fmt.Errorf("%w: there is no state record", storage.ErrCorrupt)
	}
	return decodeState(stored)
}

// Identity says whose state it is. Both ids are random, as hexadecimal text. They
// are empty in a replica's state until the log's first epoch names it.
type Identity struct {
	// Cluster stays with a database for its whole life.
	Cluster string
	// History changes when the keyspace is replaced, as by a restore: change
	// numbers of different histories have nothing to do with each other.
	History string
}

// identityFormat is the format of the identity record, in its first line.
const identityFormat = 1

func (id Identity) append(dst []byte) []byte {
	return fmt.Appendf(dst, "%d\n%s\n%s\n", identityFormat, id.Cluster, id.History)
}

func decodeIdentity(p []byte) (Identity, error) {
	f := bytes.Split(p, []byte("\n"))
	if format, err := strconv.ParseUint(string(f[0]), 10, 32); err == nil && len(f) > 1 && format > identityFormat {
		return Identity{}, storage.Newer("the identity record", format, identityFormat)
	}
	if len(f) != 4 || string(f[0]) != "1" || (len(f[1]) == 0) != (len(f[2]) == 0) || len(f[3]) != 0 {
		return Identity{}, fmt.Errorf("%w: identity record", storage.ErrCorrupt)
	}
	return Identity{Cluster: string(f[1]), History: string(f[2])}, nil
}
