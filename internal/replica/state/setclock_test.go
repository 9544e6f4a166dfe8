package state_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/clock"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
)

// The same for a log of one, whose node has shown what it shows no more.
func TestSetClockBackAlone(t *testing.T) {
	var ahead atomic.Int64
	r := replicatest.RunNode(t, replicatest.AheadBy(&ahead))
	r.MustPropose(replicatest.PutUntil("session", "alive", time.Now().Add(time.Hour)))
	r.MustPropose(&command.Command{Kind: command.SetPaused, Flag: true}) // so that nothing is removed
	ahead.Store(int64(replicatest.Decade))
	r.MustPropose(&command.Command{Kind: command.Tick})
	r.WantValue("session", "")
	ahead.Store(0)
	r.WantValue("session", "")
	if err := r.SetClock(t.Context(), time.Time{}); err != nil {
		t.Fatal(err)
	}
	r.WantValue("session", "alive")
	if held, err := replicatest.Readings["get"](r, "session"); err != nil || !held {
		t.Errorf("with a linearizable read: %v, %v", held, err)
	}
}

// The log's clock cannot be set far from what a majority's clocks say, or while they
// are not known.
func TestSetClockIsRefused(t *testing.T) {
	r := replicatest.RunNode(t, func(r *replicatest.Rig) { r.Opts.Clock = clock.New(clock.Options{}) })
	before := r.Status().Applied
	for _, off := range []time.Duration{time.Hour, -time.Hour, replicatest.Decade} {
		replicatest.WantError(t, r.SetClock(t.Context(), time.Now().Add(off)), kv.Invalid, kv.NotApplied)
	}
	waiting := replicatest.RunNode(t, func(r *replicatest.Rig) { r.Opts.Clock = clock.New(clock.Options{Member: true}) })
	replicatest.WantError(t, waiting.SetClock(t.Context(), time.Now()), kv.Unavailable, kv.NotApplied)
	if now := r.Status().Applied; now != before {
		t.Errorf("%d entries", now-before)
	}
	if err := r.SetClock(t.Context(), time.Now().Add(5*time.Second)); err != nil {
		t.Error(err)
	}
}
