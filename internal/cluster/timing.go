package cluster

import (
	"errors"
	"fmt"
	"strings"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/timing"
)

// The members' timing is recorded in the log of the first vBucket. A node that is
// configured with another one stops: by what others say before it takes part in the log,
// and by the log once it has applied what a majority committed. Leases do not depend on
// that: a new owner waits for the longest lease that the log allows.

// ErrTiming means that this node is configured with another timing than the cluster.
var ErrTiming = errors.New("this node cannot run with its timing")

// TimingSetting returns the members' timing as the log has recorded it; empty if it has
// not.
func (c *Cluster) TimingSetting() timing.Setting { return c.first().TimingSetting() }

// tellTiming adds the recorded timing to an answer, if this replica serves: before that,
// a newer setting in its own log may not be applied yet.
func (c *Cluster) tellTiming(resp *peerpb.MeetResponse) {
	s := c.TimingSetting()
	if !s.Known() || c.first().Status().State != replica.Serving {
		return
	}
	resp.Timing, resp.NextTiming, resp.TimingChanged = s.Current.Text(), s.Next.Text(), s.Changed
}

// hearTiming keeps the timing that a member reports, if it is newer than what others have
// reported.
func (c *Cluster) hearTiming(resp *peerpb.MeetResponse) {
	s := timing.Setting{Changed: resp.GetTimingChanged()}
	err := errors.Join(s.Current.UnmarshalText([]byte(resp.GetTiming())), s.Next.UnmarshalText([]byte(resp.GetNextTiming())))
	if err != nil {
		c.log.Warn("a member reports a timing that this release does not understand", "error", err)
		return
	}
	for {
		last := c.timing.Load()
		if s.Changed <= last.Changed || c.timing.CompareAndSwap(last, &s) {
			return
		}
	}
}

// judgeTiming returns an error that wraps ErrTiming if this node is configured with a
// timing that members may not run with. Of what others have reported and what the state
// here says, the newer counts. An empty state here counts only if sure, since it may
// lag.
func (c *Cluster) judgeTiming(sure bool) error {
	s := *c.timing.Load()
	if here := c.TimingSetting(); here.Changed > s.Changed && (sure || s.Known()) {
		s = here
	}
	if err := s.Fits(fmt.Sprintf("this node (replica %d at %s)", c.self.Replica, c.self.URL), c.terms.Timing.Current); err != nil {
		return fmt.Errorf("%w: %w", ErrTiming, err)
	}
	return nil
}

// standsAlone reports whether no other member is known, so that this node's log alone
// counts, and the replica serves, so that the log is applied.
func (c *Cluster) standsAlone() bool {
	for id, m := range c.records() {
		if id != c.self.Replica && !c.reserved(id, m) {
			return false
		}
	}
	return c.first().Status().State == replica.Serving
}

// TimingFault says what is left to do while the cluster's timing is being changed, or why
// none is recorded; empty if there is nothing to do.
func (c *Cluster) TimingFault() string {
	s, peers := c.TimingSetting(), c.lastKnown().Peers
	if s.Changing() {
		left := replica.Running(s.Current, peers)
		if len(left) == 0 {
			return fmt.Sprintf("the cluster's timing is being changed from %v to %v", s.Current, s.Next)
		}
		return fmt.Sprintf("the cluster's timing is being changed from %v to %v: restart %s with the new one, one after the other, or end the change (dkvctl -setTiming %v)",
			s.Current, s.Next, strings.Join(left, ", "), s.Current)
	}
	own := c.terms.Timing.Current
	for _, p := range peers {
		if t := p.Member.Timing; !s.Known() && !own.IsZero() && !t.IsZero() && t != own {
			return fmt.Sprintf("members run with different timing (member %s with %v, this node with %v), and none is recorded: give all nodes the same, and restart them one after the other",
				p.Member.Name, t, own)
		}
	}
	return ""
}
