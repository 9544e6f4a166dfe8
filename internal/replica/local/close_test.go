package local_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/storage"
)

func TestRunFinishesWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := replicatest.OpenNode(t)
		ctx, cancel := context.WithCancel(t.Context())
		r.Start(ctx)
		begun, release := r.HoldWrites()
		first := r.ProposeAll(t.Context(), replicatest.Put("a", "1"))
		<-begun
		second := r.ProposeAll(t.Context(), replicatest.Put("b", "1"))
		synctest.Wait()
		cancel()
		release()
		for _, o := range append(first(), second()...) {
			if o.Err != nil {
				t.Error(o.Err)
			}
		}
		<-r.Ran
		r.WantValue("b", "1")
		_, err := r.Propose(t.Context(), replicatest.Put("c", "1"))
		replicatest.WantError(t, err, kv.Unavailable, kv.NotApplied)
		if err := r.Restore(t.Context(), "nowhere"); err == nil {
			t.Error("a restore without Run succeeded")
		}
	})
}

func TestCloseEndsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := replicatest.RunNode(t)
		begun, release := r.HoldWrites()
		first := r.ProposeAll(t.Context(), replicatest.Put("a", "1"))
		<-begun
		closed := make(chan error)
		go func() { closed <- r.Close() }()
		synctest.Wait()
		release()
		if err := <-closed; err != nil {
			t.Error(err)
		}
		if o := first()[0]; o.Err != nil {
			t.Error(o.Err)
		}
		<-r.Ran
		if err := r.Close(); err != nil {
			t.Error("second close:", err)
		}
		wantClosed(t, r)
	})
}

// wantClosed checks that everything is refused, and nothing hangs.
func wantClosed(t *testing.T, r *replicatest.Node) {
	t.Helper()
	ctx := context.Background()
	_, err := r.Propose(ctx, replicatest.Put("x", "1"))
	replicatest.WantError(t, err, kv.Unavailable, kv.NotApplied)
	_, _, _, err = r.Get(ctx, []byte("x"), kv.ReadOptions{})
	replicatest.WantError(t, err, kv.Unavailable, kv.NotApplied)
	_, _, _, err = r.Get(ctx, []byte("x"), kv.ReadOptions{MinIndex: 1000})
	replicatest.WantError(t, err, kv.Unavailable, kv.NotApplied)
	_, _, err = r.View(ctx, kv.ReadOptions{})
	replicatest.WantError(t, err, kv.Unavailable, kv.NotApplied)
	_, err = r.Changes(ctx, 1, 0, 1)
	replicatest.WantError(t, err, kv.Unavailable, kv.NotApplied)
	replicatest.WantError(t, r.Backup(ctx, "x"), kv.Unavailable, kv.NotApplied)
	replicatest.WantError(t, r.Restore(ctx, "x"), kv.Unavailable, kv.NotApplied)
}

func TestCloseWithoutRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := replicatest.OpenNode(t)
		waiting := r.ProposeAll(t.Context(), replicatest.Put("a", "1"), replicatest.Put("b", "1"))
		synctest.Wait()
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		for _, o := range waiting() {
			replicatest.WantError(t, o.Err, kv.Unavailable, kv.NotApplied)
		}
		if err := r.Run(t.Context()); err != nil {
			t.Error("run after close:", err)
		}
		wantClosed(t, r)
	})
}

func TestRunIsCalledOnce(t *testing.T) {
	r := replicatest.RunNode(t)
	r.MustPut("k", "v") // it runs
	if err := r.Run(context.Background()); err != nil {
		t.Error(err)
	}
	r.MustPut("k", "w") // and still does
}

func TestCloseWaitsForReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := replicatest.RunNode(t)
		r.MustPut("k", "v")
		v, _, err := r.View(t.Context(), kv.ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		it := v.Iterate(storage.Range{})
		closed := make(chan error, 1)
		go func() { closed <- r.Close() }()
		synctest.Wait()
		if len(closed) != 0 {
			t.Fatal("closed under a reader")
		}
		if !it.Next() || string(it.Pair().Value) != "v" || it.Err() != nil {
			t.Error("the view lost its state")
		}
		it.Close()
		v.Close()
		if err := <-closed; err != nil {
			t.Error(err)
		}
	})
}

func TestCloseEndsWaitForIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := replicatest.RunNode(t)
		got := make(chan error, 1)
		go func() {
			_, _, _, err := r.Get(context.Background(), []byte("k"), kv.ReadOptions{MinIndex: 1})
			got <- err
		}()
		synctest.Wait()
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		replicatest.WantError(t, <-got, kv.Unavailable, kv.NotApplied)
	})
}
