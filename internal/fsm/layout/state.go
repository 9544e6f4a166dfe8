package layout

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// State is the record that every batch writes: the index that the data is at, and what else
// the next Apply depends on.
type State struct {
	Applied kv.Index
	Clock   kv.Clock
	// Expiring counts the entries of storage.Expiry. While it is 0, a put need not look
	// for an expiry to replace.
	Expiring uint64
	// Logged is the running total of the changelog, in bytes.
	Logged uint64
	// Expired counts all keys that Expire has ever removed.
	Expired uint64
	Paused  bool
	// Epoch is the current owner's. It is zero in a log with one owner for ever.
	Epoch command.Epoch
	// Sealed is why the log is closed to its owners, if it is.
	Sealed Seal
}

// Seal is what a promotion of the database to other nodes leaves in the log of its masters.
// It is zero if there is none.
type Seal struct {
	Promotion string
	// At is the index of the command that sealed the log.
	At kv.Index
}

// Versions of the state record. Version 2 adds the lengths of leases at the end, version 3 the
// seal after those. The least version that can express a state is written, so that an older
// release can read the record until an epoch states its lease, and whenever no promotion is
// in progress.
const (
	stateVersion1 = 1
	stateVersion2 = 2
	stateVersion3 = 3
)

// Append appends the record to dst.
func (s *State) Append(dst []byte) []byte {
	version := s.version()
	dst = append(dst, version)
	dst = binary.AppendUvarint(dst, s.Applied)
	dst = binary.AppendUvarint(dst, uint64(s.Clock))
	dst = binary.AppendUvarint(dst, s.Expiring)
	dst = binary.AppendUvarint(dst, s.Logged)
	dst = binary.AppendUvarint(dst, s.Expired)
	dst = append(dst, bit(s.Paused), bit(s.Epoch.Ended))
	dst = binary.AppendUvarint(dst, s.Epoch.ID)
	dst = binary.AppendUvarint(dst, s.Epoch.Term)
	dst = binary.AppendUvarint(dst, s.Epoch.Owner)
	dst = binary.BigEndian.AppendUint64(dst, s.Epoch.Nonce)
	if version >= stateVersion2 {
		dst = binary.AppendUvarint(dst, uint64(s.Epoch.Lease))
		dst = binary.AppendUvarint(dst, uint64(s.Epoch.Earlier))
	}
	if version >= stateVersion3 {
		dst = binary.AppendUvarint(dst, s.Sealed.At)
		dst = append(dst, s.Sealed.Promotion...)
	}
	return dst
}

// version returns the least version that can express the state.
func (s *State) version() byte {
	switch {
	case s.Sealed.Promotion != "":
		return stateVersion3
	case s.Epoch.Lease != unstatedLease(s.Epoch) || s.Epoch.Earlier != 0:
		return stateVersion2
	default:
		return stateVersion1
	}
}

// unstatedLease returns the lease of an epoch that was recorded without one.
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

func decodeState(p []byte) (State, error) {
	var s State
	bad := fmt.Errorf("%w: state record", storage.ErrCorrupt)
	switch {
	case len(p) == 0 || p[0] == 0:
		return s, bad
	case p[0] > stateVersion3:
		return s, storage.Newer("the state record", uint64(p[0]), stateVersion3)
	}
	version, p := p[0], p[1:]
	clock := uint64(0)
	if p = takeUvarints(p, &s.Applied, &clock, &s.Expiring, &s.Logged, &s.Expired); len(p) < 2 || p[0] > 1 || p[1] > 1 {
		return s, bad
	}
	s.Clock, s.Paused, s.Epoch.Ended = kv.Clock(clock), p[0] == 1, p[1] == 1
	if p = takeUvarints(p[2:], &s.Epoch.ID, &s.Epoch.Term, &s.Epoch.Owner); len(p) < 8 {
		return s, bad
	}
	s.Epoch.Nonce = binary.BigEndian.Uint64(p)
	s.Epoch.Lease, p = unstatedLease(s.Epoch), p[8:]
	if version >= stateVersion2 {
		var lease, earlier uint64
		if p = takeUvarints(p, &lease, &earlier); p == nil || lease > math.MaxInt64 || earlier > math.MaxInt64 {
			return s, bad
		}
		s.Epoch.Lease, s.Epoch.Earlier = time.Duration(lease), time.Duration(earlier)
	}
	if version >= stateVersion3 {
		if p = takeUvarints(p, &s.Sealed.At); len(p) == 0 {
			return s, bad
		}
		s.Sealed.Promotion, p = string(p), nil
	}
	if len(p) != 0 {
		return s, bad
	}
	return s, nil
}

// takeUvarints reads fields from the front of p and returns the rest, or nil if p is too
// short.
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

// ReadState reads the state record, which the first batch writes.
func ReadState(r storage.Reader) (State, error) {
	stored, found, err := r.Get(storage.Meta, KeyState)
	if err != nil {
		return State{}, err
	}
	if !found {
		return State{}, fmt.Errorf("%w: there is no state record", storage.ErrCorrupt)
	}
	return decodeState(stored)
}
