package raft

import (
	"context"
	"testing"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/testkit"
)

// A deposed owner that has applied its successor's entry before the successor
// itself must not answer a retry from the request table: the successor may still
// read, under its lease, the state before that entry.
func TestDeposedOwnerAcknowledgesNoRetry(t *testing.T) {
	c := newCluster(t, 3)
	c.put("k", "old")
	deposed := c.owner()
	ctx := t.Context()
	old, err := deposed.keeper.Epoch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	next := c.follower()
	c.lead(next)
	request := func() *command.Command {
		w := replicatest.Put("k", "new")
		w.Request = kv.RequestID{Client: 77, Sequence: 1}
		return w
	}
	release := next.holdWrites()
	applied := deposed.state.Machine().Applied()
	answered := make(chan command.Result, 1)
	go func() {
		res, err := next.Propose(ctx, request())
		if err != nil {
			t.Error("the first attempt:", err)
		}
		answered <- res
	}()
	testkit.Eventually(t, "the deposed owner has applied the entry", func() bool {
		return deposed.state.Machine().Applied() > applied
	})
	retry := request()
	retry.Fence, retry.Clock = old, deposed.state.Clock(deposed.state.Machine())
	late, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	res, err := deposed.append(late, retry, patience)
	if err != nil || res.Code != command.Fenced {
		t.Errorf("the deposed owner answered a retry with %+v, %v before its successor applied the request; want it fenced", res, err)
	}
	release()
	first := <-answered
	again, err := next.Propose(ctx, request())
	if err != nil || again != first {
		t.Errorf("a retry at the owner came to %+v, %v; the first attempt to %+v", again, err, first)
	}
}
