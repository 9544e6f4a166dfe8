package rows

import (
	"context"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/dkvdb/dkv/api/modelspb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/app/node"
	"github.com/dkvdb/dkv/internal/app/role"
	"github.com/dkvdb/dkv/internal/discovery/announce"
	"github.com/dkvdb/dkv/internal/peer"
)

// Client is a node's side of the registry.
type Client interface {
	// Run announces the node and listens to the registry, until ctx ends.
	Run(ctx context.Context) error
	// Announce has the rows sent without waiting for the next heartbeat.
	Announce()
	// Rejection is why the registry rejects this node's rows; nil if it does not.
	Rejection() error
	// Rows are what the registry says of the nodes of the database; none if the node does
	// not ask it. Callers do not change them.
	Rows() []*serverpb.RegionInfo
	// Registry are the nodes of the registry itself; none if the node does not ask it, or has
	// not yet. Callers do not change them.
	Registry() []*modelspb.NodeInfo
}

// cacheFile is the file in db-folder that keeps what the registry said last.
const cacheFile = "registry.rows"

// NewClient makes the client of a node, which does nothing if the registry is not told of
// this node. Its error is that of the token that the node shows.
func NewClient(n *node.Node, r role.Role, s *Source) (Client, error) {
	if !r.Announced() || n.Config.Discovery.Disabled {
		return unlisted{}, nil
	}
	cfg := &n.Config.Discovery.Client
	calls, err := n.Calls()
	if err != nil {
		return nil, err
	}
	pool := peer.NewPool(calls)
	n.OnClose(pool.Close)
	cache := ""
	if n.Dir != nil {
		cache = filepath.Join(n.Dir.Path(), cacheFile)
	}
	return &listed{
		role:     r,
		registry: &registry{addresses: cfg.Addrs, pool: pool, retry: cfg.PollClusterInfoInterval},
		announcer: announce.NewAnnouncer(announce.Options{
			Addresses: cfg.Addrs,
			Rows:      s.Rows,
			Interval:  cfg.PushStatusInterval,
			Pool:      pool,
			Log:       n.Log,
		}),
		directory: announce.OpenDirectory(announce.DirectoryOptions{
			Addresses:    cfg.Addrs,
			Filter:       &serverpb.GetClusterInfoRequest{Database: &n.Config.Node.Database},
			PollInterval: cfg.PollClusterInfoInterval,
			CachePath:    cache,
			Pool:         pool,
			Log:          n.Log,
		}),
	}, nil
}

// listed is the client of a node that the registry is told of.
type listed struct {
	role      role.Role
	registry  *registry
	announcer *announce.Announcer
	directory *announce.Directory
}

func (l *listed) Announce()        { l.announcer.Poke() }
func (l *listed) Rejection() error { return l.announcer.Refusal() }

func (l *listed) Rows() []*serverpb.RegionInfo { return l.directory.Rows() }

func (l *listed) Registry() []*modelspb.NodeInfo { return l.registry.Nodes() }

func (l *listed) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return l.announcer.Run(ctx) })
	g.Go(func() error { return l.directory.Run(ctx) })
	g.Go(func() error { l.listen(ctx); return nil })
	g.Go(func() error { l.registry.run(ctx); return nil })
	return g.Wait()
}

// listen passes on to the role what the registry says, until ctx ends.
func (l *listed) listen(ctx context.Context) {
	for {
		changed := l.directory.Changed()
		l.role.Hear(l.directory.Rows(), l.directory.Live())
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// unlisted is the client of a node that the registry does not know.
type unlisted struct{}

func (unlisted) Run(context.Context) error { return nil }
func (unlisted) Announce()                 {}
func (unlisted) Rejection() error          { return nil }

func (unlisted) Rows() []*serverpb.RegionInfo   { return nil }
func (unlisted) Registry() []*modelspb.NodeInfo { return nil }
