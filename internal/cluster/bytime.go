package cluster

import (
	"context"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/sleep"
)

// snapshotByTime takes a snapshot of every vBucket at each interval, one vBucket after the
// other: each may sync much of an engine. A vBucket in which nothing was applied since is left
// out.
func (c *Cluster) snapshotByTime(ctx context.Context) {
	if c.snapshotInterval <= 0 {
		return
	}
	taken := make([]kv.Index, len(c.logs)) // what was applied before the last snapshot
	for sleep.For(ctx, c.snapshotInterval) {
		for i := range c.logs {
			c.snapshotIfChanged(ctx, &c.logs[i], &taken[i])
		}
	}
}

// snapshotIfChanged takes a snapshot of a vBucket in which something was applied since the
// index taken, and moves that.
func (c *Cluster) snapshotIfChanged(ctx context.Context, l *Log, taken *kv.Index) {
	applied := l.Applied()
	if applied == *taken || ctx.Err() != nil {
		return
	}
	if err := l.Snapshot(ctx); err != nil {
		if ctx.Err() == nil {
			c.log.Warn("no snapshot by nexus-snapshot-interval was taken; the next interval tries again", "vbucket", l.VBucket, "error", err)
		}
		return
	}
	*taken = applied
}
