package keeper

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/standby"
)

// TestTheRecordGetsTheLevel that owners of an earlier release did not say, once they are upgraded.
// They are asked once a minute until then, and not after.
func TestTheRecordGetsTheLevel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{Level: kv.AckSync, Timeout: timeout}, "0")
		var asked, level atomic.Int64
		level.Store(int64(kv.AckDefault))
		b.opts.Record = b.record
		b.opts.Standing = func(context.Context, standby.Node) (kv.Ack, error) {
			asked.Add(1)
			return kv.Ack(level.Load()), nil
		}
		b.confirm(b.logs[0], slave("a", ""), 1)
		b.run()
		defer func() { b.stop() }()
		time.Sleep(10*raiseEvery + raiseEvery/2)
		synctest.Wait()
		if n := asked.Load(); n < 5 || n > 11 || !b.record.Unlevelled("a") {
			t.Errorf("asked %d times in ten minutes", n)
		}
		level.Store(int64(kv.AckSync))
		time.Sleep(2 * raiseEvery)
		synctest.Wait()
		if b.record.Unlevelled("a") {
			t.Error("the record has no level of a, which stands at sync by now")
		}
		before := asked.Load()
		time.Sleep(10 * raiseEvery)
		synctest.Wait()
		if n := asked.Load() - before; n != 0 {
			t.Errorf("asked %d times for a level that the record has", n)
		}
	})
}
