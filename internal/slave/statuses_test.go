package slave

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/master/maintenance"
	"github.com/dkvdb/dkv/internal/master/replication"
	"github.com/dkvdb/dkv/internal/replica/follower"
	"github.com/dkvdb/dkv/internal/slave/source"
)

// counted is a Replication that counts.
type counted struct {
	*replication.Service
	node *node
}

func (c counted) StreamSnapshot(r *serverpb.StreamSnapshotRequest, s grpc.ServerStreamingServer[serverpb.SnapshotChunk]) error {
	c.node.snapshots.Add(1)
	defer c.node.snapshots.Add(-1)
	return c.Service.StreamSnapshot(r, s)
}

// countedNode is a Node that counts.
type countedNode struct {
	*maintenance.Node
	node *node
}

func (c countedNode) GetNodeStatus(ctx context.Context, e *emptypb.Empty) (*serverpb.NodeStatusResponse, error) {
	c.node.statuses.Add(1)
	return c.Node.GetNodeStatus(ctx, e)
}

// TestVBucketsAskTheirMasterTogether has the pullers of a node's vBuckets ask about as often as one
// of them does: each answer names all vBuckets.
func TestVBucketsAskTheirMasterTogether(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		const vBuckets, seconds = 16, 60
		shared := new(Statuses)
		var copies []*copy
		for range vBuckets {
			copies = append(copies, r.slave(source.Fixed("m1:1"), mode, func(o *Options, _ *follower.Options) { o.Statuses, o.VBuckets = shared, 1 }))
			time.Sleep(37 * time.Millisecond) // they do not take turns by chance
		}
		for _, c := range copies {
			c.has(m)
		}
		before := m.statuses.Load()
		time.Sleep(seconds * time.Second)
		if n := m.statuses.Load() - before; n < seconds/2 || n > 3*seconds {
			t.Errorf("it was asked %d times in %d s", n, seconds)
		}
		for _, c := range copies {
			if at := c.Owner().Address; at != "m1:1" {
				t.Errorf("the leader is at %q", at)
			}
		}
	})
}

// TestStatusesAreOfSince shares questions, and none that was asked too early or given up.
func TestStatusesAreOfSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		m := r.master("m1:1")
		p, err := r.pool.Peer("m1:1")
		if err != nil {
			t.Fatal(err)
		}
		var s Statuses
		asked := func(what string, since time.Duration, more int64) {
			t.Helper()
			before := m.statuses.Load()
			resp, err := s.of(t.Context(), p, time.Now().Add(since))
			if err != nil || len(resp.GetVBuckets()) != 1 || m.statuses.Load()-before != more {
				t.Errorf("%s: %v, %v, asked %d times", what, resp, err, m.statuses.Load()-before)
			}
		}
		asked("the first", -time.Second, 1)
		time.Sleep(500 * time.Millisecond)
		asked("soon", -time.Second, 0)
		asked("a newer one", -100*time.Millisecond, 1)

		time.Sleep(time.Millisecond)
		goOn := m.hang()
		given, gaveUp := context.WithTimeoutCause(t.Context(), time.Second, errSilent)
		defer gaveUp()
		results := make(chan error, 3)
		for _, ctx := range []context.Context{given, t.Context(), t.Context()} {
			go func() {
				_, err := s.of(ctx, p, time.Now())
				results <- err
			}()
			synctest.Wait() // the one who gives up asks
		}
		if err := <-results; !errors.Is(err, errSilent) {
			t.Errorf("who gave up: %v", err)
		}
		synctest.Wait()
		goOn()
		for range 2 {
			if err := <-results; err != nil && kv.KindOf(err) != kv.Unavailable {
				t.Errorf("who waited: %v", err)
			}
		}
		time.Sleep(time.Millisecond)
		asked("afterwards", 0, 1)
		time.Sleep(2 * statusesKept)
		for i := range 3 {
			q, ask := s.question(fmt.Sprintf("m%d:1", i+2), time.Now())
			if !ask {
				t.Error("it is not asked")
			}
			close(q.done)
		}
		if n := len(s.byAddress); n != 3 {
			t.Errorf("%d answers are kept", n)
		}
	})
}
