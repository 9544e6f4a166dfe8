package master

import (
	"context"
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/testkit"
)

// paused lists which vBuckets are.
func (c *trial) paused() (out string) {
	for _, s := range c.states {
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
	c := newTrial(t, 3, 5)
	for v := range 5 {
		c.own(v, v%3)
	}
	if _, err := c.nodes[2].ops.PauseWrites(testkit.Within(t, patience), nil); err != nil || c.paused() != "PPPPP" {
		t.Errorf("%s, %v", c.paused(), err)
	}
	_, err := c.nodes[1].Put(testkit.Within(t, patience), putOf("a", "1"))
	wantStatus(t, err, codes.FailedPrecondition, "writes are paused; dkvctl -resumeWrites ends the pause (not applied)")
	if _, err := c.nodes[0].ops.ResumeWrites(testkit.Within(t, patience), nil); err != nil || c.paused() != "-----" {
		t.Errorf("%s, %v", c.paused(), err)
	}
	mustPut(t, c.nodes[1], "a", "1")
}

// TestPauseFollowsOwner has a vBucket handed over between the look for its owner
// and the request.
func TestPauseFollowsOwner(t *testing.T) {
	c := newTrial(t, 3, 4)
	c.own(2, 1)
	c.own(3, 1)
	hook(&c.nodes[1].replicas[3].onServe, func(context.Context) error {
		c.own(3, 2)
		return kv.Errorf(kv.NotOwner, "handed over")
	})
	if _, err := c.nodes[0].ops.PauseWrites(testkit.Within(t, patience), nil); err != nil || c.paused() != "PPPP" {
		t.Errorf("%s, %v", c.paused(), err)
	}
}

// TestPauseIsPartlyDone tells so.
func TestPauseIsPartlyDone(t *testing.T) {
	c := newTrial(t, 2, 3)
	c.own(1, 1)
	c.own(2, 1)
	hook(&c.nodes[1].replicas[2].onServe, func(context.Context) error {
		return kv.UnknownOutcome(kv.Internal, errors.New("the disk is gone"))
	})
	_, err := c.nodes[0].ops.PauseWrites(testkit.Within(t, patience), nil)
	text := status.Convert(err).Message()
	if status.Code(err) != codes.Internal || reason(err) != kv.ReasonUnknown || !strings.HasPrefix(text, "1 of 3 vBuckets are done, the next failed; repeat the request: 1 of 2 vBuckets are done") || c.paused() != "PP-" {
		t.Errorf("%s, %v, reason %q", c.paused(), err, reason(err))
	}
}
