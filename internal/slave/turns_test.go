package slave

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/follower"
	"github.com/dkvdb/dkv/internal/slave/source"
)

// gated is a State that applies nothing while it is shut, or fails to.
type gated struct {
	*follower.Replica
	shut, fails atomic.Bool
}

func (g *gated) wrap(to *follower.Replica) { g.Replica = to }

func (g *gated) Apply(ctx context.Context, after kv.Index, changes []kv.Change, upTo kv.Index) error {
	for g.shut.Load() {
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if g.fails.Load() {
		return errors.New("it cannot be kept")
	}
	return g.Replica.Apply(ctx, after, changes, upTo)
}

// TestCopiesTakeTurns has copies catch up that apply slowly: few hold what they have not applied, and the
// others hear of their master meanwhile. One that cannot apply anything lets others go on.
func TestCopiesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		const copies, atOnce = 6, 2
		var all []*copy
		var states []*gated
		turns := NewTurns(atOnce)
		for range copies {
			g := new(gated)
			c := r.slave(source.Fixed("m1:1"), polling, func(o *Options, _ *follower.Options) { o.State, o.Turns = g, turns })
			c.has(m)
			c.stop()
			all, states = append(all, c), append(states, g)
		}
		m.fill("b", 2000, 10<<10)
		for i, c := range all {
			states[i].shut.Store(true)
			c.restart()
		}
		holding := func() (n int) {
			for _, c := range all {
				if st := c.Puller.Status(); st.Bytes > 0 && st.Applied < m.Replica.Status().Applied {
					n++
				}
			}
			return n
		}
		time.Sleep(time.Minute)
		if n := holding(); n != atOnce {
			t.Errorf("%d copies hold what they have not applied", n)
		}
		for i, c := range all {
			if st := c.Puller.Status(); st.Contact > time.Second || st.Phase != Following || st.LagChanges == 0 {
				t.Errorf("copy %d: %+v", i, st)
			}
		}
		for i, c := range all {
			states[i].fails.Store(c.Puller.Status().Bytes > 0)
			states[i].shut.Store(false)
		}
		time.Sleep(time.Minute)
		if n := holding(); n != atOnce {
			t.Errorf("%d copies hold what they have not applied, and %d cannot apply it", n, atOnce)
		}
		for i, c := range all {
			states[i].fails.Store(false)
			c.has(m)
		}
		for _, c := range all {
			c.stop()
		}
		if n := len(turns.places); n != 0 {
			t.Errorf("%d turns have not ended", n)
		}
	})
}
