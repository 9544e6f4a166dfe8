// Package discovery is the registry of who serves which vBucket: the DKVDiscovery
// service over a replicated store. What nodes are is stored in the log; that they
// are alive is known to the log's owner only, in memory. DESIGN.md tells why.
package discovery

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/sleep"
)

// Store keeps the registry's rows. A replica.Replica is one; its keys that begin
// with "region/" are the registry's.
type Store interface {
	Propose(ctx context.Context, c *command.Command) (command.Result, error)
	View(ctx context.Context, opts kv.ReadOptions) (replica.View, kv.ReadInfo, error)
	Owner() replica.Owner
	Status() replica.Status
}

const (
	// DefaultStatusTTL is for how long a silent node's rows are kept.
	DefaultStatusTTL = 5 * time.Minute
	// DefaultHeartbeatTimeout is for how long after a heartbeat a row is shown.
	DefaultHeartbeatTimeout = time.Minute
)

// Options are what a Registry is made of.
type Options struct {
	// Store keeps the rows.
	Store Store
	// Pool reaches the registry's other nodes; it stays the caller's. nil is for
	// a registry of one node.
	Pool *peer.Pool
	// StatusTTL is how long after its last heartbeat a row is purged; 0 is
	// DefaultStatusTTL.
	StatusTTL time.Duration
	// HeartbeatTimeout is how long after its last heartbeat a row is no longer
	// shown; 0 is DefaultHeartbeatTimeout. It is at most StatusTTL.
	HeartbeatTimeout time.Duration
	// Limits bound what nodes may register; parts that are 0 are the defaults.
	Limits Limits
	Log    *slog.Logger
}

// Registry is one node of the registry. Any node may be asked; the owner of the
// log answers. It serves once Run runs.
type Registry struct {
	serverpb.UnimplementedDKVDiscoveryServer
	store  Store
	pool   *peer.Pool
	times  times
	limits Limits
	log    *slog.Logger

	// current is the present reign; nil while the registry is not this node's, or
	// not read yet.
	current atomic.Pointer[reign]
	// known is the last stored state that was read for lack of an owner.
	known lastKnown
}

var _ serverpb.DKVDiscoveryServer = (*Registry)(nil)

// New makes a registry. Nothing runs until Run does.
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
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	return &Registry{
		store:  opts.Store,
		pool:   opts.Pool,
		times:  times{timeout: opts.HeartbeatTimeout, ttl: opts.StatusTTL},
		limits: opts.Limits.orDefault(),
		log:    opts.Log,
	}, nil
}

const (
	// tenureInterval is how often the log is asked who owns it.
	tenureInterval = 50 * time.Millisecond
	// loadRetry is the pause after the stored rows could not be read.
	loadRetry = 200 * time.Millisecond
)

// Run keeps the registry while this node owns its log, until ctx ends.
func (r *Registry) Run(ctx context.Context) error {
	tick := time.NewTicker(tenureInterval)
	defer tick.Stop()
	for {
		if now := tenureOf(r.store); now.self {
			r.reign(ctx, now, tick.C)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// reign keeps the registry for as long as the tenure lasts.
func (r *Registry) reign(ctx context.Context, now tenure, tick <-chan time.Time) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { r.rule(ctx, now) })
	for {
		select {
		case <-tick:
			if tenureOf(r.store) != now {
				return
			}
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
			g.run(ctx, r.store)
			r.current.Store(nil)
			r.log.Info("this node no longer owns the registry", "term", now.term)
			return
		}
		if ctx.Err() == nil && err.Error() != said {
			said = err.Error()
			r.log.Warn("the registry's rows cannot be read yet", "err", err)
		}
		sleep.For(ctx, loadRetry)
	}
}

func (r *Registry) damaged(err error) {
	r.log.Warn("a stored row is left out until its node sends it again", "err", err)
}
