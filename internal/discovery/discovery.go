// Package discovery is the registry of which node serves which vBucket: the DKVDiscovery
// service over a replicated store. The log stores what nodes report; only its owner
// knows, in memory, which of them are alive. DESIGN.md says why.
package discovery

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/discovery/record"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/signal"
	"github.com/dkvdb/dkv/internal/sleep"
)

// Store keeps the registry's rows. A replica.Replica is one; the registry owns its keys
// that begin with "region/" and "record/".
type Store interface {
	Propose(ctx context.Context, c *command.Command) (command.Result, error)
	View(ctx context.Context, opts kv.ReadOptions) (replica.View, kv.ReadInfo, error)
	Owner() replica.Owner
	Status() replica.Status
}

const (
	// DefaultStatusTTL is how long a silent node's rows are kept.
	DefaultStatusTTL = 5 * time.Minute
	// DefaultHeartbeatTimeout is how long after a heartbeat a row is shown.
	DefaultHeartbeatTimeout = time.Minute
)

// Options configure a Registry.
type Options struct {
	// Store keeps the rows.
	Store Store
	// Pool reaches the registry's other nodes; it stays the caller's. It is nil for a
	// registry of one node.
	Pool *peer.Pool
	// StatusTTL is how long after its last heartbeat a row is purged; 0 is
	// DefaultStatusTTL.
	StatusTTL time.Duration
	// HeartbeatTimeout is how long after its last heartbeat a row is no longer
	// shown; 0 is DefaultHeartbeatTimeout. It is at most StatusTTL.
	HeartbeatTimeout time.Duration
	// Limits bound what nodes may register; parts that are 0 are the defaults.
	Limits Limits
	// Changed is raised when the owner of Store may have changed; nil is not.
	Changed *signal.Signal
	Log     *slog.Logger
}

// Registry is one node of the registry. Any node may be asked; the owner of the log
// answers. It serves once Run is called.
type Registry struct {
	serverpb.UnimplementedDKVDiscoveryServer
	store   Store
	pool    *peer.Pool
	times   times
	limits  Limits
	changed *signal.Signal
	log     *slog.Logger

	// current is the current reign; nil while this node does not own the registry, or
	// has not read it yet.
	current atomic.Pointer[reign]
	// known is the stored state as it was last read while there was no owner.
	known lastKnown
	// book keeps the records of databases.
	book *record.Book
	// records are those that this node has changed, as it knows them, by database.
	records sync.Map
}

var _ serverpb.DKVDiscoveryServer = (*Registry)(nil)

// New returns a registry. Nothing runs until Run is called.
func New(opts Options) (*Registry, error) {
	if opts.StatusTTL == 0 {
		opts.StatusTTL = DefaultStatusTTL
	}
	if opts.HeartbeatTimeout == 0 {
		opts.HeartbeatTimeout = DefaultHeartbeatTimeout
	}
	if opts.HeartbeatTimeout < 0 || opts.StatusTTL < opts.HeartbeatTimeout {
		return nil, fmt.Errorf("a heartbeat timeout of %v and a status TTL of %v: the TTL has to be the longer one",
			opts.HeartbeatTimeout, opts.StatusTTL)
	}
	if opts.Changed == nil {
		opts.Changed = new(signal.Signal)
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	r := &Registry{
		store:   opts.Store,
		pool:    opts.Pool,
		times:   times{timeout: opts.HeartbeatTimeout, ttl: opts.StatusTTL},
		limits:  opts.Limits.orDefault(),
		changed: opts.Changed,
		log:     opts.Log,
	}
	r.book = record.New(record.Options{Log: record.LogOf(r.store), Limit: r.limits.Databases, Changed: r.recorded})
	return r, nil
}

// recorded shows leaders by a record that has changed. One that changes while a reign begins
// is followed when it has begun.
func (r *Registry) recorded(changed *peerpb.Record) {
	r.records.Store(changed.GetDatabase(), changed)
	if g := r.current.Load(); g != nil {
		g.table.follow(changed, time.Now())
	}
}

// followRecords has a reign that has just begun follow what has changed meanwhile.
func (r *Registry) followRecords(g *reign) {
	r.records.Range(func(_, changed any) bool {
		g.table.follow(changed.(*peerpb.Record), time.Now())
		return true
	})
}

// Witness returns the service for the records of databases.
func (r *Registry) Witness() peerpb.WitnessServer {
	return &record.Service{Book: r.book, AtOwner: func(ctx context.Context, here func() error, there func(context.Context, *peer.Peer) error) error {
		return r.atOwner(ctx, updatePatience, func(*reign) error { return here() }, there)
	}}
}

const (
	// tenureInterval is how often the log's owner is compared without a signal.
	tenureInterval = time.Second
	// loadRetry is the pause after a failure to read the stored rows.
	loadRetry = 200 * time.Millisecond
)

// Run serves the registry while this node owns its log, until ctx ends.
func (r *Registry) Run(ctx context.Context) error {
	tick := time.NewTicker(tenureInterval)
	defer tick.Stop()
	for ctx.Err() == nil {
		changed := r.changed.Changed()
		if now := tenureOf(r.store); now.self {
			r.reign(ctx, now, tick.C)
			continue // this node may own the log again already
		}
		select {
		case <-changed:
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// reign serves the registry while the tenure lasts.
func (r *Registry) reign(ctx context.Context, now tenure, tick <-chan time.Time) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { r.rule(ctx, now) })
	for {
		changed := r.changed.Changed()
		if tenureOf(r.store) != now {
			return
		}
		select {
		case <-changed:
		case <-tick:
		case <-ctx.Done():
			return
		}
	}
}

// rule reads the rows and serves them until ctx ends.
func (r *Registry) rule(ctx context.Context, now tenure) {
	for said := ""; ctx.Err() == nil; {
		g, err := beginReign(ctx, r.store, r.times, r.limits, r.damaged)
		if err == nil {
			r.log.Info("this node owns the registry", "term", now.term, "rows", len(g.table.rows))
			r.current.Store(g)
			r.followRecords(g)
			g.run(ctx, r.store)
			r.current.Store(nil)
			r.log.Info("this node no longer owns the registry", "term", now.term)
			return
		}
		if ctx.Err() == nil && err.Error() != said {
			said = err.Error()
			r.log.Warn("the registry's rows cannot be read yet", "error", err)
		}
		sleep.For(ctx, loadRetry)
	}
}

func (r *Registry) damaged(err error) {
	r.log.Warn("a damaged row or record is left out", "error", err)
}
