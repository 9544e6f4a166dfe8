package cluster

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dkvdb/dkv/internal/periodic"
)

const (
	// asideInterval is how often a node looks whether others should lead in its place.
	asideInterval = 100 * time.Millisecond
	// asideAtOnce is how many leaders it moves at a time then.
	asideAtOnce = 16
	// asideCall bounds one attempt: a majority may not answer.
	asideCall = 5 * time.Second
)

// stepAside hands over what this node leads while it can answer nothing, since the registry does
// not answer it: its vBuckets would be out of service although the other members could go on.
func (c *Cluster) stepAside(ctx context.Context) {
	if c.aside == nil {
		return
	}
	for periodic.Wait(ctx, asideInterval) {
		if c.aside() {
			c.handAllOver(ctx)
		}
	}
}

// handAllOver makes other members lead what this node leads. One that the registry does not answer
// either takes over nothing: there is no use in it, and no end to it.
func (c *Cluster) handAllOver(ctx context.Context) {
	var g errgroup.Group
	g.SetLimit(asideAtOnce)
	for i, l := range c.logs {
		to := c.heir(l, i)
		if to == 0 {
			continue
		}
		g.Go(func() error {
			limited, cancel := context.WithTimeout(ctx, asideCall)
			defer cancel()
			switch err := l.TransferLeader(limited, to); {
			case err == nil:
				c.log.Warn("another member leads in this node's place, which the registry does not answer", "vbucket", l.VBucket, "to", to)
			case ctx.Err() == nil:
				c.log.Debug("a leader was not moved", "vbucket", l.VBucket, "to", to, "error", err)
			}
			return nil
		})
	}
	_ = g.Wait() // its functions return no errors
}

// heir returns a member that could lead a vBucket that this node leads, in turn for one vBucket
// after the other; 0 for none.
func (c *Cluster) heir(l Log, turn int) uint64 {
	if l.Owner().ID != c.self.Replica {
		return 0
	}
	var fit []uint64
	for _, p := range c.lastKnown().Peers {
		if p.Voting && p.ID != c.self.Replica && c.fit(l.VBucket, p.ID) {
			fit = append(fit, p.ID)
		}
	}
	if len(fit) == 0 {
		return 0
	}
	return fit[turn%len(fit)]
}
