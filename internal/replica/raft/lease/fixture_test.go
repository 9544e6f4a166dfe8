package lease

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
)

// fakeGroup answers at once, or as it is told.
type fakeGroup struct {
	mu         sync.Mutex
	term       uint64
	self       bool
	epoch      command.Epoch
	index      kv.Index
	beginErr   error
	readErr    error
	begins     int
	ends       []kv.Index
	reads      int
	hold       chan struct{} // ReadIndex waits for it
	beginHangs bool          // Begin has no answer
	beginTakes time.Duration // before Begin's answer
	terse      bool          // Begin does not say how long leases last
	duringRead func()
}

func (g *fakeGroup) set(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
}

// asked counts the ReadIndexes so far.
func (g *fakeGroup) asked() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.reads
}

func (g *fakeGroup) Leader() (uint64, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.term, g.self
}

func (g *fakeGroup) Begin(ctx context.Context, term, nonce uint64, lease time.Duration) (
	now, previous command.Epoch, accepted bool, err error) {
	g.mu.Lock()
	hangs, takes := g.beginHangs, g.beginTakes
	g.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return now, previous, false, ctx.Err()
	}
	if takes > 0 {
		select {
		case <-time.After(takes):
		case <-ctx.Done():
			return now, previous, false, ctx.Err()
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.begins++
	g.index++
	previous = g.epoch
	g.epoch, accepted = previous.Next(&command.Begin{Term: term, Owner: 1, Nonce: nonce, Lease: lease, Stated: !g.terse}, g.index)
	return g.epoch, previous, accepted, g.beginErr
}

func (g *fakeGroup) End(_ context.Context, epoch kv.Index) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ends = append(g.ends, epoch)
	g.epoch.Ended = true
	return nil
}

func (g *fakeGroup) ReadIndex(ctx context.Context) error {
	g.mu.Lock()
	g.reads++
	hold, during, err := g.hold, g.duringRead, g.readErr
	g.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if during != nil {
		during()
	}
	return err
}

// bubbleClock is the bubble's time.
type bubbleClock struct{ start time.Time }

func (c bubbleClock) Now() time.Duration { return time.Since(c.start) }

func (bubbleClock) NewTimer(d time.Duration) (<-chan time.Time, func()) {
	return SystemClock{}.NewTimer(d)
}

const length = 400 * time.Millisecond

// keep runs f in a bubble with a running Keeper.
func keep(t *testing.T, g *fakeGroup, o Options, f func(t *testing.T, k *Keeper)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o.Nonce, o.Clock = 7, bubbleClock{time.Now()}
		k := New(g, o)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- k.Run(ctx) }()
		synctest.Wait()
		f(t, k)
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v", err)
		}
		if _, err := k.Epoch(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("after Run, Epoch says %v", err)
		}
		if _, err := k.Confirm(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("after Run, Confirm says %v", err)
		}
		if err := k.Run(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("a second Run says %v", err)
		}
	})
}

func (k *Keeper) mustEpoch(t *testing.T, want kv.Index) {
	t.Helper()
	if got, err := k.Epoch(t.Context()); got != want || err != nil {
		t.Fatalf("epoch %d, %v; want %d", got, err, want)
	}
}
