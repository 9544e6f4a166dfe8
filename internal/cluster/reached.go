package cluster

import (
	"fmt"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/cluster/bootstrap"
	"github.com/dkvdb/dkv/internal/kv"
)

// A copy of a disk that was taken while its node ran knows the node's last start, so
// that starts do not show that it is old. What the node had applied does: entries are
// durable in its log before they are applied. The members remember that of each other
// while they run, and a member that starts must have applied no less.

// reached is what a member has said that it had applied, by vBucket, and the start
// during which it last said so.
type reached struct {
	start   bootstrap.Start
	applied []kv.Index
}

// applied returns what this node has applied, by vBucket.
func (c *Cluster) applied() []kv.Index {
	out := make([]kv.Index, len(c.logs))
	for i, l := range c.logs {
		out[i] = l.Applied()
	}
	return out
}

// hearReached records what a member has applied. The caller holds judging.
func (c *Cluster) hearReached(id uint64, start bootstrap.Start, applied []kv.Index) {
	if len(applied) != len(c.logs) {
		return // an older release, which does not say
	}
	next := reached{start: start, applied: applied}
	for i, before := range c.reached[id].applied {
		next.applied[i] = max(next.applied[i], before)
	}
	c.reached[id] = next
}

// reachedBy returns what is recorded about a member, which it is told; nil for nothing.
func (c *Cluster) reachedBy(id uint64) *peerpb.Reached {
	c.judging.Lock()
	defer c.judging.Unlock()
	r, known := c.reached[id]
	if !known {
		return nil
	}
	return &peerpb.Reached{Start: startMessages([]bootstrap.Start{r.start})[0], Applied: r.applied}
}

// judgeReached stops this node's replicas for good if they do not hold what they had
// applied before this start. What they have applied since does not count.
func (c *Cluster) judgeReached(r *peerpb.Reached, by string) {
	if r == nil || len(r.GetApplied()) != len(c.logs) {
		return
	}
	if start := startsOf([]*peerpb.Start{r.GetStart()})[0]; start == c.self.Past().Last() {
		return
	}
	for i, l := range c.logs {
		if err := l.Reached(r.GetApplied()[i]); err != nil {
			c.retire(c.self.OlderDisk(fmt.Errorf("%s knows of a later state of vBucket %s: %w", by, l.VBucket, err)))
			return
		}
	}
}
