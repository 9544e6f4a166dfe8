package cluster

import (
	"errors"
	"fmt"
	"strings"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/timing"
)

// The members' timing stands in the log of the first vBucket. A node that is configured
// with another one is refused: by the others' word before it takes part in the log, and
// by the log as soon as a majority has told this node how it goes on. Leases do not
// depend on that: a new owner waits for the longest that the log states.

// ErrTiming means that this node is configured with another timing than the cluster.
var ErrTiming = errors.New("this node cannot run with its timing")

// TimingSetting is what is known here of the members' timing: what the log has recorded,
// or, where it has not, nothing.
func (c *Cluster) TimingSetting() timing.Setting { return c.first().TimingSetting() }

// tellTiming adds what the log has recorded to an answer. A replica that does not serve
// yet may still have to apply a newer setting that its own log knows of.
func (c *Cluster) tellTiming(resp *peerpb.MeetResponse) {
	s := c.TimingSetting()
	if !s.Known() || c.first().Status().State != replica.Serving {
		return
	}
	resp.Timing, resp.NextTiming, resp.TimingChanged = s.Current.Text(), s.Next.Text(), s.Changed
}

// hearTiming notes what a member tells of the timing, if that is newer than what others
// have told.
func (c *Cluster) hearTiming(resp *peerpb.MeetResponse) {
	s := timing.Setting{Changed: resp.GetTimingChanged()}
	err := errors.Join(s.Current.UnmarshalText([]byte(resp.GetTiming())), s.Next.UnmarshalText([]byte(resp.GetNextTiming())))
	if err != nil {
		c.log.Warn("a member tells of a timing that is not understood here", "error", err)
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
// timing that members may not run with. The state here counts beside what others have
// told, or alone if it is sure to be the newest: it may have been left behind while the
// timing was changed.
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

// standsAlone reports whether no other member is known: what this node's own log decided
// is all that there is, and is applied once the replica serves.
func (c *Cluster) standsAlone() bool {
	return len(c.records()) <= 1 && c.first().Status().State == replica.Serving
}

// TimingFault says what is left to do while the cluster's timing is being changed, or why
// none is recorded; empty where there is nothing.
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
