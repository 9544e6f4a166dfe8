// Package slave keeps a copy of a vBucket up to date: it finds a master, follows its
// changes, and builds the copy from a snapshot if it cannot continue from the changes.
// DESIGN.md in this folder explains why no change is lost or repeated.
package slave

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/clock"
	"github.com/dkvdb/dkv/internal/compress"
	"github.com/dkvdb/dkv/internal/fsm/history"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/signal"
	"github.com/dkvdb/dkv/internal/slave/source"
	"github.com/dkvdb/dkv/internal/storage"
)

// State is the copy that a Puller keeps up to date; follower.Replica implements it.
type State interface {
	// Position returns the identity of the state and its index; zeros if there is none.
	Position() (history.Identity, kv.Index)
	// LastChange returns the newest change that was applied, and whether it is
	// retained; if not, the index after which none was applied, and the log's clock there if the
	// state is still there.
	LastChange(ctx context.Context) (kv.Change, bool, error)
	// Apply brings the state from index after, where it must be, to index upTo.
	Apply(ctx context.Context, after kv.Index, changes []kv.Change, upTo kv.Index) error
	// Replace replaces the state by one that load builds in an empty engine; the present
	// state stays until that is complete. With older, the new index may be below the present
	// one. load calls open once, when it has data for the engine.
	Replace(ctx context.Context, older bool, load func(ctx context.Context, open func() (storage.Engine, error)) error) error
	// Adopt makes the state one of a history that promotions have begun since, durably. One that is
	// above the end of its own by entries without an effect moves behind the skipped indexes with that.
	Adopt(history string, lineage []history.Former) error
	// SetAside has the present state kept beside the one that replaces it, and returns where;
	// empty for a diskless state, of which nothing is left.
	SetAside(ctx context.Context) (string, error)
	// Succeeds reports whether the state's history has replaced another one.
	Succeeds(history string) bool
	// Keyless reports whether the state has no keys.
	Keyless(ctx context.Context) (bool, error)
	// ReplaceAsOrdered is Replace by a state that may be older, as long as the order to give
	// up the present one stands.
	ReplaceAsOrdered(ctx context.Context, load func(ctx context.Context, open func() (storage.Engine, error)) error) error
	// Order records durably that the state is to be replaced by that of a cluster. Ordered
	// returns the cluster until that is done. An empty cluster withdraws the order.
	Order(ctx context.Context, cluster string) error
	Ordered() (cluster string, ordered bool)
	// Withdraw withdraws the order, and reports whether there was one.
	Withdraw(ctx context.Context) (was bool, err error)
	// Fits returns an error that wraps storage.ErrNoSpace if there is no space for this
	// many bytes.
	Fits(bytes uint64) error
	// Size returns the approximate size of the state in bytes.
	Size() uint64
	// Fresh records that the state has everything that was in the log at a time.
	Fresh(at time.Time)
	// Age returns for how long the state may have been out of date.
	Age() time.Duration
	// Failure returns why nothing can be applied until an operator acts or the disk has
	// space; nil if changes can be applied.
	Failure() error
	// Wanted holds a token while a reader waits for a newer state.
	Wanted() <-chan struct{}
	// Seal has nothing more applied, replaced or confirmed, durably, until Unseal. Sealed
	// returns the promotion that has sealed the state; empty for none.
	Seal(ctx context.Context, promotion string) error
	Unseal(ctx context.Context, promotion string) error
	Sealed() string
	// CatchUp is Apply for the promotion that has sealed the state, and makes it durable.
	CatchUp(ctx context.Context, promotion string, after kv.Index, changes []kv.Change, upTo kv.Index) error
	// Confirmable returns up to which index of which history changes were applied and are
	// on disk; ok is false if nothing may be confirmed.
	Confirmable() (history string, applied, durable kv.Index, ok bool)
	// Sync makes durable what was applied before.
	Sync() error
	// SetLeader sets the gRPC address of the log's owner; empty while unknown.
	SetLeader(address string)
}

// Mode is how a Puller gets changes.
type Mode string

const (
	// Poll asks for changes: at once while there are more, otherwise at an interval.
	Poll Mode = "poll"
	// Stream receives changes as they happen.
	Stream Mode = "stream"
)

// Defaults of Options.
const (
	DefaultPollInterval = 5 * time.Second
	DefaultMaxActiveLag = 100_000
)

