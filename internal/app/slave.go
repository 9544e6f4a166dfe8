package app

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/route"
	"github.com/dkvdb/dkv/internal/slave"
)

// openSlave opens the copies that this node keeps of other nodes' vBuckets.
func (n *node) openSlave(ctx context.Context) error {
	n.pool = peer.NewPool(peer.Options{MaxMessageSize: int(n.cfg.Limits.MessageSize)})
	n.onClose(n.pool.Close)
	reject := n.cfg.Replication.SlaveLinearizable == config.LinearizableReject
	n.router = route.NewForCopies(n.pool, !reject)
	self, err := n.asReplica()
	if err != nil {
		return err
	}
	n.info.ID = net.JoinHostPort(self.Hostname, strconv.Itoa(int(self.Port)))
	sources := n.sources()
	followers, err := openEach(ctx, n, func(_ int, name string) (*replica.Follower, error) {
		state, err := n.stateOptions(name)
		if err != nil {
			return nil, err
		}
		return replica.OpenFollower(replica.FollowerOptions{
			StateOptions: state,
			BatchLimit:   n.engines.batchLimit(),
			Reject:       reject,
		})
	})
	if err != nil {
		return err
	}
	for i, name := range vBucketNames(n.cfg) {
		follower := followers[i]
		n.vBuckets = append(n.vBuckets, vBucket{name, &followed{Follower: follower, puller: slave.New(slave.Options{
			VBucket:      name,
			DC:           n.info.DC,
			Self:         self,
			State:        follower,
			Sources:      sources,
			Pool:         n.pool,
			Mode:         slave.Mode(n.cfg.Replication.Mode),
			PollInterval: n.cfg.Replication.PollInterval,
			MaxActiveLag: uint64(n.cfg.Replication.MaxActiveLag),
			Clock:        n.clock,
			Log:          n.log,
		})}})
	}
	if n.dir != nil {
		return n.dir.Claim()
	}
	return nil
}

// sources are where this slave finds its masters: those that it is told of, or
// those that the registry knows.
func (n *node) sources() slave.Sources {
	if fixed := n.cfg.Replication.MasterAddrs; len(fixed) > 0 {
		return slave.Fixed(fixed...)
	}
	n.rows = slave.NewRows(n.cfg.Node.Database)
	return n.rows
}

// asReplica is how a slave is called by its masters.
func (n *node) asReplica() (*serverpb.Replica, error) {
	host, port, err := net.SplitHostPort(n.info.Address)
	if err != nil {
		return nil, fmt.Errorf("advertise-addr: %w", err)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("advertise-addr: port %q: %w", port, err)
	}
	return &serverpb.Replica{Zone: n.info.DC, Hostname: host, Port: uint32(number)}, nil
}

// followed is a copy with what keeps it up to date.
type followed struct {
	*replica.Follower
	puller *slave.Puller
}

// Run keeps the copy, and keeps it up to date, until ctx ends.
func (f *followed) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return f.Follower.Run(ctx) })
	g.Go(func() error { return f.puller.Run(ctx) })
	return g.Wait()
}

// Resync implements master.Resyncer.
func (f *followed) Resync(ctx context.Context, force bool) (string, error) {
	return f.puller.Resync(ctx, force)
}

// Kept implements master.Resyncer.
func (f *followed) Kept() bool { return f.puller.Status().Kept != "" }

// Status implements replica.Replica.
func (f *followed) Status() replica.Status {
	s, p := f.Follower.Status(), f.puller.Status()
	s.Lag, s.Age, s.Stale = p.LagChanges, p.Age, f.puller.Healthy()
	return s
}

// lagging returns why this slave should not be sent reads; nil where it may, and on
// other nodes.
func (n *node) lagging() error {
	for _, v := range n.vBuckets {
		if f, ok := v.hosted.(*followed); ok {
			if err := f.puller.Healthy(); err != nil {
				return err
			}
		}
	}
	return nil
}
