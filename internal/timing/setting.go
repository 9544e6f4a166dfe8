package timing

import (
	"fmt"
	"strings"
)

// Setting is the timing that a cluster has recorded in its log.
type Setting struct {
	// Current is the timing that members run with. It is zero while none is recorded.
	Current Timing
	// Next is the timing that members may also run with while it is being changed, and zero
	// otherwise. It becomes the current one when all members run with it.
	Next Timing
	// Changed is the index of the setting's last change. Of two settings of a cluster, the
	// one with the greater index is newer.
	Changed uint64
}

// Known reports whether a timing is recorded.
func (s Setting) Known() bool { return !s.Current.IsZero() }

// Changing reports whether the timing is being changed.
func (s Setting) Changing() bool { return !s.Next.IsZero() }

// Allowed returns the timings that a member may run with. It is empty while none is
// recorded.
func (s Setting) Allowed() []Timing {
	switch {
	case !s.Known():
		return nil
	case s.Changing():
		return []Timing{s.Current, s.Next}
	}
	return []Timing{s.Current}
}

// Fits returns an error unless a member may run with t. It says how the timings differ and
// what to do. who names the member, as in "this node".
func (s Setting) Fits(who string, t Timing) error {
	if t.IsZero() {
		return nil // the member's release does not say
	}
	var differ []string
	for _, allowed := range s.Allowed() {
		if t == allowed {
			return nil
		}
		differ = append(differ, t.Differences(allowed))
	}
	if len(differ) == 0 {
		return nil
	}
	change := "to change the cluster's, first run dkvctl -setTiming " + t.String() + " on a member, then restart the members one after the other"
	if s.Changing() {
		change = "the cluster is being changed from " + s.Current.String() + " to " + s.Next.String() + ", which has to end before it can be changed again"
	}
	return fmt.Errorf("%s has another timing than the cluster: %s. Give it the cluster's raft-profile, raft-rtt, raft-election-rtt, raft-heartbeat-rtt and lease-duration; %s",
		who, strings.Join(differ, "; and of the next timing: "), change)
}

// Record returns the setting as the log records it, without Changed.
func (s Setting) Record() []byte { return []byte(s.Current.Text() + "\n" + s.Next.Text()) }

// ParseRecord parses what Record wrote.
func ParseRecord(p []byte, changed uint64) (Setting, error) {
	current, next, ok := strings.Cut(string(p), "\n")
	s := Setting{Changed: changed}
	if !ok {
		return s, fmt.Errorf("timing record %.256q: it has one line instead of two", p)
	}
	if err := s.Current.UnmarshalText([]byte(current)); err != nil {
		return s, err
	}
	return s, s.Next.UnmarshalText([]byte(next))
}
