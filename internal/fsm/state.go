package fsm

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// state is the record that every batch writes: the index that the data is at, and what else
// the next Apply depends on.
type state struct {
	applied kv.Index
	clock   kv.Clock
	// expiring counts the entries of storage.Expiry. While it is 0, a put need not look
	// for an expiry to replace.
	expiring uint64
	// logged is the running total of the changelog, in bytes.
	logged uint64
	// expired counts all keys that Expire has ever removed.
	expired uint64
	paused  bool
	// epoch is the current owner's. It is zero in a log with one owner for ever.
	epoch command.Epoch
	// sealed is why the log is closed to its owners, if it is.
	sealed seal
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

func (s *state) append(dst []byte) []byte {
	version := s.version()
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
	if version >= stateVersion2 {
		dst = binary.AppendUvarint(dst, uint64(s.epoch.Lease))
		dst = binary.AppendUvarint(dst, uint64(s.epoch.Earlier))
	}
	if version >= stateVersion3 {
		dst = binary.AppendUvarint(dst, s.sealed.at)
		dst = append(dst, s.sealed.promotion...)
	}
	return dst
}

// version returns the least version that can express the state.
func (s *state) version() byte {
	switch {
	case s.sealed.promotion != "":
		return stateVersion3
	case s.epoch.Lease != unstatedLease(s.epoch) || s.epoch.Earlier != 0:
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

func decodeState(p []byte) (state, error) {
	var s state
	bad := fmt.Errorf("%w: state record", storage.ErrCorrupt)
	switch {
	case len(p) == 0 || p[0] == 0:
		return s, bad
	case p[0] > stateVersion3:
		return s, storage.Newer("the state record", uint64(p[0]), stateVersion3)
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
	if version >= stateVersion2 {
		var lease, earlier uint64
		if p = takeUvarints(p, &lease, &earlier); p == nil || lease > math.MaxInt64 || earlier > math.MaxInt64 {
			return s, bad
		}
		s.epoch.Lease, s.epoch.Earlier = time.Duration(lease), time.Duration(earlier)
	}
	if version >= stateVersion3 {
		if p = takeUvarints(p, &s.sealed.at); len(p) == 0 {
			return s, bad
		}
		s.sealed.promotion, p = string(p), nil
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

// readState reads the state record, which the first batch writes.
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
