package state_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
)

// The same holds for a log of one over a restart with a clock that was set back.
func TestExpiredStaysExpiredOverARestart(t *testing.T) {
	var ahead atomic.Int64
	r := replicatest.RunNode(t, replicatest.OnDisk, replicatest.AheadBy(&ahead))
	r.MustPropose(replicatest.PutUntil("lock", "held", time.Now().Add(time.Minute)))
	r.MustPropose(&command.Command{Kind: command.SetPaused, Flag: true})
	ahead.Store(int64(2 * time.Minute))
	for name, found := range replicatest.Readings {
		if held, err := found(r, "lock"); err != nil || held {
			t.Errorf("%s: %v, %v", name, held, err)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	ahead.Store(0)
	again := replicatest.RunNode(t, replicatest.InFolderOf(r.Rig), replicatest.AheadBy(&ahead))
	for name, found := range replicatest.Readings {
		if held, err := found(again, "lock"); err != nil || held {
			t.Errorf("%s after the restart: %v, %v", name, held, err)
		}
	}
}

// A slave that has confirmed all changes may have an earlier clock, by which the key is there. So
// what is told of an expired key waits for the entry that has moved the log's clock.
func TestWhatHasExpiredIsShownByTheEntryThatMovedTheClock(t *testing.T) {
	for name, found := range replicatest.Readings {
		t.Run(name, func(t *testing.T) {
			var ahead atomic.Int64
			r := replicatest.RunNode(t, replicatest.AheadBy(&ahead))
			put := r.MustPropose(replicatest.PutUntil("lock", "held", time.Now().Add(time.Minute))).Index
			pause := r.MustPropose(&command.Command{Kind: command.SetPaused, Flag: true}).Index
			if held, err := found(r, "lock"); err != nil || !held {
				t.Fatal(held, err)
			}
			if shown, err := r.Shown(t.Context()); err != nil || shown != put {
				t.Errorf("with the clock of the change at %d, %d is shown, %v", put, shown, err)
			}
			ahead.Store(int64(2 * time.Minute))
			if held, err := found(r, "lock"); err != nil || held {
				t.Fatal(held, err)
			}
			if shown, err := r.Shown(t.Context()); err != nil || shown <= pause {
				t.Errorf("behind the changes and the pause at %d, %d is shown, %v", pause, shown, err)
			}
		})
	}
}

// Readers that meet an expiry at once share a tick, and those that meet none cause
// none.
func TestReadersShareATick(t *testing.T) {
	var ahead atomic.Int64
	r := replicatest.RunNode(t, replicatest.AheadBy(&ahead))
	r.MustPropose(replicatest.PutUntil("lock", "held", time.Now().Add(time.Minute)))
	r.MustPut("forever", "1")
	r.MustPropose(&command.Command{Kind: command.SetPaused, Flag: true})
	ahead.Store(int64(2 * time.Minute))
	before := r.Status().Applied
	if _, found, _, err := r.Get(t.Context(), []byte("forever"), replicatest.Linearizable); err != nil || !found {
		t.Fatal(found, err)
	}
	if _, found, _, err := r.Get(t.Context(), []byte("lock"), kv.ReadOptions{}); err != nil || found {
		t.Fatal(found, err)
	}
	if now := r.Status().Applied; now != before {
		t.Fatalf("reads that need none made %d entries", now-before)
	}
	begun, release := r.HoldWrites()
	var readers sync.WaitGroup
	for range 10 {
		for _, found := range replicatest.Readings {
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
	for _, found := range replicatest.Readings {
		if held, err := found(r, "lock"); err != nil || held {
			t.Error(held, err)
		}
	}
	if now := r.Status().Applied; now != before {
		t.Errorf("reads of what has expired by the log's clock made %d entries", now-before)
	}
}