// Sources are the masters to choose from. Their methods are safe for concurrent use.
type Sources interface {
	// Candidates returns the live nodes that own or follow a vBucket's log; those that did last
	// if there are none.
	Candidates(vBucket string) []source.Source
	// Live reports whether the candidates are current, as opposed to those that were known
	// last.
	Live() bool
	// Changed returns a channel that is closed when the candidates may have changed since
	// the call; nil if they never change.
	Changed() <-chan struct{}
}

// Options configure a Puller. VBucket, State, Sources and Pool are required.
type Options struct {
	// Database is the name of the database; empty accepts masters of any.
	Database string
	// VBucket is the name of the vBucket, the same on the masters.
	VBucket string
	// VBuckets is into how many this node divides the database; 0 accepts any master.
	VBuckets int
	// DC is this node's data centre, whose masters are preferred.
	DC string
	// Self is this node as its master lists it.
	Self *serverpb.Replica
	// State is the copy.
	State State
	// Sources are the masters to choose from.
	Sources Sources
	// Pool connects to them. The caller closes it.
	Pool *peer.Pool
	// Statuses asks them about themselves, for the pullers of all vBuckets; nil is one of its own.
	Statuses *Statuses
	// Turns are those of the pullers of all vBuckets that catch up; nil has all do so at once.
	Turns *Turns
	// Mode is Poll if it is empty.
	Mode Mode
	// Compress is which masters are asked to compress what they send.
	Compress Compress
	// PollInterval is the time to the next question after a master had nothing new.
	PollInterval time.Duration
	// MaxActiveLag is how many changes a healthy copy may lag.
	MaxActiveLag uint64
	// Clock receives the master's time, unless it is nil.
	Clock *clock.Clock
	// Moved is called when what Progress or Leader returns may have changed; nil is not.
	Moved func()
	// Changed is raised when the results of Status and Healthy may have changed for another
	// reason than the passing of time; nil is never raised.
	Changed *signal.Signal
	Log     *slog.Logger
}

// masterClock is the name of any master in Clock.
const masterClock = 1

// NewClock makes a clock that follows the master's time when that is known, and before
// that the state's.
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
	chooser *source.Chooser
	search  search
	status  tracker
	// patience is how long a master may be silent.
	patience patience
	// pause is the wait before the next attempt.
	pause pause
	// reported are the causes that were logged since the last recovery; reporting guards it.
	reporting sync.Mutex
	reported  map[string]bool
	// leader is the leader's address; empty if it is not known.
	leader atomic.Pointer[string]
	// loaded is the last snapshot that was loaded; zero for none.
	loaded loaded
	// setback is the wait after the last error of this node; 0 if something was applied since.
	setback time.Duration
	// moving is the master to move to because it is better.
	moving string
	// ordered holds a token while an order has not been carried out.
	ordered chan struct{}
	// needs is how much room a state that was ordered needs at least, after it found too little;
	// 0 if none has.
	needs uint64
	// heard is the time that the master which was followed last has told.
	heard masterTime
	// shrunk counts what masters have sent compressed.
	shrunk compress.Counter
	// intake is what Progress returns of changes that are not applied yet.
	intake intake
	// listed means that the log's owner waits for this copy. directed is raised when that or
	// the owner has changed.
	listed   atomic.Bool
	directed signal.Signal
	// polls is until when the copy asks for changes although it was to be sent them; nil for never.
	polls atomic.Pointer[time.Time]
	// sealing is raised when the copy was sealed or unsealed.
	sealing signal.Signal
	// unsealed ends what runs only while the copy is not sealed.
	unsealed atomic.Pointer[context.CancelCauseFunc]
	// rebuilding ends the load of a state that was ordered; nil while there is none.
	rebuilding atomic.Pointer[context.CancelCauseFunc]
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
	if opts.Statuses == nil {
		opts.Statuses = new(Statuses)
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
		chooser: source.NewChooser(opts.DC, selfOf(opts.Self)),
		status:  newTracker(opts.Changed),
		ordered: make(chan struct{}, 1),
	}
	p.leader.Store(new(string))
	return p
}

// Run follows one master after another until ctx ends. It is called once.
func (p *Puller) Run(ctx context.Context) error {
	for p.awaitUnsealed(ctx) {
		changed := p.opts.Sources.Changed()
		next, ok := p.next(ctx)
		if !ok {
			p.await(ctx, changed, p.pause.next())
			continue
		}
		unsealed, done := p.untilSealed(ctx)
		err := p.pull(unsealed, next)
		done()
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
