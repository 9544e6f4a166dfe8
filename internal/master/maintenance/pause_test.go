package maintenance

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/master/mastertest"
	"github.com/dkvdb/dkv/internal/testkit"
)

// paused shows which vBuckets are paused.
func paused(c *mastertest.Cluster) (out string) {
	for _, s := range c.States {
		if s.Status().Paused {
			out += "P"
		} else {
			out += "-"
		}
	}
	return out
}

// TestPauseReachesOwners pauses at a node that owns one vBucket of five.
func TestPauseReachesOwners(t *testing.T) {
	c := newCluster(t, 3, 5)
	for v := range 5 {
		c.Own(v, v%3)
	}
	if _, err := c.Nodes[2].Ops.PauseWrites(testkit.Within(t, patience), nil); err != nil || paused(c) != "PPPPP" {
		t.Errorf("%s, %v", paused(c), err)
	}
	_, err := c.Nodes[1].Put(testkit.Within(t, patience), mastertest.PutOf("a", "1"))
	mastertest.WantStatus(t, err, codes.FailedPrecondition, "writes are paused; dkvctl -resumeWrites ends the pause (not applied)")
	if _, err := c.Nodes[0].Ops.ResumeWrites(testkit.Within(t, patience), nil); err != nil || paused(c) != "-----" {
		t.Errorf("%s, %v", paused(c), err)
	}
	mastertest.MustPut(t, c.Nodes[1], "a", "1")
}

// TestPauseChangesVBucketsAtTheSameTime: each waits for an fsync, and a thousand in turn would take
// longer than dkvctl waits.
func TestPauseChangesVBucketsAtTheSameTime(t *testing.T) {
	c := newCluster(t, 3, 5)
	var begun sync.WaitGroup
	begun.Add(5)
	for v := range 5 {
		c.Own(v, 0)
		mastertest.Hook(&c.Nodes[0].Replicas[v].OnServe, func(ctx context.Context) error {
			begun.Done()
			all := make(chan struct{})
			go func() { begun.Wait(); close(all) }()
			select {
			case <-all:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}
	if _, err := c.Nodes[0].Ops.PauseWrites(testkit.Within(t, patience), nil); err != nil || paused(c) != "PPPPP" {
		t.Errorf("%s, %v", paused(c), err)
	}
}

// TestPauseFollowsOwner has a vBucket handed over between the look for its owner
// and the request.
func TestPauseFollowsOwner(t *testing.T) {
	c := newCluster(t, 3, 4)
	c.Own(2, 1)
	c.Own(3, 1)
	mastertest.Hook(&c.Nodes[1].Replicas[3].OnServe, func(context.Context) error {
		c.Own(3, 2)
		return kv.Errorf(kv.NotOwner, "handed over")
	})
	if _, err := c.Nodes[0].Ops.PauseWrites(testkit.Within(t, patience), nil); err != nil || paused(c) != "PPPP" {
		t.Errorf("%s, %v", paused(c), err)
	}
}

// TestPauseIsPartlyDone tells so.
func TestPauseIsPartlyDone(t *testing.T) {
	c := newCluster(t, 2, 3)
	c.Own(1, 1)
	c.Own(2, 1)
	mastertest.Hook(&c.Nodes[1].Replicas[2].OnServe, func(context.Context) error {
		return kv.UnknownOutcome(kv.Internal, errors.New("the disk is gone"))
	})
	_, err := c.Nodes[0].Ops.PauseWrites(testkit.Within(t, patience), nil)
	text := status.Convert(err).Message()
	if status.Code(err) != codes.Internal || mastertest.Reason(err) != kv.ReasonUnknown || !strings.HasPrefix(text, "1 of 3 vBuckets are done, another one failed; repeat the request: 1 of 2 vBuckets are done") || paused(c) != "PP-" {
		t.Errorf("%s, %v, reason %q", paused(c), err, mastertest.Reason(err))
	}
}

// TestPauseMayBePartlyDone has a node lose a vBucket after it has paused another one, and no
// node own it until the caller waits no longer.
func TestPauseMayBePartlyDone(t *testing.T) {
	c := newCluster(t, 2, 2)
	c.Own(0, 1)
	c.Own(1, 1)
	mastertest.Hook(&c.Nodes[1].Replicas[1].OnServe, func(context.Context) error {
		c.Own(1, mastertest.NoOne)
		return kv.Errorf(kv.NotOwner, "handed over")
	})
	_, err := c.Nodes[0].Ops.PauseWrites(testkit.Within(t, 2*time.Second), nil)
	if mastertest.Reason(err) != kv.ReasonUnknown || paused(c) != "P-" {
		t.Errorf("%s, %v, reason %q", paused(c), err, mastertest.Reason(err))
	}
}

// TestPauseWithSeveralErrors: if one vBucket may have been paused, the error does not say that
// nothing was.
func TestPauseWithSeveralErrors(t *testing.T) {
	c := newCluster(t, 2, 3)
	for v, err := range []error{
		kv.Errorf(kv.Exhausted, "no room"),
		kv.UnknownOutcome(kv.Internal, errors.New("the disk is gone")),
		kv.Errorf(kv.Exhausted, "no room"),
	} {
		mastertest.Hook(&c.Nodes[0].Replicas[v].OnServe, func(context.Context) error { return err })
	}
	_, err := c.Nodes[0].Ops.PauseWrites(testkit.Within(t, patience), nil)
	if mastertest.Reason(err) != kv.ReasonUnknown || status.Code(err) != codes.Internal {
		t.Errorf("%v, reason %q", err, mastertest.Reason(err))
	}
}

func TestPauseAndResume(t *testing.T) {
	r := newRig(t)
	r.MustPut("k", "v")
	ctx := t.Context()
	for range 2 { // pausing twice is no error
		if s, err := r.Ops.PauseWrites(ctx, &emptypb.Empty{}); err != nil || s.GetCode() != 0 {
			t.Fatalf("%v, %v", s, err)
		}
	}
	const want = "writes are paused; dkvctl -resumeWrites ends the pause (not applied)"
	key := []byte("k")
	for _, err := range []error{
		second(r.Put(ctx, &serverpb.PutRequest{Key: key})),
		second(r.MultiPut(ctx, &serverpb.MultiPutRequest{PutRequest: []*serverpb.PutRequest{{Key: key}}})),
		second(r.Delete(ctx, &serverpb.DeleteRequest{Key: key})),
		second(r.CompareAndSet(ctx, &serverpb.CompareAndSetRequest{Key: key})),
		second(r.Increment(ctx, &serverpb.IncrementRequest{Key: key})),
	} {
		mastertest.WantStatus(t, err, codes.FailedPrecondition, want)
	}
	r.WantValue("k", "v")
	status, err := r.Ops.GetNodeStatus(ctx, &emptypb.Empty{})
	if err != nil || !status.GetVBuckets()[0].GetWritesPaused() || status.GetVBuckets()[0].GetReason() == "" {
		t.Errorf("%v, %v", status, err)
	}
	if _, err := r.Ops.ResumeWrites(ctx, &emptypb.Empty{}); err != nil {
		t.Fatal(err)
	}
	r.MustPut("k", "w")
	r.WantValue("k", "w")
}
