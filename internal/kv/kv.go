// Package kv is the vocabulary that every other package speaks: mutations,
// changes, read levels, identities, the hash of keys and the kinds of error. It imports
// nothing but the standard library and the hash function.
package kv

import (
	"fmt"
	"time"
)

// Index is a position in a vBucket's replicated log. It is also the change
// number that clients and slaves see. The first entry has index 1; 0 means
// "nothing yet".
type Index = uint64

// DefaultVBucket is the name of a database's only vBucket until it is cut
// into several.
const DefaultVBucket = "default"

// Mutation is one effective change of one key: what a slave has to do to
// arrive at the same state.
type Mutation struct {
	// Key is never empty.
	Key []byte
	// Value is the new value; meaningless where Delete is set.
	Value []byte
	// ExpireTS is when the key expires, in epoch seconds; 0 means never.
	ExpireTS uint64
	// Delete tells that the key is gone.
	Delete bool
}

// Change is everything that one log entry changed, in order.
type Change struct {
	Index     Index
	Clock     Clock
	Mutations []Mutation
}

// Pair is one live key with its value.
type Pair struct {
	Key      []byte
	Value    []byte
	ExpireTS uint64
}

// Clock is a point in time in milliseconds since the Unix epoch. The log
// carries the proposer's clock in every entry and the state machine keeps it
// monotone, so that all replicas decide expiry alike.
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

// Expired tells whether a key with the given expiry (epoch seconds, 0 never)
// is expired at c. A key expires at the first instant of its second.
func (c Clock) Expired(expireTS uint64) bool {
	return expireTS != 0 && uint64(c)/1000 >= expireTS
}

// ReadLevel is the consistency that a read asks for.
type ReadLevel uint8

const (
	// Sequential answers from local state, which may lag but never goes
	// backwards.
	Sequential ReadLevel = iota
	// Linearizable reflects every write acknowledged before the read began.
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

// ReadOptions say how fresh the state behind a read has to be.
type ReadOptions struct {
	Level ReadLevel
	// MinIndex makes the read wait until this index is applied; 0 waits for
	// nothing. The token that a write returns is such an index.
	MinIndex Index
	// MaxAge refuses state older than this; 0 accepts any age.
	MaxAge time.Duration
}

// ReadInfo tells how fresh the state was that a read was answered from.
type ReadInfo struct {
	// Index is the last log index that the state reflects.
	Index Index
	// Age is how long ago the state is known to have been the newest; 0 where
	// the answering replica owns the log.
	Age time.Duration
}

// RequestID identifies a mutation across retries. A repeated request with the
// same id returns the first one's result instead of applying twice.
type RequestID struct {
	// Client is chosen at random by each client instance; 0 means "no id".
	Client uint64
	// Sequence grows by one with each new request of the client, from 1.
	Sequence uint64
	// Acked promises that the client has the answers of every request up to
	// this sequence, so that their results may be forgotten.
	Acked uint64
	// Repeat says that the client has sent this request before: where its client
	// is not known any more, it may not be taken for a new one.
	Repeat bool
}

// IsZero tells whether the request carries no id.
func (r RequestID) IsZero() bool { return r.Client == 0 }
