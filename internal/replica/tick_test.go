package replica

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

var linearizable = kv.ReadOptions{Level: kv.Linearizable}

// readings are the ways to look for a key with a linearizable read.
var readings = map[string]func(Replica, string) (bool, error){
	"get": func(r Replica, key string) (bool, error) {
		_, found, _, err := r.Get(context.Background(), []byte(key), linearizable)
		return found, err
	},
	"multi-get": func(r Replica, key string) (bool, error) {
		pairs, _, err := r.MultiGet(context.Background(), [][]byte{[]byte("other"), []byte(key)}, linearizable)
		return len(pairs) > 0, err
	},
	"view": func(r Replica, key string) (bool, error) {
		v, _, err := r.View(context.Background(), linearizable)
		if err != nil {
			return false, err
		}
		defer v.Close()
		pairs, err := v.MultiGet([][]byte{[]byte(key)})
		it := v.Iterate(storage.Prefix([]byte(key)))
		defer it.Close()
		return len(pairs) > 0 || it.Next(), err
	},
}

// aheadBy has a rig's wall clock be ahead by so many nanoseconds.
func aheadBy(ahead *atomic.Int64) change {
	return func(r *rig) {
		r.opts.Clock = wallClock(func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
	}
}

// What a linearizable read took for expired stays so with the next owner, whose
// clock is behind, even while a pause keeps it from being removed.
func TestExpiredStaysExpiredWithTheNextOwner(t *testing.T) {
	for name, found := range readings {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, 3)
			x := c.owner()
			if _, err := x.Propose(t.Context(), putUntil("lock", "held", time.Now().Add(time.Minute))); err != nil {
				t.Fatal(err)
			}
			if _, err := x.Propose(t.Context(), &command.Command{Kind: command.SetPaused, Flag: true}); err != nil {
				t.Fatal(err)
			}
			if held, err := found(x, "lock"); err != nil || !held {
				t.Fatalf("before it expires: %v, %v", held, err)
			}
			x.ahead.Store(int64(2 * time.Minute))
			if held, err := found(x, "lock"); err != nil || held {
				t.Fatalf("after it has expired by the owner's clock: %v, %v", held, err)
			}
			x.kill()
			y := c.owner()
			if held, err := found(y, "lock"); err != nil || held {
				t.Errorf("the next owner, member %d, finds the expired key: %v, %v", y.id, held, err)
			}
		})
	}
}

// The same holds for a log of one over a restart with a clock that was set back.
func TestExpiredStaysExpiredOverARestart(t *testing.T) {
	var ahead atomic.Int64
	r := newRig(t, onDisk, aheadBy(&ahead))
	r.mustPropose(putUntil("lock", "held", time.Now().Add(time.Minute)))
	r.mustPropose(&command.Command{Kind: command.SetPaused, Flag: true})
	ahead.Store(int64(2 * time.Minute))
	for name, found := range readings {
		if held, err := found(r, "lock"); err != nil || held {
			t.Errorf("%s: %v, %v", name, held, err)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	ahead.Store(0)
	again := newRig(t, inFolderOf(r), aheadBy(&ahead))
	for name, found := range readings {
		if held, err := found(again, "lock"); err != nil || held {
			t.Errorf("%s after the restart: %v, %v", name, held, err)
		}
	}
}

// Readers that meet an expiry at once share a tick, and those that meet none cause
// none.
func TestReadersShareATick(t *testing.T) {
	var ahead atomic.Int64
	r := newRig(t, aheadBy(&ahead))
	r.mustPropose(putUntil("lock", "held", time.Now().Add(time.Minute)))
	r.mustPut("forever", "1")
	r.mustPropose(&command.Command{Kind: command.SetPaused, Flag: true})
	ahead.Store(int64(2 * time.Minute))
	before := r.Status().Applied
	if _, found, _, err := r.Get(t.Context(), []byte("forever"), linearizable); err != nil || !found {
		t.Fatal(found, err)
	}
	if _, found, _, err := r.Get(t.Context(), []byte("lock"), kv.ReadOptions{}); err != nil || found {
		t.Fatal(found, err)
	}
	if now := r.Status().Applied; now != before {
		t.Fatalf("reads that need none made %d entries", now-before)
	}
	begun, release := r.holdWrites()
	var readers sync.WaitGroup
	for range 10 {
		for _, found := range readings {
			readers.Go(func() {
				if held, err := found(r, "lock"); err != nil || held {
					t.Error(held, err)
				}
			})
		}
	}
	<-begun
	release()
	readers.Wait()
	if entries := r.Status().Applied - before; entries == 0 || entries > 30/2 {
		t.Errorf("30 readers made %d entries", entries)
	}
	before = r.Status().Applied
	for _, found := range readings {
		if held, err := found(r, "lock"); err != nil || held {
			t.Error(held, err)
		}
	}
	if now := r.Status().Applied; now != before {
		t.Errorf("reads of what has expired by the log's clock made %d entries", now-before)
	}
}

// A reader whose tick cannot be committed is not told that the key has expired.
func TestReadThatCannotTickIsUnavailable(t *testing.T) {
	c := newCluster(t, 3)
	x := c.owner()
	if _, err := x.Propose(t.Context(), putUntil("lock", "held", time.Now().Add(time.Minute))); err != nil {
		t.Fatal(err)
	}
	release := x.holdWrites()
	defer release()
	x.ahead.Store(int64(2 * time.Minute))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	p, found, _, err := x.Get(ctx, []byte("lock"), linearizable)
	if err == nil {
		t.Fatalf("found %v, %q", found, p.Value)
	}
	wantError(t, err, kv.Unavailable, kv.NotApplied)
}

// While a restore builds another state, this one is read as before.
func TestReadersTickDuringARestore(t *testing.T) {
	var ahead atomic.Int64
	r := newRig(t, aheadBy(&ahead))
	r.mustPropose(putUntil("lock", "held", time.Now().Add(time.Minute)))
	back, err := r.beginRestore()
	if err != nil {
		t.Fatal(err)
	}
	defer back()
	ahead.Store(int64(2 * time.Minute))
	for name, found := range readings {
		if held, err := found(r, "lock"); err != nil || held {
			t.Errorf("%s: %v, %v", name, held, err)
		}
	}
	_, err = r.Propose(t.Context(), put("a", "1"))
	wantError(t, err, kv.Unavailable, kv.NotApplied)
}
