package command

import (
	"time"

	"github.com/dkvdb/dkv/internal/kv"
)

// UnstatedLease is how long the leases of an epoch may last whose BeginEpoch does
// not say: releases before version 2 of the encoding took leases of this length at
// most, unless lease-duration was raised.
const UnstatedLease = 2 * time.Second

// maxLease bounds what a BeginEpoch may state, so that sums stay in range.
const maxLease = 24 * time.Hour

// Epoch is one owner's time in charge of a replicated log: it begins with the
// entry that names it, and from then on no other owner's mutations are applied.
// The zero Epoch is that of a log which never changes hands.
type Epoch struct {
	// ID is the log index of the BeginEpoch that was accepted.
	ID kv.Index
	// Term is the Raft term in which Owner, a replica id, was the leader.
	Term  uint64
	Owner uint64
	// Nonce tells the owner's process from those that it was before.
	Nonce uint64
	// Ended reports that the owner itself has given it up.
	Ended bool
	// Lease is how long the owner's leases last.
	Lease time.Duration
	// Earlier is the longest lease of epochs before this one that may still run, if
	// that is above Lease, else 0. It is kept until the epoch is known to have been
	// active, which it was not before those had ended.
	Earlier time.Duration
}

// Longest bounds every lease, of this epoch or of an earlier one, that may still run
// when this epoch is replaced.
func (e Epoch) Longest() time.Duration {
	if e.ID == 0 || e.Ended {
		return 0
	}
	return max(e.Lease, e.Earlier)
}

// Next returns the epoch that b begins at an index, and whether b is accepted: in a
// higher term than e's, or again from e's own owner, since the first attempt's answer
// may have been lost.
func (e Epoch) Next(b *Begin, index kv.Index) (Epoch, bool) {
	again := b.Term == e.Term && b.Owner == e.Owner && b.Nonce == e.Nonce
	if b.Term <= e.Term && !again {
		return e, false
	}
	next := Epoch{ID: index, Term: b.Term, Owner: b.Owner, Nonce: b.Nonce, Lease: b.longestLease()}
	if earlier := e.Longest(); earlier > next.Lease {
		next.Earlier = earlier
	}
	return next, true
}

// Begin is what BeginEpoch proposes.
type Begin struct {
	Term, Owner, Nonce uint64
	// Cluster and History name a state that has no names yet.
	Cluster, History string
	// Lease is how long the proposer's leases in the epoch last, if Stated; 0 is that
	// it takes none.
	Lease  time.Duration
	Stated bool
}

// longestLease is what the proposer's leases last at most.
func (b *Begin) longestLease() time.Duration {
	if !b.Stated {
		return UnstatedLease
	}
	return b.Lease
}

// Member is what SetMember says of a replica: how to reach its node. Record is
// opaque to the state machine; an empty one forgets the replica.
type Member struct {
	ID     uint64
	Record []byte
}

// Restored is what EndRestore says of the state that was staged.
type Restored struct {
	// Pairs is how many pairs were staged.
	Pairs uint64
	// Index is the state's own: change numbers go on above it.
	Index kv.Index
	// History is the id of the history that begins.
	History string
}
