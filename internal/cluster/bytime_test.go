package cluster

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
)

// snapshotted is a vBucket of which only snapshots are taken.
type snapshotted struct {
	Raft
	applied atomic.Uint64
	fail    error
	at      []time.Duration // when snapshots were asked for
	begun   time.Time
}

func (s *snapshotted) Applied() kv.Index { return kv.Index(s.applied.Load()) }

func (s *snapshotted) Snapshot(context.Context) error {
	s.at = append(s.at, time.Since(s.begun))
	return s.fail
}

// applied is a vBucket whose index is n.
func applied(n uint64) *snapshotted {
	s := new(snapshotted)
	s.applied.Store(n)
	return s
}

// A snapshot is taken at each interval before which something was applied, and again after one
// that failed.
func TestSnapshotsByTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy, idle, failing := applied(1), applied(1), applied(1)
		failing.fail = errors.New("the disk")
		c := &Cluster{snapshotInterval: time.Minute, log: slog.New(slog.DiscardHandler)}
		for _, s := range []*snapshotted{busy, idle, failing, {}} {
			s.begun = time.Now()
			c.logs = append(c.logs, Log{VBucket: "v", Raft: s})
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { c.snapshotByTime(ctx); close(done) }()
		time.Sleep(90 * time.Second)
		synctest.Wait()
		busy.applied.Add(1)
		time.Sleep(time.Minute)
		stop()
		<-done
		if want := []time.Duration{time.Minute, 2 * time.Minute}; !slices.Equal(busy.at, want) || !slices.Equal(failing.at, want) {
			t.Errorf("snapshots of the busy vBucket at %v, of the failing one at %v", busy.at, failing.at)
		}
		if want := []time.Duration{time.Minute}; !slices.Equal(idle.at, want) {
			t.Errorf("snapshots of the idle vBucket at %v", idle.at)
		}
		if never := c.logs[3].Raft.(*snapshotted); never.at != nil {
			t.Errorf("snapshots of the empty vBucket at %v", never.at)
		}
	})
}

// Without an interval nothing waits, and no snapshot is taken by time.
func TestNoSnapshotsByTime(t *testing.T) {
	s := applied(1)
	c := &Cluster{logs: []Log{{VBucket: "v", Raft: s}}}
	c.snapshotByTime(t.Context()) // returns at once
	if s.at != nil {
		t.Error("a snapshot was taken")
	}
}
