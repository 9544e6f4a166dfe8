package timing

import (
	"fmt"
	"strings"
)

// Setting is the timing that a cluster has recorded in its log.
type Setting struct {
	// Current is what members run with; zero while nothing is recorded.
	Current Timing
	// Next is what they may run with, too, while the timing is being changed: zero for
	// none. It becomes the current one when all members run with it.
	Next Timing
	// Changed is the index of the setting's last change; of two settings of a cluster
	// that with the greater one is newer.
	Changed uint64
}

// Known reports whether anything is recorded.
func (s Setting) Known() bool { return !s.Current.IsZero() }

// Changing reports whether a change is open.
func (s Setting) Changing() bool { return !s.Next.IsZero() }

// Allowed are the timings that a member may run with; empty while nothing is recorded.
func (s Setting) Allowed() []Timing {
	switch {
	case !s.Known():
		return nil
	case s.Changing():
		return []Timing{s.Current, s.Next}
	}
	return []Timing{s.Current}
}

// Fits returns an error unless a member may run with a timing, which says in what they
// differ and what to do. Who is the member, as in "this node".
func (s Setting) Fits(who string, t Timing) error {
	if t.IsZero() {
		return nil // of a release that does not tell
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
		change = "the cluster is being changed from " + s.Current.String() + " to " + s.Next.String() + ", which has to end before it is changed to something else"
	}
	return fmt.Errorf("%s has another timing than the cluster: %s. Give it the cluster's raft-profile, raft-rtt, raft-election-rtt, raft-heartbeat-rtt and lease-duration; %s",
		who, strings.Join(differ, "; and of the next timing: "), change)
}

// Record is how the setting stands in the log, without Changed.
func (s Setting) Record() []byte { return []byte(s.Current.Text() + "\n" + s.Next.Text()) }

// ParseRecord parses what Record wrote.
func ParseRecord(p []byte, changed uint64) (Setting, error) {
	current, next, ok := strings.Cut(string(p), "\n")
	s := Setting{Changed: changed}
	if !ok {
		return s, fmt.Errorf("timing record %.256q: one line", p)
	}
	if err := s.Current.UnmarshalText([]byte(current)); err != nil {
		return s, err
	}
	return s, s.Next.UnmarshalText([]byte(next))
}
