// Package replica says what a vBucket's replica offers, whatever keeps its log: proposing
// commands, reading at the level asked for, backup and restore, status. The packages below
// it are the kinds of replica: local is a standalone node's, raft a master's, follower a
// slave's; state is what they share. The gRPC services know this package alone.
package replica

import (
	"context"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// Replica is one copy of a vBucket. Its methods are safe for concurrent use.
// Errors are kv.Errors; the error of a mutation says in its Outcome whether it
// may still take effect.
type Replica interface {
	// Propose puts a command into the log and returns the result of applying it. The
	// command and what it points to belong to the replica until then, and forever if the
	// error says that the outcome is unknown.
	Propose(ctx context.Context, c *command.Command) (command.Result, error)

	// Get returns the pair at key, and whether there is one.
	Get(ctx context.Context, key []byte, opts kv.ReadOptions) (kv.Pair, bool, kv.ReadInfo, error)
	// MultiGet returns the pairs of those keys that exist, in the order of the keys.
	MultiGet(ctx context.Context, keys [][]byte, opts kv.ReadOptions) ([]kv.Pair, kv.ReadInfo, error)
	// View pins the state; the caller closes it.
	View(ctx context.Context, opts kv.ReadOptions) (View, kv.ReadInfo, error)
	// Changes returns a stretch of the change stream; see fsm.Machine.Changes.
	Changes(ctx context.Context, from kv.Index, limit, maxBytes int) (fsm.Changes, error)
	// AwaitApplied returns once the state has reached an index. That it has grown so far
	// may also be because another state has taken its place. The error is the context's if
	// that ends first.
	AwaitApplied(ctx context.Context, index kv.Index) error
	// Slaves returns the list of slaves, by zone and address.
	Slaves(ctx context.Context) ([]fsm.ListedSlave, error)
	// Cluster is the id of the cluster whose state this is, which it keeps for its
	// whole life; empty while that is not known yet. It is cheap.
	Cluster() string
	// Age is how long ago the local state was last known to be the newest; 0 while the
	// log's owner holds a lease, and in a log of one. It is cheap.
	Age() time.Duration

	// Backup writes a backup into the folder dir, which must not exist; its
	// parents are made.
	Backup(ctx context.Context, dir string) error
	// Restore replaces the whole state by the backup at dir, under a new
	// history id. Mutations are refused meanwhile; views that were taken before
	// keep the old state.
	Restore(ctx context.Context, dir string) error

	// Now is the time by this node's clock.
	Now() time.Time
	// SetClock sets the log's clock to a time (zero: now), backwards too. Only the log's
	// owner serves it. It rejects a time that is further from the clocks of a majority of
	// the members than max-clock-jump.
	SetClock(ctx context.Context, to time.Time) error

	// Owner is the node that serves mutations and linearizable reads; both are a
	// kv.NotOwner at every other one. It is cheap, and may be out of date.
	Owner() Owner
	// Status reports the replica's condition without waiting for anything. It costs next to
	// nothing.
	Status() Status
	// Usage reports what the state takes. The engine is asked for that, which costs many times as
	// much as Status.
	Usage() Usage
}

// Owner is the node that owns a vBucket's log.
type Owner struct {
	// Self reports whether it is this node.
	Self bool
	// ID is its replica id; 0 while no owner is known.
	ID uint64
	// Address is the host:port at which it serves gRPC; empty while that is unknown.
	Address string
	// Missed reports that there was an owner, and none has been known for longer than an
	// election takes: this node is probably cut off, and others may know one.
	Missed bool
}

// Gate decides at the log's owner whether it may answer: whether other nodes have what it
// would acknowledge or show, and whether this deployment is still the database's. Package
// standby has the rules. Its methods are called for every mutation and linearizable read,
// so they are cheap while there is nothing to wait for.
type Gate interface {
	// Admit returns why no mutation can be acknowledged at present, before it is proposed;
	// nil if one can. It waits only if that is about to be known.
	Admit(ctx context.Context, want kv.Ack) error
	// Await returns once what was applied up to an index may be acknowledged or shown, with
	// the level that it has reached. A read awaits Shown. want is the level of the request.
	// After an error the state has it, and the caller must not be told.
	Await(ctx context.Context, index kv.Index, want kv.Ack) (reached kv.Ack, err error)
}

// Shown is the index that a read awaits at a Gate when it has its answer: that of the newest
// entry of which it may have seen anything.
const Shown = ^kv.Index(0)

// View is a state pinned at one index, read as of one moment.
type View interface {
	// Iterate walks the live keys of r in order.
	Iterate(r storage.Range) *fsm.Iterator
	// MultiGet returns those of keys that are there, in order.
	MultiGet(keys [][]byte) ([]kv.Pair, error)
	// ReadSome is MultiGet for as many of the first keys as may be read at once, at least one,
	// and returns their number. It waits for its turn as reads of the replica do.
	ReadSome(ctx context.Context, keys [][]byte) (pairs []kv.Pair, n int, err error)
	// Hash fingerprints the keyspace.
	Hash(ctx context.Context) (fsm.ContentHash, error)
	// Identity returns the ids of the state.
	Identity() fsm.Identity
	// Restoring reports whether the state is one in the middle of a restore.
	Restoring() (bool, error)
	// Index is the log index that the state reflects.
	Index() kv.Index
	// Chunk returns a stretch of the state for a snapshot; see fsm.View.Chunk.
	Chunk(from []byte, limit int) (payload, next []byte, err error)
	Close()
}

// Mode says what keeps a replica's log.
type Mode string

const (
	// ModeLocal is a standalone node's log: the write-ahead log of its engine.
	ModeLocal Mode = "local"
	// ModeRaft is a log that several nodes replicate by Raft.
	ModeRaft Mode = "raft"
	// ModeStream is a replica without a log, which applies the changes of another node.
	ModeStream Mode = "stream"
)

// State says what a replica is doing.
type State string

const (
	// Starting comes before the first request is served.
	Starting State = "starting"
	// Serving is the normal state.
	Serving State = "serving"
	// Restoring rejects mutations while the state is being replaced.
	Restoring State = "restoring"
	// Bootstrapping is a follower that builds its state from a snapshot. Until that is done
	// it serves reads from the state it had before, if any.
	Bootstrapping State = "bootstrapping"
	// Failed rejects mutations after a storage error.
	Failed State = "failed"
	// Removed is a replica that was removed from its log.
	Removed State = "removed"
	// Closed is final.
	Closed State = "closed"
)

// Transfer is how much of a snapshot has arrived.
type Transfer struct {
	// Bytes of about Size.
	Bytes, Size uint64
}

// Status is the condition of a replica.
type Status struct {
	VBucket  string
	Mode     Mode
	State    State
	IsLeader bool
	Term     uint64
	// Owner serves mutations and linearizable reads.
	Owner Owner
	// Commit is the last index that is known here to be committed, Applied the last that is
	// visible. Age says how long ago Commit was known.
	Commit  kv.Index
	Applied kv.Index
	// Clock is the log's.
	Clock time.Time
	// Lag is how many log entries or changes the state is known to be behind. There may be
	// more that this node has not heard of.
	Lag uint64
	// Snapshot is what is being received from another node; zero for nothing.
	Snapshot Transfer
	// Age is how long ago the state was last known to be the newest. It is 0 while that is
	// certain, as under a lease, or if a master knew it within the last seconds; NeverFresh
	// for a copy that has not known it since the start, or is at an earlier index since its
	// storage was reopened, and for a state that a promotion has replaced.
	Age time.Duration
	// Link is how changes reach a copy.
	Link Link
	// Stale is why a copy should not be read from; nil if it may.
	Stale error
	// Paused reports whether an operator has stopped mutations.
	Paused bool
	// Restoring reports whether a restore is under way in the log, at whichever member it began.
	Restoring bool
	// ReadOnly says why mutations are rejected; empty if they are not.
	ReadOnly string
	// Err is what failed, if State is Failed.
	Err error
	// Behind is why the replica cannot catch up with the log; nil if nothing is known to
	// keep it from that.
	Behind error
	// Unreadable is why nothing can be read; nil if reads are served.
	Unreadable error
	// Corruption is the first damage that a read has found; nil for none.
	Corruption     error
	Identity       fsm.Identity
	ChangelogFloor kv.Index
	ExpiredTotal   uint64
	// Requests counts the requests with ids whose results the state remembers, and what
	// became of them since the state was opened.
	Requests fsm.RequestStats
	Engine   string
}

// Usage is what a state takes, and what its engine has done.
type Usage struct {
	// ChangelogBytes is the size of the retained changes; 0 if it cannot be read.
	ChangelogBytes uint64
	Storage        storage.Stats
}

// Size is about how many bytes the state takes on the disk, without the changes that are
// retained, which a snapshot leaves out; 0 if the engine does not report sizes.
func (u *Usage) Size() uint64 {
	all := u.Storage.DiskBytes + u.Storage.MemtableBytes
	return all - min(all, u.ChangelogBytes)
}

// Link is how changes reach a copy.
type Link struct {
	// Path are the nodes that they pass, the one that the copy follows first and one that
	// keeps the log last; empty if it follows none.
	Path []string
	// Lag and Age are the part of the link to the first of them in the copy's own.
	Lag uint64
	Age time.Duration
}

// NeverFresh is the Age of a copy whose state has not been known to be the newest since
// the start, is an earlier one that was found after a failure, or was replaced by a promotion.
const NeverFresh = 24 * time.Hour
