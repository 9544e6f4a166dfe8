package replica

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/datadir"
	"github.com/dkvdb/dkv/internal/storage/memory"
	"github.com/dkvdb/dkv/internal/testkit"
)

func TestHostSizes(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		size                               HostSize
		step, shards, apply, snapshot, mib uint64
		inMemory                           uint64
	}{
		{HostSize{}, 2, 2, 16, 4, 32, 32 << 20},
		{HostSize{Cores: 1, Memory: gib, VBuckets: 1}, 2, 2, 2, 4, 32, 32 << 20},
		{HostSize{Cores: 2, Memory: 8 * gib, VBuckets: 8}, 2, 2, 8, 4, 32, 32 << 20},
		{HostSize{Cores: 5, Memory: 64 * gib, VBuckets: 100}, 4, 2, 64, 5, 32, 32 << 20},
		{HostSize{Cores: 64, Memory: 8 * gib, VBuckets: 64}, 16, 2, 64, 16, 32, 32 << 20},
		{HostSize{Cores: 8, Memory: 32 * gib, VBuckets: 256}, 16, 16, 64, 8, 4096, 256 << 20},
	} {
		t.Run(fmt.Sprintf("%+v", c.size), func(t *testing.T) {
			l := c.size.layout()
			if !l.valid() || l.Workers != c.step || l.LogShards != c.shards {
				t.Errorf("layout %+v", l)
			}
			e, db := c.size.engine(l), c.size.logDB(l)
			if e.ExecShards != c.step || e.ApplyShards != c.apply || e.SnapshotShards != c.snapshot {
				t.Errorf("workers %+v", e)
			}
			if db.Shards != c.shards || db.MemorySizeMB() != c.mib || c.size.MaxInMemory() != c.inMemory {
				t.Errorf("%d databases of %d MiB in all, %d bytes in memory", db.Shards, db.MemorySizeMB(), c.size.MaxInMemory())
			}
		})
	}
}

// A log that was begun on a small host goes on when the host has grown.
func TestRaftGoesOnAfterTheHostHasGrown(t *testing.T) {
	c := newCluster(t, 1)
	c.put("k", "v")
	n := c.owner()
	n.kill()
	layout := filepath.Join(n.path, "raft", layoutFile)
	raw, err := os.ReadFile(layout)
	if err != nil || string(raw) != `{"format":1,"workers":2,"logShards":2}`+"\n" {
		t.Fatalf("the layout of a small host is %q, %v", raw, err)
	}
	c.size = HostSize{Cores: 32, Memory: 128 << 30, VBuckets: 40}
	n.start()
	c.want("k", "v")
	c.put("k", "w")
	n.kill()
	c.size = HostSize{}
	n.start()
	c.want("k", "w")
}

func TestBadLayouts(t *testing.T) {
	for _, raw := range []string{
		"", "{}", `{"format":0,"workers":2,"logShards":2}`, `{"format":1,"workers":3,"logShards":2}`,
		`{"format":1,"workers":128,"logShards":2}`, `{"format":1,"workers":2,"logShards":0}`, `{"format":1,"workers":2,"logShards":2,"more":1}`,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, layoutFile), []byte(raw), 0o600); err != nil {
			t.Fatal(err)
		}
		if l, err := loadLayout(dir, HostSize{}); err == nil {
			t.Errorf("%q was taken for %+v", raw, l)
		}
	}
}

// addVBucket runs a further group on the node's host.
func (n *raftNode) addVBucket(shard uint64) *Raft {
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
	r, err := n.host.OpenRaft(RaftOptions{
		StateOptions: StateOptions{
			Database: "db", VBucket: fmt.Sprint(shard), Generations: generations,
			Open: (&rig{t: t}).openEngine, Log: slog.New(slog.DiscardHandler),
		},
		Shard: shard, Replica: n.id, Members: n.c.members, Self: n.Raft.raft.Self,
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
	testkit.Eventually(t, "it owns its log", func() bool { _, err := r.Propose(t.Context(), put("k", "v")); return err == nil })
	return r
}

// A vBucket whose engine stands still, for a write stall or a disk that hangs, holds up no
// other one.
func TestStalledVBucketHoldsUpNoOther(t *testing.T) {
	c := newCluster(t, 1)
	c.put("k", "v")
	n := c.owner()
	var others []*Raft
	for shard := range uint64(4) {
		others = append(others, n.addVBucket(2+shard))
	}
	release := n.holdWrites()
	defer release()
	stalled := make(chan error, 1)
	go func() {
		_, err := n.Propose(t.Context(), put("k", "w"))
		stalled <- err
	}()
	testkit.Eventually(t, "its engine stands still", func() bool { return n.gated.Load() > 0 })
	for _, r := range others {
		begun := time.Now()
		if _, err := r.Propose(t.Context(), put("k", "w")); err != nil {
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

// A log that a newer release laid out is no damage, whatever else its file says.
func TestNewerLayout(t *testing.T) {
	for _, raw := range []string{`{"format":2,"workers":2,"logShards":2}`, `{"format":2,"shards":[1,2]}`} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, layoutFile), []byte(raw), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := loadLayout(dir, HostSize{})
		if !errors.Is(err, storage.ErrNewer) || !strings.Contains(err.Error(), layoutFile+" has format 2, and this release reads up to 1") {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

func TestNewerRaftSnapshot(t *testing.T) {
	for _, bad := range []string{"", "DKVfile", "DKVfile0\x00\x00\x00\x00\x00\x00\x00\x00", "DKVfile:\x00\x00\x00\x00\x00\x00\x00\x00", "DKVfale2\x00\x00\x00\x00\x00\x00\x00\x00"} {
		err := readFiles(t.Context(), strings.NewReader(bad), filepath.Join(t.TempDir(), "place"), func(uint64) error { return nil })
		if !errors.Is(err, fsm.ErrBadSnapshot) || errors.Is(err, storage.ErrNewer) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	place := filepath.Join(t.TempDir(), "place")
	err := readFiles(t.Context(), strings.NewReader("DKVfile2what a newer release writes"), place, func(uint64) error { return nil })
	if !errors.Is(err, storage.ErrNewer) || errors.Is(err, fsm.ErrBadSnapshot) || !strings.Contains(err.Error(), "has format 2, and this release reads up to 1") {
		t.Error(err)
	}
}
