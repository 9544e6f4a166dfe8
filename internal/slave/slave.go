// Package slave keeps a copy of a vBucket up to date: it finds a master, follows its
// changes, and builds the copy from a snapshot where there is nothing to follow on
// from. DESIGN.md in this folder tells why nothing is lost or repeated on the way.
package slave

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/clock"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/signal"
	"github.com/dkvdb/dkv/internal/storage"
)

// State is the copy that a Puller keeps; follower.Replica is one.
type State interface {
	// Position returns whose state it is and its index, zeros where there is none.
	Position() (fsm.Identity, kv.Index)
	// LastChange returns the newest change that was applied, and whether it is
	// retained.
	LastChange(ctx context.Context) (kv.Change, bool, error)
	// Apply brings the state from index after, where it must be, to index upTo.
	Apply(ctx context.Context, after kv.Index, changes []kv.Change, upTo kv.Index) error
	// Replace makes the state that load fills an empty engine with the present one,
	// which stays until that is whole. With back its index may be less than the present.
	// load calls open once, when it has something to fill the engine with.
	Replace(ctx context.Context, back bool, load func(ctx context.Context, open func() (storage.Engine, error)) error) error
	// Succeeds reports whether the state's history has taken the place of another one.
	Succeeds(history string) bool
	// Keyless reports whether there is no key in the state.
	Keyless(ctx context.Context) (bool, error)
	// Order notes, durably, that the state was given up for that of a cluster; Ordered
	// returns that until another state has taken its place. An empty cluster withdraws it.
	Order(ctx context.Context, cluster string) error
	Ordered() (cluster string, ordered bool)
	// Fits returns an error that wraps storage.ErrNoSpace if there is no room
	// for so many bytes.
	Fits(bytes uint64) error
	// Size is about how many bytes the state takes.
	Size() uint64
	// Fresh notes that the state holds all that was in the log at a time.
	Fresh(at time.Time)
	// Age is for how long the state may not have been the newest any more.
	Age() time.Duration
	// Failure is why nothing can be applied until an operator, or room on the disk,
	// cures it; nil where something can.
	Failure() error
	// Wanted holds a token while a reader waits for a newer state.
	Wanted() <-chan struct{}
	// SetLeader says where the log's owner serves gRPC; empty while unknown.
	SetLeader(address string)
}

// Mode is how a Puller gets changes.
type Mode string

const (
	// Poll asks for changes: at once while there are more, else at an interval.
	Poll Mode = "poll"
	// Stream has changes sent as they come.
	Stream Mode = "stream"
)

// Defaults of Options.
const (
	DefaultPollInterval = 5 * time.Second
	DefaultMaxActiveLag = 100_000
)

// Options are what a Puller is made of. VBucket, State, Sources and Pool are
// required.
type Options struct {
	// VBucket names what is followed, at the masters as here.
	VBucket string
	// DC is where this node is: masters of it are preferred.
	DC string
	// Self is how this node is told of to its master.
	Self *serverpb.Replica
	// State is the copy.
	State State
	// Sources are the masters to choose from.
	Sources Sources
	// Pool reaches them. It stays the caller's.
	Pool *peer.Pool
	// Mode is Poll where it is empty.
	Mode Mode
	// PollInterval is how often a master is asked that had nothing new.
	PollInterval time.Duration
	// MaxActiveLag is how many changes the copy may be behind and be healthy.
	MaxActiveLag uint64
	// Clock is told the master's time; nil is not.
	Clock *clock.Clock
	// Changed is raised when what Status and Healthy say may have changed otherwise than by
	// time alone; nil is not.
	Changed *signal.Signal
	Log     *slog.Logger
}

// masterClock is how Clock calls the master, whichever it is.
const masterClock = 1

// NewClock makes a clock that goes by the master's time as soon as that is known, and
// by that of the state before.
func NewClock(o clock.Options) *clock.Clock {
	o.Slave = true
	c := clock.New(o)
	c.Vote(0, []uint64{masterClock}, func(uint64) bool { return true })
	return c
}

// Puller keeps the copy of one vBucket up to date.
type Puller struct {
	opts    Options
	log     *slog.Logger
	chooser chooser
	search  search
	status  tracker
	// patience is how long a master may be silent.
	patience patience
	// pause is how long to wait before the next attempt.
	pause pause
	// reported is what was logged of failures since the last one was over; under
	// reporting.
	reporting sync.Mutex
	reported  map[string]bool
	// leader is who leads as far as is known; empty where that is not.
	leader atomic.Pointer[string]
	// moving is the master that was found to be better than the one before.
	moving string
	// ordered holds a token when an order was given that is not carried out yet.
	ordered chan struct{}
}

// New makes a puller. It does nothing until Run.
func New(opts Options) *Puller {
	if opts.Mode == "" {
		opts.Mode = Poll
	}
	if opts.PollInterval <= 0 {
		opts.PollInterval = DefaultPollInterval
	}
	if opts.MaxActiveLag == 0 {
		opts.MaxActiveLag = DefaultMaxActiveLag
	}
	if opts.Changed == nil {
		opts.Changed = new(signal.Signal)
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	p := &Puller{
		opts:    opts,
		log:     opts.Log.With("vbucket", opts.VBucket),
		chooser: newChooser(opts.DC, selfOf(opts.Self)),
		status:  newTracker(opts.Changed),
		ordered: make(chan struct{}, 1),
	}
	p.leader.Store(new(string))
	return p
}

// Run follows one master after another until ctx ends. It is called once.
func (p *Puller) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		changed := p.opts.Sources.Changed()
		next, ok := p.next(ctx)
		if !ok {
			p.await(ctx, changed, p.pause.next())
			continue
		}
		err := p.pull(ctx, next)
		if ctx.Err() == nil {
			p.left(ctx, next.source, err)
		}
	}
	p.status.search("")
	return nil
}

// await waits for a while, or until the masters have changed.
func (p *Puller) await(ctx context.Context, changed <-chan struct{}, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-changed:
	case <-p.ordered:
	case <-ctx.Done():
	}
}

// pause grows from attempt to attempt.
type pause struct{ last time.Duration }

const (
	firstPause = 50 * time.Millisecond
	maxPause   = time.Second
)

func (p *pause) next() time.Duration {
	p.last = min(max(2*p.last, firstPause), maxPause)
	return p.last
}

// atLeast makes the next pause no shorter than d.
func (p *pause) atLeast(d time.Duration) { p.last = max(p.last, d/2) }

func (p *pause) reset() { p.last = 0 }
