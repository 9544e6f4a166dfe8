// Package replica is one vBucket's log and the state machine that it feeds:
// proposing commands, reading at the level asked for, backing up and restoring.
// Local is a log of one, for standalone nodes and for tests; the gRPC services
// of package master see only Replica.
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
	// Propose puts a command into the log and returns what applying it came
	// to. The command and what it points to belong to the replica until then,
	// and for ever where the error says that the outcome is unknown.
	Propose(ctx context.Context, c *command.Command) (command.Result, error)

	// Get returns the pair at key, and whether it is there.
	Get(ctx context.Context, key []byte, opts kv.ReadOptions) (kv.Pair, bool, kv.ReadInfo, error)
	// MultiGet returns those of keys that are there, in order.
	MultiGet(ctx context.Context, keys [][]byte, opts kv.ReadOptions) ([]kv.Pair, kv.ReadInfo, error)
	// View pins a state; the caller closes it.
	View(ctx context.Context, opts kv.ReadOptions) (View, kv.ReadInfo, error)
	// Changes returns a stretch of the change stream; see fsm.Machine.Changes.
	Changes(ctx context.Context, from kv.Index, limit, maxBytes int) (fsm.Changes, error)
	// AwaitApplied returns once the state has reached an index. That it has grown
	// so far may also be because another state has taken its place. The error is
	// the context's where that ends first.
	AwaitApplied(ctx context.Context, index kv.Index) error
	// Slaves returns the list of slaves, by zone and address.
	Slaves(ctx context.Context) ([]fsm.ListedSlave, error)
	// Cluster is the id of the cluster whose state this is, which it keeps for its
	// whole life; empty while that is not known yet. It is cheap.
	Cluster() string
	// Age is for how long the local state may not have been the newest any more; 0 while
	// the log's owner holds a lease, and in a log of one. It is cheap.
	Age() time.Duration

	// Backup writes a backup into the folder dir, which must not exist; its
	// parents are made.
	Backup(ctx context.Context, dir string) error
	// Restore replaces the whole state by the backup at dir, under a new
	// history id. Mutations are refused meanwhile; views that were taken before
	// keep the old state.
	Restore(ctx context.Context, dir string) error

	// Now is what this node takes for the time.
	Now() time.Time
	// SetClock sets the log's clock to a time (zero: now), also back, at the log's
	// owner. It is refused if the time is further from what a majority of the members'
	// clocks say than these may be apart.
	SetClock(ctx context.Context, to time.Time) error

	// Owner tells who serves mutations and linearizable reads, which are a
	// kv.NotOwner elsewhere. It is cheap, and may be late.
	Owner() Owner
	// Status reports where the replica stands; it does not wait for anything.
	Status() Status
}

// Owner is the node that owns a vBucket's log.
type Owner struct {
	// Self tells that it is this one.
	Self bool
	// ID is its replica id, and 0 while nobody is known to own the log.
	ID uint64
	// Address is where it serves gRPC, host:port; empty while that is unknown.
	Address string
}

// View is a pinned state, read as of one moment.
type View interface {
	// Iterate walks the live keys of r in order.
	Iterate(r storage.Range) *fsm.Iterator
	// MultiGet returns those of keys that are there, in order.
	MultiGet(keys [][]byte) ([]kv.Pair, error)
	// Hash fingerprints the keyspace.
	Hash(ctx context.Context) (fsm.ContentHash, error)
	// Identity returns the ids of the state.
	Identity() fsm.Identity
	// Restoring tells whether the state is one in the middle of a restore.
	Restoring() (bool, error)
	// Index is the log index that the state reflects.
	Index() kv.Index
	// Chunk returns a stretch of the state for a snapshot; see fsm.View.Chunk.
	Chunk(from []byte, limit int) (payload, next []byte, err error)
	Close()
}

// Mode tells what keeps a replica's log.
type Mode string

const (
	// ModeLocal is a log of one: the engine's own.
	ModeLocal Mode = "local"
	// ModeRaft is a log that several nodes keep together.
	ModeRaft Mode = "raft"
	// ModeStream is no log of its own: the state follows the changes of another
	// node.
	ModeStream Mode = "stream"
)

// State tells what a replica is doing.
type State string

const (
	// Starting comes before the first request is served.
	Starting State = "starting"
	// Serving is the normal state.
	Serving State = "serving"
	// Restoring refuses mutations while the state is being replaced.
	Restoring State = "restoring"
	// Bootstrapping is the state of a follower that builds its state from a
	// snapshot; what it had before, if anything, is read meanwhile.
	Bootstrapping State = "bootstrapping"
	// Failed refuses mutations after a storage error.
	Failed State = "failed"
	// Removed is the state of a replica that its log has put out.
	Removed State = "removed"
	// Closed is final.
	Closed State = "closed"
)

// Status is where a replica stands.
type Status struct {
	VBucket  string
	Mode     Mode
	State    State
	IsLeader bool
	Term     uint64
	// Owner is who serves mutations and linearizable reads.
	Owner Owner
	// Commit is the last index that is known here to be decided, Applied the last that
	// is visible. What Commit was known at, Age says.
	Commit  kv.Index
	Applied kv.Index
	// Clock is the log's.
	Clock time.Time
	// Lag is how many entries of the log, or changes, the state is known to be behind: by
	// the greatest number that was heard of, so that there may be more.
	Lag uint64
	// Age is how long ago the state was last known to be the newest; 0 while that is
	// certain, as under a lease, or was so within the last seconds at a master; 24 h for a
	// copy for which it has not been since the start.
	Age time.Duration
	// Stale is why a copy should not be read from; nil where it may.
	Stale error
	// Paused tells that an operator has stopped mutations.
	Paused bool
	// ReadOnly says why mutations are refused at present, for any reason;
	// empty where they are not.
	ReadOnly string
	// Err is what failed, where State is Failed.
	Err error
	// Behind is why the replica cannot catch up with the log at present; nil where it
	// can, as far as is known.
	Behind error
	// Unreadable is why nothing can be read at present; nil where it can.
	Unreadable error
	// Corruption is the first damage that a read has met; nil for none.
	Corruption     error
	Identity       fsm.Identity
	ChangelogFloor kv.Index
	ChangelogBytes uint64
	ExpiredTotal   uint64
	// Requests are those with an id that the state remembers. What it counts is
	// since the state was opened.
	Requests fsm.RequestStats
	Engine   string
	Storage  storage.Stats
}

// neverFresh is the Age of a copy whose state has not been known to be the newest since
// the start.
const NeverFresh = 24 * time.Hour
