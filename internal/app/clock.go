package app

import (
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dkvdb/dkv/internal/clock"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/ops"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/lease"
	"github.com/dkvdb/dkv/internal/slave"
)

// newClock makes what the node takes for the time. A slave goes by its master's.
func (n *node) newClock() *clock.Clock {
	opts := clock.Options{
		MaxJump: n.cfg.Ops.MaxClockJump,
		Member:  n.cfg.InRaft(),
		Elapsed: lease.SystemClock{}.Now,
		Log:     n.log,
	}
	if n.cfg.Role == config.RoleSlave {
		return slave.NewClock(opts)
	}
	return clock.New(opts)
}

const (
	// clockSlack is how far clocks may be beyond max-clock-jump before a node says
	// that it is not well: what is read of them is a moment old.
	clockSlack = time.Second
	// clockPatience is how long a start may take until enough clocks are known.
	clockPatience = 15 * time.Second
)

// clockFaults says what is wrong with the clocks that this node goes by.
func (n *node) clockFaults() []string {
	var out []string
	own := false
	if n.cluster != nil {
		for _, m := range n.cluster.Clocks() {
			if fault := m.Fault(); fault != "" {
				out, own = append(out, fault), own || m.Self
			}
		}
		if !n.clock.Known() && time.Since(n.info.Started) > clockPatience {
			out = append(out, "the clocks of a majority of the members are not known: the time goes on from the log's clock")
		}
	}
	most := n.clock.MaxJump() + clockSlack
	if ahead := n.clock.Damped(); !own && len(out) == 0 && ahead > most {
		out = append(out, fmt.Sprintf("this node's wall clock is %s ahead of the time that it goes by, which follows slowly; "+
			"if it is wrong, set it right; if it is right, dkvctl -resetClock accepts it", ahead.Round(time.Second)))
	}
	return out
}

// logClockFault says that a log's clock is ahead of the time; empty where it is not.
func (n *node) logClockFault(s *replica.Status) string {
	now, known := n.clock.Majority()
	if ahead := s.Clock.Sub(now); known && s.Mode != replica.ModeStream && ahead > n.clock.MaxJump()+clockSlack {
		return fmt.Sprintf("the log's clock is %s ahead of the machines': keys expire too early; if the machines' clocks are right, dkvctl -resetClock sets it back",
			ahead.Round(time.Second))
	}
	return ""
}

// addClocks adds what is wrong with clocks to the document.
func (n *node) addClocks(h *ops.Health) {
	if faults := n.clockFaults(); len(faults) > 0 {
		h.Status, h.Reasons = worse(h.Status), append(h.Reasons, strings.Join(faults, "; "))
	}
}

// clockCollector reports the clocks, read at each scrape.
type clockCollector struct {
	node         *node
	skew, damped *prometheus.Desc
}

func newClockCollector(n *node) *clockCollector {
	constant := prometheus.Labels{"database": n.info.Database}
	return &clockCollector{
		node:   n,
		skew:   prometheus.NewDesc("dkv_clock_skew_seconds", "By how much the wall clock of another member is ahead of this node's.", []string{"peer"}, constant),
		damped: prometheus.NewDesc("dkv_clock_damped_seconds", "By how much this node's wall clock is ahead of the time that it goes by; negative where it is behind.", nil, constant),
	}
}

// Describe implements prometheus.Collector.
func (c *clockCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.damped
	if c.node.cluster != nil {
		ch <- c.skew
	}
}

// Collect implements prometheus.Collector.
func (c *clockCollector) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(c.damped, gauge, c.node.clock.Damped().Seconds())
	if c.node.cluster == nil {
		return
	}
	for _, m := range c.node.cluster.Clocks() {
		if !m.Self {
			ch <- prometheus.MustNewConstMetric(c.skew, gauge, m.Skew.Seconds(), m.Name())
		}
	}
}
