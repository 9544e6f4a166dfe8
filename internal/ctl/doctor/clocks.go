package doctor

import (
	"fmt"
	"time"

	"github.com/dkvdb/dkv/internal/ctl/observe"
)

func clockChecks() []Check {
	return []Check{
		{ID: "clock-service", Title: "a time service keeps the hosts' clocks", find: unsynchronized, Needs: Report,
			Why: "the clock drifts unnoticed; keys expire by a majority of the masters' clocks, certificates by each"},
		{ID: "clock-skew", Title: "the hosts' clocks agree", find: skew, Needs: Report,
			Why: "keys expire early or late, and a node whose clock is far off is not believed by the others"},
		{ID: "clock-step", Title: "no clock has stepped", find: stepped, Needs: Metrics,
			Why: "the node goes by a time of its own until the difference is gone, and expiry with it"},
		{ID: "log-clock", Title: "the log's clock is not ahead", find: logClock, Why: "keys with a TTL expire too early until the hosts' clocks have come up with it"},
	}
}

// skewAllowed is how far apart two clocks may be.
const skewAllowed = 500 * time.Millisecond

func unsynchronized(p *patient) []Finding {
	return each(p.reported(), func(n *observe.Node) *Finding {
		if is := n.Report.Host.ClockSynchronized; is == nil || *is {
			return nil
		}
		return &Finding{Severity: Warning, What: "the kernel says that nothing synchronises the clock",
			Mend: "on its host: timedatectl set-ntp true, or start chronyd; chronyc tracking shows when it follows"}
	})
}

// skew compares each node's clock with that of the node in the middle, so that this machine's
// clock does not matter.
func skew(p *patient) []Finding {
	nodes := p.reported()
	if len(nodes) < 2 {
		return nil
	}
	middle := middleOf(nodes)
	return each(nodes, func(n *observe.Node) *Finding {
		ahead := n.Ahead - middle.Ahead
		if ahead.Abs() < skewAllowed+(n.Within+middle.Within)/2 {
			return nil
		}
		direction := "ahead of"
		if ahead < 0 {
			direction = "behind"
		}
		return &Finding{Severity: Problem, What: fmt.Sprintf("its clock is %s %s the others'", ahead.Abs().Round(10*time.Millisecond), direction),
			Mend: "set the clock of its host right, slowly if the time service can (chronyc makestep steps it); dkvctl -status shows whether the node serves"}
	})
}

// middleOf returns a node with as many clocks ahead of its own as behind it.
func middleOf(nodes []*observe.Node) *observe.Node {
	for _, n := range nodes {
		behind, ahead := 0, 0
		for _, o := range nodes {
			switch {
			case o.Ahead < n.Ahead:
				behind++
			case o.Ahead > n.Ahead:
				ahead++
			}
		}
		if behind <= len(nodes)/2 && ahead <= len(nodes)/2 {
			return n
		}
	}
	return nodes[0]
}

func stepped(p *patient) []Finding {
	return each(p.live(), func(n *observe.Node) *Finding {
		damped, _ := n.Metrics.Greatest("dkv_clock_damped_seconds", "")
		d := time.Duration(damped * float64(time.Second))
		if d.Abs() < time.Second {
			return nil
		}
		return &Finding{Severity: Warning, What: fmt.Sprintf("its wall clock is %s away from the time that it goes by", d.Round(100*time.Millisecond)),
			Mend: fmt.Sprintf("if the host's clock is wrong, set it right; if it is right: dkvctl -a %s -resetClock", n.Address)}
	})
}

// logClockAllowed is how far the log's clock may be ahead: clocks go on while nodes are asked.
const logClockAllowed = 10 * time.Second

func logClock(p *patient) []Finding {
	return each(p.data(), func(n *observe.Node) *Finding {
		if n.Report == nil {
			return nil
		}
		for _, v := range n.Status.GetVBuckets() {
			ahead := time.UnixMilli(int64(v.GetClockMillis())).Sub(n.Report.Host.Time)
			if v.GetIsLeader() && v.GetClockMillis() > 0 && ahead > logClockAllowed {
				return &Finding{Severity: Problem, What: fmt.Sprintf("the clock of the log of vBucket %s is %s ahead of the host's", v.GetVBucket(), ahead.Round(time.Second)),
					Mend: fmt.Sprintf("make sure that the masters' clocks are right, then dkvctl -a %s -resetClock", n.Address)}
			}
		}
		return nil
	})
}
