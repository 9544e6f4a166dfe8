package raft

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/faults"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
)

// What the only voter has not on its disk yet it forgets if it ends. A member without a vote must
// not have applied that: it would never follow again, and show what no other member has.
func TestLoneVoterIsNotAheadOfItsDisk(t *testing.T) {
	slow := faults.New(slog.New(slog.DiscardHandler))
	c := newCluster(t, 1, func(c *cluster) { c.faults = slow })
	reader := c.add(2, true)
	c.reconfigure("a member without a vote", func(owner *node, m replica.Membership) error {
		return owner.Add(t.Context(), reader.id, reader.addr, m.Version)
	})
	reader.start()
	reader.wantAt(c.put("k", "before"), "k", "before")

	value := func(opts kv.ReadOptions) string {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		p, _, _, err := reader.Get(ctx, []byte("k"), opts)
		if err != nil {
			t.Fatal(err)
		}
		return string(p.Value)
	}
	received := func() uint64 { _, last := reader.applier.Load().log.GetRange(); return last }
	const delay = faults.MostDelay / 2
	sentEarly := false
	// Raft sends an entry at once unless it waits for an answer of the member.
	for i := 0; i < 20 && !sentEarly; i++ {
		fault, err := slow.Begin(faults.Fault{Kind: faults.SlowDisk, For: faults.Longest, Delay: delay})
		if err != nil {
			t.Fatal(err)
		}
		earlier, before, begun := value(kv.ReadOptions{}), received(), time.Now()
		put := make(chan error, 1)
		go func() {
			_, err := c.nodes[0].Propose(t.Context(), replicatest.Put("k", fmt.Sprint(i)))
			put <- err
		}()
		for waited := false; !waited; {
			select {
			case err = <-put:
				waited = true
			case <-time.After(fastTiming.RTT):
				now, got := value(kv.ReadOptions{}), received()
				if time.Since(begun) >= delay {
					continue // it may be written
				}
				if now != earlier {
					t.Fatalf("%q is shown by the member without a vote; the only voter has not written it", now)
				}
				sentEarly = sentEarly || got > before
			}
		}
		fault.End()
		if err != nil {
			t.Fatal(err)
		}
		if got := value(kv.ReadOptions{MinIndex: c.nodes[0].Status().Applied}); got != fmt.Sprint(i) {
			t.Errorf("%q is shown once %d was written", got, i)
		}
	}
	if !sentEarly {
		t.Error("no entry was sent before it was written: the test shows nothing")
	}
}
