package maintenance

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// The clocks of all vBuckets are set, each at its owner, or none.
func TestSetClockReachesOwners(t *testing.T) {
	c := newCluster(t, 3, 5)
	for v := range 5 {
		c.Own(v, v%3)
	}
	far := uint64(time.Now().Add(time.Hour).UnixMilli())
	for _, ms := range []uint64{1, far, 1 << 63, ^uint64(0)} {
		if _, err := c.Nodes[2].Ops.SetClock(testkit.Within(t, patience), &serverpb.SetClockRequest{ClockMillis: ms}); err == nil {
			t.Errorf("the clock was set to %d", ms)
		} else {
			if status.Code(err) != codes.InvalidArgument {
				t.Errorf("setting it to %d: %v", ms, err)
			}
		}
	}
	for _, s := range c.States {
		if clock := s.Status().Clock; clock.UnixMilli() != 0 {
			t.Errorf("after a refusal the clock of %s is %v", s.Status().VBucket, clock)
		}
	}
	if _, err := c.Nodes[2].Ops.SetClock(testkit.Within(t, patience), &serverpb.SetClockRequest{}); err != nil {
		t.Fatal(err)
	}
	for _, s := range c.States {
		if clock := s.Status().Clock; time.Since(clock).Abs() > time.Minute {
			t.Errorf("the clock of %s is %v", s.Status().VBucket, clock)
		}
	}
}
