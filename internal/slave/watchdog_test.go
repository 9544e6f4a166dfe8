package slave

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/follower"
	"github.com/dkvdb/dkv/internal/slave/source"
)

// TestAWaitGoesOnWhileSomethingArrives, but neither for the heartbeats of other streams nor for ever.
func TestAWaitGoesOnWhileSomethingArrives(t *testing.T) {
	for name, c := range map[string]struct {
		rate     int // bytes a second
		from, to time.Duration
	}{
		"a slow line": {60_000, 10 * time.Minute, time.Hour}, // until more has come than a message has
		"heartbeats":  {2_000, minPatience, minPatience + time.Second},
		"nothing":     {0, minPatience, minPatience + time.Second},
		"busy others": {10 << 20, 5 * time.Second, 20 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			var heard atomic.Uint64
			ctx, end := context.WithCancelCause(t.Context())
			began := time.Now()
			w := newWatchdog(minPatience, minPatience, heard.Load, end)
			defer w.stop()
			for ctx.Err() == nil {
				time.Sleep(100 * time.Millisecond)
				heard.Add(uint64(c.rate) / 10)
			}
			if took := time.Since(began); took < c.from || took > c.to || !errors.Is(context.Cause(ctx), errSilent) {
				t.Errorf("%s: it ends after %s, %v", name, took, context.Cause(ctx))
			}
		})
	}
}

// TestNoWaitNoEnd: only waiting counts, however long the message is handled.
func TestNoWaitNoEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, end := context.WithCancelCause(t.Context())
		w := newWatchdog(minPatience, minPatience, silent, end)
		w.stop()
		time.Sleep(time.Hour)
		if ctx.Err() != nil {
			t.Error(context.Cause(ctx))
		}
		w.await()
		time.Sleep(minPatience + time.Second)
		if !errors.Is(context.Cause(ctx), errSilent) {
			t.Error(context.Cause(ctx))
		}
	})
}

// TestALargeChangeArrivesAtTheFirstAttempt, however long it takes: what was sent of one that is given up is lost.
func TestALargeChangeArrivesAtTheFirstAttempt(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		r.rate.Store(64 << 10)
		m := r.master("m1:1")
		m.put("a", "1")
		s := r.slave(source.Fixed("m1:1"), mode)
		s.has(m)
		began := time.Now()
		m.write(kv.Mutation{Key: []byte("large"), Value: make([]byte, 6<<20)}) // 96 s, and as long to look at it again
		s.has(m)
		if took := time.Since(began); took > 4*time.Minute {
			t.Errorf("it took %s", took)
		}
	})
}
