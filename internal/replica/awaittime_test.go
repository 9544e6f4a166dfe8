package replica

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/clock"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage/memory"
)

// The first mutation of a new log waits for a majority's clocks, and goes on at the very
// moment at which they are known, or after timePatience without them.
func TestNewLogWaitsForClocks(t *testing.T) {
	const soon = 700 * time.Millisecond
	for name, c := range map[string]struct {
		happens func(r *Raft, cancel func())
		after   time.Duration
		err     kv.Kind
		none    bool // no error
	}{
		"a majority is known": {func(r *Raft, _ func()) {
			r.opts.Clock.Hear(2, time.Now(), r.opts.Clock.Elapsed(), r.opts.Clock.Elapsed())
			r.opts.Clock.Vote(1, []uint64{1, 2, 3}, func(uint64) bool { return true })
		}, soon, 0, true},
		"it is alone": {func(r *Raft, _ func()) {
			r.opts.Clock.Vote(1, []uint64{1}, func(uint64) bool { return true })
		}, soon, 0, true},
		"too few are known": {func(r *Raft, _ func()) {
			r.opts.Clock.Vote(1, []uint64{1, 2, 3}, func(uint64) bool { return true })
		}, timePatience, 0, true},
		"its caller gives up":   {func(_ *Raft, cancel func()) { cancel() }, soon, kv.Unavailable, false},
		"the replica is closed": {func(r *Raft, _ func()) { close(r.closing) }, soon, kv.KindOf(errClosed), false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				engine, err := memory.Open(memory.Options{})
				if err != nil {
					t.Fatal(err)
				}
				m, err := fsm.NewReplica(engine)
				if err != nil {
					t.Fatal(err)
				}
				r := new(Raft)
				r.machine.Store(m)
				r.opts.Clock, r.closing = clock.New(clock.Options{Member: true}), make(chan struct{})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				time.AfterFunc(soon, func() { c.happens(r, cancel) })
				begun := time.Now()
				err = r.awaitTime(ctx)
				if c.none != (err == nil) || err != nil && kv.KindOf(err) != c.err {
					t.Errorf("it ends with %v", err)
				}
				if took := time.Since(begun); took != c.after {
					t.Errorf("it waits for %v, want %v", took, c.after)
				}
				if err := m.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
