package raft

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/replica/raft/host"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/replica/state"
	"github.com/dkvdb/dkv/internal/storage/datadir"
	"github.com/dkvdb/dkv/internal/storage/memory"
	"github.com/dkvdb/dkv/internal/testkit"
)

// A log that was begun on a small host goes on when the host has grown.
func TestRaftGoesOnAfterTheHostHasGrown(t *testing.T) {
	c := newCluster(t, 1)
	c.put("k", "v")
	n := c.owner()
	n.kill()
	layout := filepath.Join(n.path, "raft", "layout.json")
	raw, err := os.ReadFile(layout)
	if err != nil || string(raw) != `{"format":2,"workers":1,"logShards":1}`+"\n" {
		t.Fatalf("the layout of a small host is %q, %v", raw, err)
	}
	c.size = host.Size{Cores: 32, Memory: 128 << 30, VBuckets: 40}
	n.start()
	c.want("k", "v")
	c.put("k", "w")
	n.kill()
	c.size = host.Size{}
	n.start()
	c.want("k", "w")
}

// addVBucket runs a further group on the node's host.
func (n *node) addVBucket(shard uint64) *Replica {
	t := n.c.t
	t.Helper()
	dir, err := datadir.Open(filepath.Join(t.TempDir(), "db"), datadir.Identity{Engine: memory.Kind})
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	generations, err := dir.VBucket("other")
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open(n.host, Options{
		Options: state.Options{
			Database: "db", VBucket: fmt.Sprint(shard), Generations: generations,
			Open: new(replicatest.Engines).Open, Log: slog.New(slog.DiscardHandler),
		},
		Shard: shard, Replica: n.id, Members: n.c.members, Self: n.Replica.raft.Self,
		Timeout: 20 * time.Second, SnapshotEvery: 1000, Keep: 100, MaxInMemory: 32 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan struct{})
	go func() {
		defer close(ran)
		if err := r.Run(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		<-ran
	})
	testkit.Eventually(t, "it owns its log", func() bool { _, err := r.Propose(t.Context(), replicatest.Put("k", "v")); return err == nil })
	return r
}

// A vBucket whose engine stands still, for a write stall or a disk that hangs, holds up no
// other one.
func TestStalledVBucketHoldsUpNoOther(t *testing.T) {
	c := newCluster(t, 1)
	c.put("k", "v")
	n := c.owner()
	var others []*Replica
	for shard := range uint64(4) {
		others = append(others, n.addVBucket(2+shard))
	}
	release := n.holdWrites()
	defer release()
	stalled := make(chan error, 1)
	go func() {
		_, err := n.Propose(t.Context(), replicatest.Put("k", "w"))
		stalled <- err
	}()
	testkit.Eventually(t, "its engine stands still", func() bool { return n.gated.Load() > 0 })
	for _, r := range others {
		begun := time.Now()
		if _, err := r.Propose(t.Context(), replicatest.Put("k", "w")); err != nil {
			t.Errorf("vBucket %s: %v after %v", r.opts.VBucket, err, time.Since(begun))
		}
	}
	select {
	case err := <-stalled:
		t.Fatalf("the stalled write came back: %v", err)
	default:
	}
	release()
	if err := <-stalled; err != nil {
		t.Error(err)
	}
}
