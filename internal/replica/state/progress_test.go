package state

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	_ "github.com/dkvdb/dkv/internal/testkit/seed" // draws the same values in every run
)

// Each waiter returns when its index is applied, and not before.
func TestProgressWakesInOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		indexes := rapid.SliceOfN(rapid.Uint64Range(1, 20), 1, 20).Draw(rt, "indexes")
		synctest.Test(t, func(t *testing.T) {
			var p progress
			returned := make([]kv.Index, len(indexes))
			for i, index := range indexes {
				go func() {
					applied, err := p.wait(t.Context(), nil, index)
					if err != nil {
						t.Error(err)
					}
					returned[i] = applied
				}()
			}
			for applied := kv.Index(0); applied <= 20; applied++ {
				p.advance(applied)
				synctest.Wait()
				for i, index := range indexes {
					if want := index <= applied; (returned[i] != 0) != want {
						t.Errorf("at %d the one that waits for %d has returned: %v", applied, index, !want)
					}
				}
			}
			if len(p.waiting) != 0 {
				t.Errorf("%d are left", len(p.waiting))
			}
		})
	})
}

// Steps wake no one who waits for later ones.
func TestProgressLetsOthersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p progress
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		closing := make(chan struct{})
		waiting := func() []*waiter {
			p.mu.Lock()
			defer p.mu.Unlock()
			return slices.Clone(p.waiting)
		}
		errs := make(chan error, 3)
		wait := func(ctx context.Context, index kv.Index) {
			_, err := p.wait(ctx, closing, index)
			errs <- err
		}
		go wait(ctx, 10)
		go wait(t.Context(), 11)
		go wait(t.Context(), 12)
		synctest.Wait()
		first := waiting()[0]
		for i := range kv.Index(9) {
			p.advance(i + 1)
		}
		synctest.Wait()
		if left := waiting(); len(left) != 3 || left[0] != first {
			t.Fatalf("%d wait", len(left))
		}
		if err := <-errs; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the deadline: %v", err)
		}
		p.advance(11)
		if err := <-errs; err != nil {
			t.Errorf("the one for 11: %v", err)
		}
		close(closing)
		if err := <-errs; !errors.Is(err, replica.ErrClosed) {
			t.Errorf("the end: %v", err)
		}
		if left := waiting(); len(left) != 0 {
			t.Errorf("%d are left", len(left))
		}
	})
}
