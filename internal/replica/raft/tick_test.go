package raft

import (
	"context"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/testkit"
)

// What a linearizable read took for expired stays so with the next owner, whose
// clock is behind, even while a pause keeps it from being removed.
func TestExpiredStaysExpiredWithTheNextOwner(t *testing.T) {
	for name, found := range replicatest.Readings {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, 3)
			x := c.owner()
			if _, err := x.Propose(t.Context(), replicatest.PutUntil("lock", "held", time.Now().Add(time.Minute))); err != nil {
				t.Fatal(err)
			}
			if _, err := x.Propose(t.Context(), &command.Command{Kind: command.SetPaused, Flag: true}); err != nil {
				t.Fatal(err)
			}
			if held, err := found(x, "lock"); err != nil || !held {
				t.Fatalf("before it expires: %v, %v", held, err)
			}
			x.ahead.Store(int64(2 * time.Minute))
			if held, err := found(x, "lock"); err != nil || held {
				t.Fatalf("after it has expired by the owner's clock: %v, %v", held, err)
			}
			x.kill()
			y := c.owner()
			testkit.Eventually(t, "the next owner is asked", func() bool {
				held, err := found(y, "lock")
				if held {
					t.Errorf("the next owner, member %d, finds the expired key", y.id)
				}
				return err == nil
			})
		})
	}
}

// A reader whose tick cannot be committed is not told that the key has expired.
func TestReadThatCannotTickIsUnavailable(t *testing.T) {
	c := newCluster(t, 3)
	x := c.owner()
	if _, err := x.Propose(t.Context(), replicatest.PutUntil("lock", "held", time.Now().Add(time.Minute))); err != nil {
		t.Fatal(err)
	}
	release := x.holdWrites()
	defer release()
	x.ahead.Store(int64(2 * time.Minute))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	p, found, _, err := x.Get(ctx, []byte("lock"), replicatest.Linearizable)
	if err == nil {
		t.Fatalf("found %v, %q", found, p.Value)
	}
	replicatest.WantError(t, err, kv.Unavailable, kv.NotApplied)
}
