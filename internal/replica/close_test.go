package replica

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

func TestRunFinishesWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := openRig(t)
		ctx, cancel := context.WithCancel(t.Context())
		r.run(ctx)
		begun, release := r.holdWrites()
		first := r.proposeAll(t.Context(), put("a", "1"))
		<-begun
		second := r.proposeAll(t.Context(), put("b", "1"))
		synctest.Wait()
		cancel()
		release()
		for _, o := range append(first(), second()...) {
			if o.err != nil {
				t.Error(o.err)
			}
		}
		<-r.ran
		r.wantValue("b", "1")
		_, err := r.Propose(t.Context(), put("c", "1"))
		wantError(t, err, kv.Unavailable, kv.NotApplied)
		if err := r.Restore(t.Context(), "nowhere"); err == nil {
			t.Error("a restore without Run succeeded")
		}
	})
}

func TestCloseEndsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		begun, release := r.holdWrites()
		first := r.proposeAll(t.Context(), put("a", "1"))
		<-begun
		closed := make(chan error)
		go func() { closed <- r.Close() }()
		synctest.Wait()
		release()
		if err := <-closed; err != nil {
			t.Error(err)
		}
		if o := first()[0]; o.err != nil {
			t.Error(o.err)
		}
		<-r.ran
		if err := r.Close(); err != nil {
			t.Error("second close:", err)
		}
		wantClosed(t, r)
	})
}

// wantClosed checks that everything is refused, and nothing hangs.
func wantClosed(t *testing.T, r *rig) {
	t.Helper()
	ctx := context.Background()
	_, err := r.Propose(ctx, put("x", "1"))
	wantError(t, err, kv.Unavailable, kv.NotApplied)
	_, _, _, err = r.Get(ctx, []byte("x"), kv.ReadOptions{})
	wantError(t, err, kv.Unavailable, kv.NotApplied)
	_, _, _, err = r.Get(ctx, []byte("x"), kv.ReadOptions{MinIndex: 1000})
	wantError(t, err, kv.Unavailable, kv.NotApplied)
	_, _, err = r.View(ctx, kv.ReadOptions{})
	wantError(t, err, kv.Unavailable, kv.NotApplied)
	_, err = r.Changes(ctx, 1, 0, 1)
	wantError(t, err, kv.Unavailable, kv.NotApplied)
	wantError(t, r.Backup(ctx, "x"), kv.Unavailable, kv.NotApplied)
	wantError(t, r.Restore(ctx, "x"), kv.Unavailable, kv.NotApplied)
}

func TestCloseWithoutRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := openRig(t)
		waiting := r.proposeAll(t.Context(), put("a", "1"), put("b", "1"))
		synctest.Wait()
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		for _, o := range waiting() {
			wantError(t, o.err, kv.Unavailable, kv.NotApplied)
		}
		if err := r.Run(t.Context()); err != nil {
			t.Error("run after close:", err)
		}
		wantClosed(t, r)
	})
}

func TestRunIsCalledOnce(t *testing.T) {
	r := newRig(t)
	r.mustPut("k", "v") // it runs
	if err := r.Run(context.Background()); err != nil {
		t.Error(err)
	}
	r.mustPut("k", "w") // and still does
}

func TestCloseWaitsForReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.mustPut("k", "v")
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
		r := newRig(t)
		got := make(chan error, 1)
		go func() {
			_, _, _, err := r.Get(context.Background(), []byte("k"), kv.ReadOptions{MinIndex: 1})
			got <- err
		}()
		synctest.Wait()
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		wantError(t, <-got, kv.Unavailable, kv.NotApplied)
	})
}
