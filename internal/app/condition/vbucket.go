package condition

import (
	"fmt"
	"strconv"
	"time"

	"github.com/dkvdb/dkv/internal/clock"
	"github.com/dkvdb/dkv/internal/ops"
	"github.com/dkvdb/dkv/internal/replica"
)

// VBucket is the condition of one vBucket.
type VBucket struct {
	Fitness
	Name string
	// Replica is what the vBucket was judged by.
	Replica replica.Status
	// Leader is the address of the node that accepts writes, LeaderID its id; both are
	// empty while that is unknown, and on a node that was removed.
	Leader, LeaderID string
	// Unreadable is why nothing can be read; nil if something can.
	Unreadable error
	Health     ops.Status
	// Reasons are why Health is not healthy, a sentence each.
	Reasons []string
}

// Self is how this node is known to others.
type Self struct{ ID, Address string }

// judgeVBucket judges a vBucket by the status of its replica.
func judgeVBucket(name string, f Fitness, s replica.Status, self Self, clk *clock.Clock) VBucket {
	v := VBucket{Fitness: f, Name: name, Replica: s, Health: ops.Healthy}
	v.Leader, v.LeaderID = leaderOf(&s, self)
	if !f.Readable {
		if v.Unreadable = s.Unreadable; v.Unreadable == nil {
			v.Unreadable = fmt.Errorf("vBucket %s is %s", name, s.State)
		}
	}
	if s.State == replica.Removed {
		v.Health = ops.Unhealthy // the node has the reason
		return v
	}
	v.judgeWrites()
	v.worsen(ops.Degraded, logClockFault(&s, clk))
	if s.Corruption != nil {
		v.worsen(ops.Degraded, s.Corruption.Error()+"; restore a backup")
	}
	switch {
	case s.Unreadable != nil:
		v.worsen(ops.Unhealthy, "nothing can be read: "+s.Unreadable.Error())
	case !f.Readable:
		v.worsen(ops.Unhealthy, v.Unreadable.Error())
	case s.State == replica.Failed && s.Mode != replica.ModeLocal: // other nodes can serve
		v.worsen(ops.Unhealthy, s.ReadOnly)
	}
	return v
}

// judgeWrites judges whether the state can follow its log and accept writes. That a copy
// accepts none is its nature.
func (v *VBucket) judgeWrites() {
	if err := v.Replica.Behind; err != nil {
		v.worsen(ops.Degraded, err.Error())
	}
	v.worsen(ops.Degraded, v.Rejection())
}

// Rejection is why mutations are rejected here at present; empty if they are not, and on a copy,
// which never accepts any.
func (v *VBucket) Rejection() string {
	if v.Replica.Mode == replica.ModeStream {
		return ""
	}
	return v.Replica.ReadOnly
}

// worsen adds a reason not to be healthy; an empty one is none.
func (v *VBucket) worsen(to ops.Status, reason string) {
	if reason != "" {
		v.Health = worst(v.Health, to)
		v.Reasons = append(v.Reasons, reason)
	}
}

// worst is the worse of two conditions.
func worst(a, b ops.Status) ops.Status {
	for _, s := range []ops.Status{ops.Unhealthy, ops.Degraded} {
		if a == s || b == s {
			return s
		}
	}
	return ops.Healthy
}

// leaderOf is the address and the id of the node that accepts writes. A node that was
// removed answers requests itself and leads nothing.
func leaderOf(s *replica.Status, self Self) (address, id string) {
	switch {
	case s.State == replica.Removed:
		return "", ""
	case s.Owner.Self:
		return self.Address, self.ID
	case s.Owner.ID == 0:
		return s.Owner.Address, ""
	default:
		return s.Owner.Address, strconv.FormatUint(s.Owner.ID, 10)
	}
}

// clockSlack is how far clocks may be beyond max-clock-jump before that is a fault: what
// is read of them is a moment old.
const clockSlack = time.Second

// logClockFault is the fault that a log's clock is ahead of the time; empty for none. A
// copy goes by the clock of its master.
func logClockFault(s *replica.Status, clk *clock.Clock) string {
	now, known := clk.Majority()
	ahead := s.Clock.Sub(now)
	if !known || s.Mode == replica.ModeStream || ahead <= clk.MaxJump()+clockSlack {
		return ""
	}
	return fmt.Sprintf("the log's clock is %s ahead of the machines': keys expire too early; if the machines' clocks are right, dkvctl -resetClock sets it back",
		ahead.Round(time.Second))
}
