// Package confirm keeps what slaves have confirmed of a vBucket's log, and has the log's
// owner wait for it: Log is the replica.Gate of a vBucket. The rules are in the DESIGN.md
// of package standby, A1 to A3.
package confirm

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/signal"
	"github.com/dkvdb/dkv/internal/standby"
)

// State is the applied state of a log on this node. All of it is cheap.
type State interface {
	// Standbys returns the record of the standing set, and the index of its last change; 0
	// for none.
	Standbys() (record []byte, changed kv.Index)
	// LastEffect is the index of the newest entry of which readers see anything.
	LastEffect() kv.Index
	// Shown is the index of the newest entry of which a read that has ended may have seen
	// anything.
	Shown(context.Context) (kv.Index, error)
	// History is the id of the history that indexes belong to.
	History() string
	// Owner is the node that owns the log.
	Owner() replica.Owner
	// Tenure grows each time that the log gets another owner.
	Tenure() uint64
	// State says what the replica is doing.
	State() replica.State
}

// Options are what a log's answers wait for.
type Options struct {
	VBucket string
	// Level is this node's: what it promises of each answer. The log's own record may ask
	// for more.
	Level kv.Ack
	// FallBack has answers be given without a standby if there is none, once the log says
	// so. Without it they are refused then.
	FallBack bool
	// Leases means that this node has the lease of the record when it answers. It must be
	// what the log says: no answer is given without a lease that the log needs, and none with
	// one before the log says that all owners need it.
	Leases bool
	// Patience bounds a wait whose caller has no deadline; 0 means DefaultPatience.
	Patience time.Duration
	// Changed is raised when what is wanted of slaves may have changed; nil is not.
	Changed *signal.Signal
}

// Everyone is what the masters and slaves that keep a log have applied.
type Everyone interface {
	// Await returns once all that the log does not mark as down have applied an index.
	Await(ctx context.Context, index kv.Index) error
	// Marked is called after a change of the standing set, which has the marks.
	Marked()
}

// DefaultPatience is how long an answer waits for standbys if its caller has no deadline.
const DefaultPatience = 10 * time.Second

// Log is what slaves have confirmed of one vBucket's log, and the answers that wait for
// them. Bind is called before anything else.
type Log struct {
	opts  Options
	state State
	// everyone is what all nodes that keep the log have applied; nil rejects kv.AckAll.
	everyone Everyone
	// quiet is the last change of the standing set if that set asks for nothing.
	quiet atomic.Uint64
	// all is set while that set asks for kv.AckAll.
	all atomic.Bool

	mu sync.Mutex
	// set is the standing set as of its last change, and broken why it cannot be read.
	set     standby.Set
	changed kv.Index
	broken  error
	seats   map[string]*seat
	waiting []*waiter
	// needs are what answers have waited for, and disks have not confirmed.
	needs needs
	// syncUntil is until when a single request has standbys sync what they apply.
	syncUntil time.Time

	waiters sync.Pool
	counts  counts
}

var _ replica.Gate = (*Log)(nil)

// New makes the gate of a log.
func New(opts Options) *Log {
	if opts.Patience == 0 {
		opts.Patience = DefaultPatience
	}
	if opts.Changed == nil {
		opts.Changed = new(signal.Signal)
	}
	return &Log{opts: opts, seats: make(map[string]*seat)}
}

// AwaitAlso has answers at kv.AckAll wait for all nodes that keep the log; without it they are
// rejected. It is called before Bind.
func (l *Log) AwaitAlso(e Everyone) { l.everyone = e }

// Bind sets the state whose answers wait.
func (l *Log) Bind(s State) { l.state = s }

// VBucket is the name of the log's vBucket.
func (l *Log) VBucket() string { return l.opts.VBucket }

// Set returns the standing set of the applied state, and the index of its last change.
func (l *Log) Set() (standby.Set, kv.Index, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refresh()
	return l.set, l.changed, l.broken
}

// Down returns the addresses that answers at kv.AckAll do not wait for.
func (l *Log) Down() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refresh()
	return l.set.Down
}

// LastEffect is the index of the newest entry of which readers see anything.
func (l *Log) LastEffect() kv.Index { return l.state.LastEffect() }

// History is the id of the history that the log's indexes belong to.
func (l *Log) History() string { return l.state.History() }

// Owner is the node that owns the log.
func (l *Log) Owner() replica.Owner { return l.state.Owner() }

// Tenure grows each time that the log gets another owner.
func (l *Log) Tenure() uint64 { return l.state.Tenure() }

// Owned reports whether this node owns the log. A replica that was removed, or has failed, may
// name itself, so that requests learn why it answers nothing.
func (l *Log) Owned() bool {
	is := l.state.State()
	return l.state.Owner().Self && is != replica.Removed && is != replica.Failed
}

// Refresh looks at the standing set again, after a change of it was applied.
func (l *Log) Refresh() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refresh()
}

// refresh reads the standing set if it has changed, and settles what waits. l.mu is held.
func (l *Log) refresh() {
	record, changed := l.state.Standbys()
	if changed == l.changed {
		return
	}
	l.set, l.broken = standby.DecodeSet(record)
	l.changed = changed
	if l.broken == nil && len(l.set.Nodes) == 0 && l.set.Level <= kv.AckAsync && l.set.Leased == l.opts.Leases {
		l.quiet.Store(changed)
	}
	l.all.Store(l.set.Level >= kv.AckAll)
	l.unlisted()
	l.settle()
	l.opts.Changed.Raise()
	if l.everyone != nil {
		l.everyone.Marked()
	}
}

// promise returns the level that an answer must reach, and the error of one that cannot be
// given. want is the request's own level. pending means that it may be given once the log
// says that there is no standby. l.mu is held.
func (l *Log) promise(want kv.Ack) (level kv.Ack, pending bool, err error) {
	if l.broken != nil {
		return 0, false, kv.Errorf(kv.Internal, "%w", l.broken)
	}
	if l.set.Leased != l.opts.Leases {
		return 0, false, l.unleased()
	}
	level = max(l.opts.Level, l.set.Level, want)
	switch {
	case level <= kv.AckAsync:
		return kv.AckAsync, false, nil
	case len(l.set.Nodes) > 0:
		return level, false, nil
	case want > kv.AckAsync:
		return 0, false, noStandby(level)
	case !l.opts.FallBack:
		return 0, false, noStandby(level)
	case l.set.Fallback:
		return kv.AckAsync, false, nil
	default:
		return level, true, nil
	}
}

// Refusal returns why no answer is given at present, as long as the standing set stays as it is; nil
// if answers are given, or wait.
func (l *Log) Refusal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refresh()
	_, _, err := l.promise(kv.AckDefault)
	return err
}

// unleased is why nothing is answered if the log and the node do not agree on leases.
func (l *Log) unleased() error {
	if l.set.Leased {
		return kv.Errorf(kv.Unavailable, "the masters of this database answer only with the lease of the registry, and this node asks for none: "+
			"set auto-promote-after as on the others, or end that on all with dkvctl -claim")
	}
	return kv.Errorf(kv.Unavailable, "the log does not say yet that its owners need the lease of the registry (auto-promote-after)")
}

func noStandby(level kv.Ack) error {
	return kv.Errorf(kv.Unavailable,
		"no slave stands by, and level %v needs one: start a slave with a disk that repl-ack-from admits, or set repl-ack-fallback: async", level)
}
