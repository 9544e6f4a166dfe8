package raft

import (
	"context"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
)

func traced() (context.Context, *kv.Trace) {
	t := new(kv.Trace)
	return context.WithValue(context.Background(), kv.TraceKey{}, t), t
}

// A proposal and a read say where their time went.
func TestTraceHasThePhasesOfTheLog(t *testing.T) {
	c := newCluster(t, 3)
	c.put("first", "1")
	var spent *kv.Trace
	c.atOwner("a traced put", func(owner *node) error {
		var ctx context.Context
		ctx, spent = traced()
		_, err := owner.Propose(ctx, replicatest.Put("k", "v"))
		return err
	})
	for _, p := range []kv.Phase{kv.Commit, kv.Apply} {
		if spent.Part(p).Took <= 0 {
			t.Errorf("a put spent nothing in %v", p)
		}
	}
	c.atOwner("a traced get", func(owner *node) error {
		var ctx context.Context
		ctx, spent = traced()
		_, _, _, err := owner.Get(ctx, []byte("k"), kv.ReadOptions{Level: kv.Linearizable})
		return err
	})
	if spent.Part(kv.Read).Took <= 0 || spent.Part(kv.Commit).Took != 0 {
		t.Errorf("a get spent %v in reading and %v in committing", spent.Part(kv.Read).Took, spent.Part(kv.Commit).Took)
	}
}

// What was committed and waited behind another batch is told from what was being committed.
func TestMomentsTellWaitingFromCommitting(t *testing.T) {
	at := func(ms int) time.Time { return time.Unix(1000, 0).Add(time.Duration(ms) * time.Millisecond) }
	committed := func(w *moments, entry uint64, when time.Time) {
		w.commit(entry)
		w.commits[(w.committed.Load()-1)%uint64(len(w.commits))].begun.Store(when.UnixNano())
	}
	var w moments
	w.init(1024)
	if n := len(w.batches); n != fewestMoments {
		t.Errorf("%d are remembered of each of 1024 vBuckets", n)
	}
	for i := range uint64(3 * momentsKept) { // earlier ones, which are overwritten
		committed(&w, i, at(int(i)))
		w.apply(i, at(int(i)), at(int(i)+1))
	}
	const first = 3 * momentsKept
	committed(&w, first, at(1010))
	committed(&w, first+2, at(1020))
	w.apply(first, at(1011), at(1050))
	w.apply(first+1, at(1050), at(1070))
	w.apply(first+2, at(1070), at(1075))
	for name, c := range map[string]struct {
		entry                    uint64
		commit, wait, apply, all time.Duration
	}{
		"the first":                {first, 10, 1, 39, 0},
		"behind it":                {first + 1, 20, 30, 20, 0},
		"in the same stretch":      {first + 2, 20, 50, 5, 0},
		"answered by an older one": {first - 3, 0, 0, 0, 1},
		"too old to be remembered": {1, 0, 0, 0, 1},
		"not applied here":         {first + 3, 0, 0, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			trace := new(kv.Trace)
			w.trace(trace, at(1000), c.entry)
			if c.all == 1 { // all of it counts as commit
				if got := trace.Part(kv.Commit).Took; got < time.Hour || trace.Part(kv.Apply).Took != 0 {
					t.Errorf("committed for %v, applied for %v", got, trace.Part(kv.Apply).Took)
				}
				return
			}
			for p, want := range map[kv.Phase]time.Duration{kv.Commit: c.commit, kv.ApplyWait: c.wait, kv.Apply: c.apply} {
				if got := trace.Part(p).Took; got != want*time.Millisecond {
					t.Errorf("%v took %v, want %vms", p, got, int64(want))
				}
			}
		})
	}
	w.trace(nil, at(1000), first)
}

// Nothing is allocated to note and to look up where time went.
func TestMomentsDoNotAllocate(t *testing.T) {
	w, trace, begun := new(moments), new(kv.Trace), time.Now()
	w.init(1)
	entry := uint64(0)
	if n := testing.AllocsPerRun(100, func() {
		entry++
		w.commit(entry)
		w.apply(entry, begun, begun)
		w.trace(trace, begun, entry)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
