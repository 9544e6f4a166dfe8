package command

import (
	"time"

	"github.com/dkvdb/dkv/internal/kv"
)

// UnstatedLease is how long the leases of an epoch may last whose BeginEpoch does not say
// so. Releases before version 2 of the encoding took leases of at most this length, unless
// lease-duration was raised.
const UnstatedLease = 2 * time.Second

// maxLease is the longest lease that a BeginEpoch may state, so that sums stay in range.
const maxLease = 24 * time.Hour

// Epoch is one owner's time in charge of a replicated log. It begins with the entry that
// names it, and from then on no other owner's mutations are applied. The zero Epoch is that
// of a log with one owner for ever.
type Epoch struct {
	// ID is the log index of the BeginEpoch that was accepted.
	ID kv.Index
	// Term is the Raft term in which Owner, a replica id, was the leader.
	Term  uint64
	Owner uint64
	// Nonce distinguishes the owner's process from earlier processes of the same replica.
	Nonce uint64
	// Ended means that the owner itself has ended the epoch.
	Ended bool
	// Lease is how long the owner's leases last.
	Lease time.Duration
	// Earlier is the longest lease of an earlier epoch that may still run, if that is
	// longer than Lease, else 0. It is kept until the epoch is known to have been active,
	// since it becomes active only after the earlier leases have ended.
	Earlier time.Duration
}

// Longest returns how long a lease of this epoch or of an earlier one may still run when
// this epoch is replaced. The next owner waits for so long.
func (e Epoch) Longest() time.Duration {
	if e.ID == 0 || e.Ended {
		return 0
	}
	return max(e.Lease, e.Earlier)
}

// Next returns the epoch that b begins at an index, and whether b is accepted. It is if its
// term is higher than e's, or if it comes from e's own owner again, who may have missed the
// answer to the first attempt.
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
	// Cluster and History are the ids of a state that has none yet.
	Cluster, History string
	// Lease is how long the proposer's leases in the epoch last, if Stated. 0 means that
	// it takes none.
	Lease  time.Duration
	Stated bool
	// Origin is the state that the log begins with; nil if the log has had an epoch, or has
	// not begun with a promotion.
	Origin *Origin
}

// Origin is the state that a promotion has left for a new log to begin with. In the first
// BeginEpoch it keeps replicas with another state out of the log.
type Origin struct {
	// History is the one that the promotion has begun, End the last index of the one
	// before it.
	History string
	End     kv.Index
	// Digest is that of the newest change up to End; 0 if that is no longer retained.
	Digest uint64
}

// longestLease returns how long the proposer's leases last at most.
func (b *Begin) longestLease() time.Duration {
	if !b.Stated {
		return UnstatedLease
	}
	return b.Lease
}

// Member is the argument of SetMember: how to reach a replica's node. The state machine
// does not look into Record. An empty one removes the replica.
type Member struct {
	ID     uint64
	Record []byte
}

// Restored is the argument of EndRestore: what the restored state is.
type Restored struct {
	// Pairs is how many pairs have to be staged.
	Pairs uint64
	// Index is the index of the state that was restored. Change numbers continue above it.
	Index kv.Index
	// History is the id of the new history.
	History string
}
