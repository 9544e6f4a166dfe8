// Package lease decides which process may serve a vBucket's writes and linearizable reads:
// the owner of the state machine's epoch, who reads without asking other nodes as long as
// its lease runs. DESIGN.md has the rules and the argument for them. The package knows
// neither the Raft engine nor the network nor the state machine; it drives a Group.
package lease

import (
	"context"
	"log/slog"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/signal"
)

// Group is a vBucket's Raft group as its local replica sees it. Its methods are
// safe for concurrent use, and those with a context return soon after it ends.
type Group interface {
	// Leader returns the last Raft term in which this replica knows of a
	// leader, and whether that is itself. It may be late, but not behind the
	// local state: once an entry of a later term is applied here, or a ReadIndex
	// was answered by another replica, it no longer says (term, true).
	Leader() (term uint64, self bool)
	// Begin proposes a BeginEpoch of this replica's, whose leases in the epoch last
	// no longer than lease, and waits until it is applied here. now is the epoch that
	// stands behind it, previous the one before it; accepted reports whether now is
	// the caller's. After an error the outcome is unknown.
	Begin(ctx context.Context, term, nonce uint64, lease time.Duration) (now, previous command.Epoch, accepted bool, err error)
	// End proposes the end of an epoch and waits until that is applied here. An
	// epoch that has been replaced is an error.
	End(ctx context.Context, epoch kv.Index) error
	// ReadIndex has the leader confirm, by a quorum that is asked after the call,
	// that it is the leader, and returns when everything that was committed then
	// is applied here.
	ReadIndex(ctx context.Context) error
}

// ErrNotOwner means that another replica owns the vBucket, or soon will: ask the
// leader. Nothing was done.
var ErrNotOwner error = kv.Errorf(kv.Unavailable, "this node does not own the vBucket at present; ask the leader")

// ErrClosed means that Run has ended.
var ErrClosed error = kv.Errorf(kv.Unavailable, "the replica is being closed; ask another node")

// Defaults of Options.
const (
	DefaultDrift   = 0.10
	DefaultTimeout = time.Second
	DefaultPoll    = 100 * time.Millisecond
)

// Options says how a Keeper behaves.
type Options struct {
	// Length is how long a lease lasts from the start of the ReadIndex that
	// confirmed it. Zero takes no leases: every read asks the quorum. Members may
	// differ in it, since each epoch says what its owner's is.
	Length time.Duration
	// Renew is how often a lease is renewed while there is demand; the default is
	// a quarter of Length.
	Renew time.Duration
	// Drift bounds how much faster one node's clock may run than another's: 0.1
	// allows ten per cent. Zero stands for DefaultDrift.
	Drift float64
	// Timeout bounds each call of the Group that no caller waits for alone.
	// Zero stands for DefaultTimeout.
	Timeout time.Duration
	// BeginTimeout is the most that Timeout grows to for Begin, while one attempt after another
	// in the same term takes all of its time: with a disk that is slower than Timeout no epoch
	// would ever begin. Less than Timeout stands for Timeout.
	BeginTimeout time.Duration
	// Poll is how often the leader is looked up even without LeaderChanged. Zero
	// stands for DefaultPoll.
	Poll time.Duration
	// Turn is that of the process's beat in which a Keeper that has nothing to do looks; see
	// periodic.Start.
	Turn uint64
	// Nonce distinguishes this process from all that were or will be the same replica:
	// random at every start.
	Nonce uint64
	// Changed is raised when the leader or the active epoch may have changed; nil is not.
	Changed *signal.Signal
	// Clock defaults to SystemClock.
	Clock Clock
	// Log defaults to none.
	Log *slog.Logger

	// breaches are rules that a test breaks; see breach.
	breaches breaches
}

func (o *Options) setDefaults() {
	if o.Changed == nil {
		o.Changed = new(signal.Signal)
	}
	if o.Renew <= 0 {
		o.Renew = o.Length / 4
	}
	if o.Drift <= 0 {
		o.Drift = DefaultDrift
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	o.BeginTimeout = max(o.BeginTimeout, o.Timeout)
	if o.Poll <= 0 {
		o.Poll = DefaultPoll
	}
	if o.Clock == nil {
		o.Clock = SystemClock{}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// waitOut is the time in which every lease of the previous epoch and of those before
// it has ended, by this process's clock.
func (o *Options) waitOut(previous command.Epoch) time.Duration {
	longest := max(previous.Longest(), o.Length)
	switch {
	case o.breaches.has(waitOwn):
		longest = o.Length
	case o.breaches.has(shortWaitOut):
		return longest / 2
	case o.breaches.has(waitAlone):
		return longest
	}
	return longest + time.Duration(float64(longest)*o.Drift)
}
