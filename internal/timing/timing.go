// Package timing is the timing that the members of a cluster agree on: how long a round
// trip, an election, a heartbeat and a lease are, and how these values are changed while the
// members run. Members with timings that do not fit each other would elect leaders all the
// time, or read under a lease that the next leader does not wait for.
package timing

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Timing says how fast a cluster notices that its leader has failed. It is the same on all
// members, except while it is being changed.
type Timing struct {
	// RTT is the unit of Election and Heartbeat. It is longer than a round trip in the
	// network.
	RTT time.Duration
	// Election is how many RTTs followers wait for a leader before they elect another one.
	// Heartbeat is how many RTTs a leader's heartbeats are apart.
	Election, Heartbeat uint64
	// Lease is how long a leader may answer reads after a majority has last confirmed it,
	// and how long a new leader waits before it serves. It is shorter than an election.
	Lease time.Duration
}

// The presets: LAN for members in one building, WAN for members in several regions.
var (
	LAN = Timing{RTT: 50 * time.Millisecond, Election: 20, Heartbeat: 2, Lease: 400 * time.Millisecond}
	WAN = Timing{RTT: 100 * time.Millisecond, Election: 50, Heartbeat: 5, Lease: 2 * time.Second}
)

// presets are the timings that raft-profile names.
var presets = map[string]Timing{"lan": LAN, "wan": WAN}

// LongestLease is well below the longest lease that an epoch can state.
const LongestLease = time.Hour

// IsZero reports whether t is unknown.
func (t Timing) IsZero() bool { return t == Timing{} }

// ElectionTime returns how long followers wait for a failed leader at least.
func (t Timing) ElectionTime() time.Duration { return t.RTT * time.Duration(t.Election) }

// HeartbeatTime returns the time between two heartbeats of a leader.
func (t Timing) HeartbeatTime() time.Duration { return t.RTT * time.Duration(t.Heartbeat) }

// The configuration's keys, which name the values everywhere.
const (
	keyRTT       = "raft-rtt"
	keyElection  = "raft-election-rtt"
	keyHeartbeat = "raft-heartbeat-rtt"
	keyLease     = "lease-duration"
)

// fields returns t's values by their keys, in order.
func (t Timing) fields() [4][2]string {
	return [4][2]string{
		{keyRTT, t.RTT.String()},
		{keyElection, strconv.FormatUint(t.Election, 10)},
		{keyHeartbeat, strconv.FormatUint(t.Heartbeat, 10)},
		{keyLease, t.Lease.String()},
	}
}

// Text returns all values in the form that Parse reads: raft-rtt=50ms,raft-election-rtt=20,
// and so on. It is empty if t is unknown.
func (t Timing) Text() string {
	if t.IsZero() {
		return ""
	}
	var parts []string
	for _, f := range t.fields() {
		parts = append(parts, f[0]+"="+f[1])
	}
	return strings.Join(parts, ",")
}

// String returns the name of t's preset, or all values if it is none.
func (t Timing) String() string {
	for name, preset := range presets {
		if t == preset {
			return name
		}
	}
	return t.Text()
}

// MarshalText implements encoding.TextMarshaler.
func (t Timing) MarshalText() ([]byte, error) { return []byte(t.Text()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *Timing) UnmarshalText(p []byte) (err error) {
	if len(p) == 0 {
		*t = Timing{}
		return nil
	}
	*t, err = Parse(string(p))
	return err
}

// Parse reads a preset's name, settings separated by commas, or both. Settings change the
// preset before them, or LAN if there is none.
func Parse(s string) (Timing, error) {
	t := LAN
	for i, part := range strings.Split(s, ",") {
		part = strings.TrimSpace(part)
		if preset, is := presets[part]; is && i == 0 {
			t = preset
			continue
		}
		key, value, assigned := strings.Cut(part, "=")
		if !assigned {
			return Timing{}, fmt.Errorf("timing %q: %q is not lan, wan or KEY=VALUE", s, part)
		}
		if err := t.set(key, value); err != nil {
			return Timing{}, fmt.Errorf("timing %q: %w", s, err)
		}
	}
	return t, t.Check()
}

func (t *Timing) set(key, value string) (err error) {
	want := "a duration such as 50ms"
	switch key {
	case keyRTT:
		t.RTT, err = time.ParseDuration(value)
	case keyElection:
		want = "a number up to 65535"
		t.Election, err = strconv.ParseUint(value, 10, 16)
	case keyHeartbeat:
		want = "a number up to 65535"
		t.Heartbeat, err = strconv.ParseUint(value, 10, 16)
	case keyLease:
		t.Lease, err = time.ParseDuration(value)
	default:
		return fmt.Errorf("%q is not one of %s, %s, %s and %s", key, keyRTT, keyElection, keyHeartbeat, keyLease)
	}
	if err != nil {
		return fmt.Errorf("%s: %q is not %s", key, value, want)
	}
	return nil
}

// Check returns an error if no member could run with t.
func (t Timing) Check() error {
	switch {
	case t.RTT < time.Millisecond || t.RTT > time.Hour:
		return fmt.Errorf("%s %v is not between 1ms and 1h", keyRTT, t.RTT)
	case t.Heartbeat == 0 || t.Election <= 2*t.Heartbeat:
		return fmt.Errorf("%s %d would start an election after one late heartbeat: it must be more than twice %s %d", keyElection, t.Election, keyHeartbeat, t.Heartbeat)
	case t.Lease <= 0 || t.Lease > LongestLease:
		return fmt.Errorf("%s %v is not above 0 and up to %v", keyLease, t.Lease, LongestLease)
	case t.Lease >= t.ElectionTime():
		return fmt.Errorf("%s %v is not below the time of an election, %v (%s times %s)", keyLease, t.Lease, t.ElectionTime(), keyRTT, keyElection)
	}
	return nil
}

// Differences names the values in which t differs from want: "raft-rtt is 100ms, not 50ms;
// ...".
func (t Timing) Differences(want Timing) string {
	var out []string
	wanted := want.fields()
	for i, f := range t.fields() {
		if f != wanted[i] {
			out = append(out, fmt.Sprintf("%s is %s, not %s", f[0], f[1], wanted[i][1]))
		}
	}
	return strings.Join(out, "; ")
}

// Mixes returns an error if members with t and members with other cannot be in one cluster,
// as they are while its timing is changed. Each member must hear two heartbeats of a leader
// with the other timing before it starts an election.
func (t Timing) Mixes(other Timing) error {
	for _, pair := range [2][2]Timing{{t, other}, {other, t}} {
		leader, follower := pair[0], pair[1]
		if 2*leader.HeartbeatTime() > follower.ElectionTime() {
			return fmt.Errorf("members with %v would start elections while one with %v leads, whose heartbeats are %v apart and their time of an election %v; "+
				"change it in two steps, by values in between", follower, leader, leader.HeartbeatTime(), follower.ElectionTime())
		}
	}
	return nil
}
