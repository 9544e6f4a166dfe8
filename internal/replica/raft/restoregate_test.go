package raft

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
)

// TestRestoreAwaitsTheGate: a restore is done once the gate says so, with the index of its end; an
// error of the gate undoes nothing, and a copy can be made meanwhile.
func TestRestoreAwaitsTheGate(t *testing.T) {
	gate := replicatest.NewGate()
	c := newCluster(t, 1, func(c *cluster) { c.options = func(_ *node, o *Options) { o.Gate = gate } })
	c.put("k", "old")
	root := t.TempDir()
	dir := filepath.Join(root, "backup")
	if err := c.owner().Backup(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	for i, answer := range []error{nil, kv.UnknownOutcome(kv.NotConfirmed, errors.New("applied here, not confirmed"))} {
		c.put("k", "new")
		before := c.owner().Status()
		asked, done := gate.Hold(answer), make(chan error, 1)
		go func() { done <- c.owner().Restore(context.Background(), dir) }()
		select {
		case at := <-asked:
			if now := c.owner().Status(); at <= before.Applied || at > now.Applied || now.Identity.History == before.Identity.History {
				t.Errorf("the gate is asked for %d: %+v after %+v", at, now, before)
			}
		case err := <-done:
			t.Fatalf("the restore does not ask the gate: %v", err)
		}
		if err := c.owner().Backup(t.Context(), filepath.Join(root, string(rune('a'+i)))); err != nil {
			t.Error(err)
		}
		gate.Release()
		if err := <-done; !errors.Is(err, answer) {
			t.Errorf("%v, want %v", err, answer)
		}
		c.want("k", "old")
	}
	c.put("k", "later")
}
