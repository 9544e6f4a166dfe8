package lease

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/testkit"
)

// An answer to ReadIndex is worth nothing once another leads.
func TestLeadershipLostDuringReadIndex(t *testing.T) {
	g := &fakeGroup{term: 1, self: true}
	g.duringRead = func() { g.set(func() { g.term, g.self = 2, false }) }
	keep(t, g, Options{Length: length}, func(t *testing.T, k *Keeper) {
		if _, err := k.Confirm(t.Context()); !errors.Is(err, ErrNotOwner) {
			t.Errorf("Confirm says %v", err)
		}
		synctest.Wait()
		if _, ok := k.Take(); ok || k.Stats().Epoch != 0 {
			t.Error("the lease or the epoch is still there")
		}
	})
}

// Readers that come while rounds are under way share the next one, and none
// joins one that has begun.
func TestSharedRounds(t *testing.T) {
	g := &fakeGroup{term: 1, self: true}
	keep(t, g, Options{Length: length}, func(t *testing.T, k *Keeper) {
		g.set(func() { g.hold = make(chan struct{}) })
		var readers sync.WaitGroup
		start := func() {
			readers.Go(func() {
				if _, err := k.Confirm(t.Context()); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		for range maxRounds + 20 {
			start()
		}
		if g.asked() != maxRounds {
			t.Errorf("%d rounds at once, want %d", g.asked(), maxRounds)
		}
		close(g.hold)
		readers.Wait()
		if g.asked() != maxRounds+1 {
			t.Errorf("%d rounds for all, want %d", g.asked(), maxRounds+1)
		}
	})
}

// One reader's impatience is not another's.
func TestConfirmGivesUpAlone(t *testing.T) {
	g := &fakeGroup{term: 1, self: true}
	keep(t, g, Options{Length: length}, func(t *testing.T, k *Keeper) {
		g.set(func() { g.hold = make(chan struct{}) })
		if _, err := k.Confirm(testkit.Within(t, time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Confirm says %v", err)
		}
		close(g.hold)
		if _, err := k.Confirm(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
