package raft

import (
	"context"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestReadIsVoidWhenItsLeaveEnds: what a linearizable read has seen is not returned if the
// lease that it was taken under, or the leadership that was confirmed for it, has ended
// meanwhile.
func TestReadIsVoidWhenItsLeaveEnds(t *testing.T) {
	for _, confirm := range []bool{false, true} {
		name := "lease"
		if confirm {
			name = "confirmation"
		}
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, 3, func(c *cluster) { c.confirm, c.net = confirm, newNetwork() })
			c.put("k", "v")
			c.want("k", "v")
			owner := c.owner()
			if !confirm {
				testkit.Eventually(t, "a read by lease", func() bool { c.want("k", "v"); return owner.Stats().LeaseReads > 0 })
			}
			before, attempts := owner.Stats(), 0
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			_, err := owner.read(ctx, kv.ReadOptions{Level: kv.Linearizable}, func(*fsm.Machine) error {
				if attempts++; attempts > 1 {
					return nil
				}
				c.net.isolate(owner.addr, true)
				testkit.Eventually(t, "the others have a leader, and the lease has ended", func() bool {
					for _, n := range c.nodes {
						if id, _ := n.leads(); id == n.id && n != owner {
							own, _ := owner.leads()
							return own != owner.id && !owner.keeper.Held()
						}
					}
					return false
				})
				return nil
			})
			if k := kv.KindOf(err); err == nil || k != kv.NotOwner && k != kv.Unavailable {
				t.Errorf("after %d attempts the read is answered: %v", attempts, err)
			}
			after := owner.Stats()
			if reads := after.LeaseReads - before.LeaseReads + after.Confirmed - before.Confirmed; reads != 0 {
				t.Errorf("%d reads are counted", reads)
			}
			if attempts == 0 {
				t.Error("the read was never attempted")
			}
		})
	}
}
