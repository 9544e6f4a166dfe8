package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dkvdb/dkv/internal/clock"
	"github.com/dkvdb/dkv/internal/cluster"
)

// Clock reports the clocks that a node goes by.
type Clock struct {
	clock        *clock.Clock
	members      func() []cluster.MemberClock
	skew, damped *prometheus.Desc
}

// NewClock makes the collector. members are the clocks of the cluster's members.
func NewClock(database string, c *clock.Clock, members func() []cluster.MemberClock) *Clock {
	return &Clock{
		clock:   c,
		members: members,
		skew:    prometheus.NewDesc("dkv_clock_skew_seconds", "By how much the wall clock of another member is ahead of this node's.", []string{"peer"}, Constant(database)),
		damped:  prometheus.NewDesc("dkv_clock_damped_seconds", "By how much this node's wall clock is ahead of the time that it goes by; negative if it is behind.", nil, Constant(database)),
	}
}

// Describe implements prometheus.Collector.
func (c *Clock) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.damped
	ch <- c.skew
}

// Collect implements prometheus.Collector.
func (c *Clock) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(c.damped, Gauge, c.clock.Damped().Seconds())
	for _, m := range c.members() {
		if !m.Self {
			ch <- prometheus.MustNewConstMetric(c.skew, Gauge, m.Skew.Seconds(), m.Name())
		}
	}
}
