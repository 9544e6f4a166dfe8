package replica

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/testkit"
)

// Thousands of reads that begin together are under way a few at a time, those of all
// replicas of a process; a reader that gives up waiting has read nothing.
func TestReadsUnderWayAreBounded(t *testing.T) {
	const most, all = 3, 200
	reads := &Reads{places: make(chan struct{}, most)}
	replicas := []*core{{opts: StateOptions{Reads: reads}}, {opts: StateOptions{Reads: reads}}}
	for _, c := range replicas {
		c.machine.Store(new(fsm.Machine))
	}
	var inside, peak, read atomic.Int64
	gate := make(chan struct{})
	var readers sync.WaitGroup
	for i := range all {
		readers.Go(func() {
			_, err := replicas[i%2].with(t.Context(), func(*fsm.Machine) error {
				n := inside.Add(1)
				defer inside.Add(-1)
				for p := peak.Load(); n > p && !peak.CompareAndSwap(p, n); p = peak.Load() {
				}
				<-gate
				read.Add(1)
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	testkit.Eventually(t, "all places are taken", func() bool { return inside.Load() == most })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := replicas[0].with(ctx, func(*fsm.Machine) error { t.Error("it was let in"); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a reader that gives up: %v", err)
	}
	close(gate)
	readers.Wait()
	if peak.Load() != most || read.Load() != all {
		t.Errorf("%d were under way at once, and %d have read", peak.Load(), read.Load())
	}
}
