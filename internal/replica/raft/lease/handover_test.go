package lease

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/testkit"
)

func TestHandOver(t *testing.T) {
	g := &fakeGroup{term: 1, self: true}
	keep(t, g, Options{Length: length}, func(t *testing.T, k *Keeper) {
		if _, err := k.Confirm(t.Context()); err != nil {
			t.Fatal(err)
		}
		l, _ := k.Take()
		failed := errors.New("no one there")
		err := k.HandOver(t.Context(), func(context.Context) error {
			if len(g.ends) != 1 || g.ends[0] != 1 {
				t.Errorf("ended %v, want 1", g.ends)
			}
			if l.Valid() {
				t.Error("the lease is valid during a hand-over")
			}
			if _, err := k.Epoch(testkit.Within(t, time.Second)); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Epoch says %v during a hand-over", err)
			}
			if g.begins != 1 {
				t.Error("an epoch was begun during a hand-over")
			}
			return failed
		})
		if !errors.Is(err, failed) {
			t.Errorf("HandOver says %v", err)
		}
		k.mustEpoch(t, 2)
		if s := k.Stats(); s.WaitOuts != 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

// An epoch whose wait-out is under way is not ended.
func TestHandOverDuringWaitOut(t *testing.T) {
	g := &fakeGroup{term: 2, self: true, index: 10, epoch: command.Epoch{ID: 9, Term: 1, Owner: 2, Nonce: 1, Lease: length}}
	keep(t, g, Options{Length: length}, func(t *testing.T, k *Keeper) {
		if err := k.HandOver(t.Context(), func(context.Context) error {
			time.Sleep(4 * length)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if len(g.ends) != 0 || k.Stats().Activations != 0 {
			t.Errorf("ended %v; stats %+v", g.ends, k.Stats())
		}
	})
}
