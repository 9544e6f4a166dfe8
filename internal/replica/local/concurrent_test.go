package local_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
)

// TestConcurrentUse has everything happen at once, for the race detector and
// for what must hold throughout: indexes only grow, a view is one state, and an
// increment that was acknowledged is there until a restore takes it away.
func TestConcurrentUse(t *testing.T) {
	r := replicatest.RunNode(t, replicatest.OnDisk)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r.MustPut("a", "1")
	dir := r.MustBackup()
	root := filepath.Dir(dir)

	var loops, work sync.WaitGroup
	until := func(step func()) {
		loops.Go(func() {
			for ctx.Err() == nil {
				step()
			}
		})
	}
	for range 4 {
		last := kv.Index(0)
		until(func() {
			res, err := r.Propose(ctx, &command.Command{Kind: command.Increment, Delta: 1, Mutations: []kv.Mutation{{Key: []byte("n")}}})
			switch {
			case err != nil:
				if kv.OutcomeOf(err) == kv.Unknown && !errors.Is(err, context.Canceled) {
					t.Errorf("propose: %v", err)
				}
			case res.Index <= last:
				t.Errorf("index %d after %d", res.Index, last)
			default:
				last = res.Index
			}
		})
	}
	seen := kv.Index(0)
	until(func() {
		v, info, err := r.View(ctx, kv.ReadOptions{})
		if err != nil {
			return // ctx has ended
		}
		defer v.Close()
		h, err := v.Hash(ctx)
		if err == nil && (h.Index != info.Index || h.Index < seen) {
			t.Errorf("hash at %d of a view at %d, after %d", h.Index, info.Index, seen)
		}
		seen = info.Index
	})
	until(func() {
		if _, found, _, err := r.Get(ctx, []byte("a"), kv.ReadOptions{}); err == nil && !found {
			t.Error("a is not there")
		}
		r.Status()
	})
	for n := range 3 {
		work.Go(func() {
			for i := range 3 {
				if err := r.Backup(ctx, filepath.Join(root, fmt.Sprint("b", n, "-", i))); err != nil {
					t.Errorf("backup: %v", err)
				}
				if err := r.Restore(ctx, dir); err != nil {
					t.Errorf("restore: %v", err)
				}
			}
		})
	}
	work.Wait()
	cancel()
	loops.Wait()
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if got := r.Folder(); len(got) != 2 {
		t.Errorf("the folder holds %q", got)
	}
}

// TestCloseAmidEverything closes while all of it is under way.
func TestCloseAmidEverything(t *testing.T) {
	for range 10 {
		r := replicatest.RunNode(t, replicatest.OnDisk)
		r.MustPut("a", "1")
		dir := r.MustBackup()
		var wg sync.WaitGroup
		ctx := context.Background()
		begun := make(chan struct{}, 100)
		for i := range 4 {
			wg.Go(func() {
				for r.State() != replica.Closed {
					_, err := r.Propose(ctx, replicatest.Put(fmt.Sprint("k", i), "v"))
					if err != nil && kv.OutcomeOf(err) != kv.NotApplied {
						t.Error(err)
					}
				}
			})
		}
		for i := range 2 {
			wg.Go(func() {
				begun <- struct{}{}
				_ = r.Restore(ctx, dir) // it may or may not come through
				_ = r.Backup(ctx, fmt.Sprint(dir, "-", i))
			})
		}
		<-begun
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
		again := replicatest.RunNode(t, replicatest.InFolderOf(r.Rig))
		again.WantValue("a", "1")
		again.MustPut("b", "2")
	}
}
