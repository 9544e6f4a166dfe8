// Package kv is the vocabulary of all other packages: indexes, mutations, changes, the
// log's clock, read levels, request ids, the hash of keys and the kinds of error. It imports
// only the standard library and the hash function. Read it first.
//
// A database is cut into vBuckets, each with a log of its own. Every write to a vBucket is
// an entry of its log, and the entry's number, its Index, is the one number that everything
// else is told by: it is the change number that slaves follow, the token that a client gets
// for a write and may read behind (ReadOptions.MinIndex), and the position that a backup or
// a snapshot is of. What an entry changed is a Change: one Mutation for each key, already
// decided, so that applying the same changes in the same order always ends in the same
// state.
//
// Time is part of the log, too. Every entry carries its proposer's Clock, and a key expires
// by the log's clock and never by the local one. A replica that decided by its own clock
// would remove keys that others still have.
//
// An Error says three things: its Kind, which is what the caller can do about it; its
// Outcome, which is whether the write may have happened; and a sentence for people. A write
// that failed is NotApplied only if that is known. A caller who is told "not applied" sends
// the write again, and would apply it twice if it was wrong.
package kv

import (
	"fmt"
	"time"
)

// Index is a position in a vBucket's log, and the change number that clients and slaves
// see. The first entry has index 1; 0 means "nothing yet".
type Index = uint64

// DefaultVBucket is the name of the vBucket of a database that has only one.
const DefaultVBucket = "default"

// Mutation is one effective change of one key: what a slave has to do to reach the same
// state.
type Mutation struct {
	// Key is never empty.
	Key []byte
	// Value is the new value. It is not used if Delete is set.
	Value []byte
	// ExpireTS is when the key expires, in epoch seconds; 0 means never.
	ExpireTS uint64
	// Delete means that the key is removed.
	Delete bool
}

// Change is everything that one log entry changed, in the order of its mutations.
type Change struct {
	Index     Index
	Clock     Clock
	Mutations []Mutation
	// Request is the client's request that caused the change, if it had an id and that is
	// recorded.
	Request *ChangeRequest
}

// ChangeRequest is a request that has caused a change, with what is needed to answer a repeat
// of it.
type ChangeRequest struct {
	ID RequestID
	// Fingerprint is a hash of what it asked for. Code and Counter are its result.
	Fingerprint uint64
	Code        uint8
	Counter     int64
}

// Pair is one live key with its value.
type Pair struct {
	Key      []byte
	Value    []byte
	ExpireTS uint64
}

// Clock is a point in time, in milliseconds since the Unix epoch. The log carries the
// proposer's clock in every entry and the state machine keeps it monotone, so that all
// replicas expire the same keys at the same index.
type Clock uint64

// ClockOf converts a wall-clock time; times before 1970 become 0.
func ClockOf(t time.Time) Clock {
	ms := t.UnixMilli()
	if ms < 0 {
		return 0
	}
	return Clock(ms)
}

// Time converts back to a wall-clock time.
func (c Clock) Time() time.Time { return time.UnixMilli(int64(c)) }

// Second returns the second of the Unix epoch that c is in.
func (c Clock) Second() uint64 { return uint64(c) / 1000 }

// Expired reports whether a key with the given expiry (in epoch seconds, 0 is never) has
// expired at c. A key expires at the first instant of its second.
func (c Clock) Expired(expireTS uint64) bool { return expireTS != 0 && c.Second() >= expireTS }

// ReadLevel is the consistency that a read asks for.
type ReadLevel uint8

const (
	// Sequential reads the local state, which may lag but never goes backwards.
	Sequential ReadLevel = iota
	// Linearizable reads reflect every write that was acknowledged before the read began.
	Linearizable
)

func (l ReadLevel) String() string {
	switch l {
	case Sequential:
		return "sequential"
	case Linearizable:
		return "linearizable"
	default:
		return fmt.Sprintf("ReadLevel(%d)", uint8(l))
	}
}

// ReadOptions say how fresh the state has to be that a read is answered from.
type ReadOptions struct {
	Level ReadLevel
	// MinIndex makes the read wait until this index is applied. 0 does not wait. A write
	// returns such an index, so that its client can read what it wrote from any node.
	MinIndex Index
	// MaxAge rejects a state that is older. 0 accepts any age.
	MaxAge time.Duration
}

// ReadInfo says how fresh the state was that a read was answered from.
type ReadInfo struct {
	// Index is the last log index that the state reflects.
	Index Index
	// Age is how long ago the state is known to have been the newest. It is 0 if the
	// answering replica owns the log.
	Age time.Duration
}

// RequestID identifies a mutation across retries. A request that is sent again with the
// same id returns the first result and is not applied twice.
type RequestID struct {
	// Client is chosen at random by each client instance; 0 means "no id".
	Client uint64
	// Sequence grows by one with each new request of the client, from 1.
	Sequence uint64
	// Acked promises that the client has the answers to all requests up to this
	// sequence, so that their results need not be kept.
	Acked uint64
	// Repeat says that the client has sent this request before. If nothing is known of
	// the client any more, the request is then rejected and not taken for a new one.
	Repeat bool
}

// IsZero reports whether there is no id.
func (r RequestID) IsZero() bool { return r.Client == 0 }
