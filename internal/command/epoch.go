package command

import "github.com/dkvdb/dkv/internal/kv"

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
	// Ended tells that the owner itself has given it up.
	Ended bool
}

// Begin is what BeginEpoch proposes.
type Begin struct {
	Term, Owner, Nonce uint64
	// Cluster and History name a state that has no names yet.
	Cluster, History string
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
