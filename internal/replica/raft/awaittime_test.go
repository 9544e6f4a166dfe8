package raft

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/clock"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/state"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/memory"
)

// The first mutation of a new log waits for a majority's clocks, and goes on at the very
// moment at which they are known, or after timePatience without them.
func TestNewLogWaitsForClocks(t *testing.T) {
	const soon = 700 * time.Millisecond
	for name, c := range map[string]struct {
		happens func(r *Replica, cancel func())
		after   time.Duration
		err     kv.Kind
		none    bool // no error
	}{
		"a majority is known": {func(r *Replica, _ func()) {
			r.opts.Clock.Hear(2, time.Now(), r.opts.Clock.Elapsed(), r.opts.Clock.Elapsed())
			r.opts.Clock.Vote(1, []uint64{1, 2, 3}, func(uint64) bool { return true })
		}, soon, 0, true},
		"it is alone": {func(r *Replica, _ func()) {
			r.opts.Clock.Vote(1, []uint64{1}, func(uint64) bool { return true })
		}, soon, 0, true},
		"too few are known": {func(r *Replica, _ func()) {
			r.opts.Clock.Vote(1, []uint64{1, 2, 3}, func(uint64) bool { return true })
		}, timePatience, 0, true},
		"its caller gives up":   {func(_ *Replica, cancel func()) { cancel() }, soon, kv.Unavailable, false},
		"the replica is closed": {func(r *Replica, _ func()) { _ = r.state.Close(func() {}) }, soon, kv.KindOf(replica.ErrClosed), false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := standalone(t, clock.New(clock.Options{Member: true}))
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				time.AfterFunc(soon, func() { c.happens(r, cancel) })
				begun := time.Now()
				err := r.awaitTime(ctx)
				if c.none != (err == nil) || err != nil && kv.KindOf(err) != c.err {
					t.Errorf("it ends with %v", err)
				}
				if took := time.Since(begun); took != c.after {
					t.Errorf("it waits for %v, want %v", took, c.after)
				}
				if err := r.state.Close(func() {}); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// standalone is a replica that has a state of its own, diskless and new, and takes no part
// in any log.
func standalone(t *testing.T, c *clock.Clock) *Replica {
	t.Helper()
	r := new(Replica)
	open := func(string) (storage.Engine, error) { return memory.Open(memory.Options{}) }
	var err error
	if r.state, err = state.Open(state.Options{Open: open, Clock: c, Log: slog.New(slog.DiscardHandler)}, fsm.NewReplica, nil); err != nil {
		t.Fatal(err)
	}
	r.Shared, r.opts = r.state.Shared(nil), r.state.Options()
	return r
}
