package node

import (
	"context"
	"time"

	"github.com/dkvdb/dkv/internal/periodic"
	"github.com/dkvdb/dkv/internal/sleep"
)

const (
	// lookPause is the least time between two looks of Watch: under load, what may
	// change the condition comes more often than it is worth looking.
	lookPause = 100 * time.Millisecond
	// LookInterval is the greatest time between two looks that are for the condition of
	// the node: some of it only time changes, such as the age of a state.
	LookInterval = time.Second
)

// Watch calls look now, and then each time that Changed is raised, but after lookPause at
// the earliest and after what look returned at the latest. It returns when ctx ends.
func (n *Node) Watch(ctx context.Context, look func() (latest time.Duration)) {
	for {
		changed := n.Changed.Changed()
		latest := time.NewTimer(periodic.Until(0, look()))
		looked := time.Now()
		select {
		case <-changed:
		case <-latest.C:
		case <-ctx.Done():
		}
		latest.Stop()
		if pause := lookPause - time.Since(looked); ctx.Err() != nil || pause > 0 && !sleep.For(ctx, pause) {
			return
		}
	}
}
