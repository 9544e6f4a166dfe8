package timing

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	_ "github.com/dkvdb/dkv/internal/testkit/seed" // draws the same values in every run
)

func TestParse(t *testing.T) {
	short := LAN
	short.Lease = 300 * time.Millisecond
	for text, want := range map[string]Timing{
		"lan":                      LAN,
		"wan":                      WAN,
		"lan,lease-duration=300ms": short,
		"lease-duration=300ms":     short,
		" wan , raft-rtt=50ms, raft-election-rtt=20,raft-heartbeat-rtt=2,lease-duration=0.3s": short,
	} {
		if got, err := Parse(text); err != nil || got != want {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
	for text, word := range map[string]string{
		"":                        "is not lan, wan or KEY=VALUE",
		"mars":                    "is not lan, wan or KEY=VALUE",
		"raft-rtt=1s,wan":         "is not lan, wan or KEY=VALUE",
		"rtt=1s":                  `"rtt" is not one of raft-rtt`,
		"raft-rtt=50":             `"50" is not a duration such as 50ms`,
		"raft-rtt=0s":             "raft-rtt 0s is not between",
		"raft-election-rtt=-1":    `"-1" is not a number up to 65535`,
		"raft-election-rtt=4":     "more than twice raft-heartbeat-rtt 2",
		"raft-heartbeat-rtt=0":    "more than twice raft-heartbeat-rtt 0",
		"lease-duration=0s":       "lease-duration 0s is not above 0",
		"wan,lease-duration=5s":   "not below the time of an election, 5s",
		"wan,lease-duration=999h": "not above 0 and up to",
	} {
		if got, err := Parse(text); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%q is %v, %v; want %s", text, got, err, word)
		}
	}
}

// What is written in one place is read as the same in every other.
func TestTextIsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) Timing {
			heartbeat := rapid.Uint64Range(1, 100).Draw(t, name+" heartbeat")
			x := Timing{
				RTT:      time.Duration(rapid.Int64Range(int64(time.Millisecond), int64(time.Minute)).Draw(t, name+" rtt")),
				Election: rapid.Uint64Range(2*heartbeat+1, 10000).Draw(t, name+" election"), Heartbeat: heartbeat,
			}
			x.Lease = time.Duration(rapid.Int64Range(1, int64(min(x.ElectionTime()-1, LongestLease))).Draw(t, name+" lease"))
			return x
		}
		s := Setting{Current: draw("current"), Changed: rapid.Uint64Min(1).Draw(t, "changed")}
		if rapid.Bool().Draw(t, "changing") {
			s.Next = draw("next")
		}
		if got, err := ParseRecord(s.Record(), s.Changed); err != nil || got != s {
			t.Fatalf("read %+v, %v; want %+v", got, err, s)
		}
		for _, x := range []Timing{s.Current, s.Next, LAN, WAN} {
			raw, err := json.Marshal(x)
			var got Timing
			if err == nil {
				err = json.Unmarshal(raw, &got)
			}
			if err != nil || got != x {
				t.Fatalf("read %v, %v; want %v", got, err, x)
			}
		}
	})
	for _, bad := range []string{"", "lan", "lan\nmars", "mars\nlan"} {
		if s, err := ParseRecord([]byte(bad), 1); err == nil {
			t.Errorf("%q is read as %+v", bad, s)
		}
	}
}

// The presets can be changed into each other. What would have the one's members start
// elections under the other's leader cannot.
func TestMixes(t *testing.T) {
	if err := LAN.Mixes(WAN); err != nil {
		t.Error(err)
	}
	slow := Timing{RTT: time.Second, Election: 10, Heartbeat: 1, Lease: time.Second}
	for _, pair := range [][2]Timing{{LAN, slow}, {slow, LAN}} {
		if err := pair[0].Mixes(pair[1]); err == nil || !strings.Contains(err.Error(), "in two steps") {
			t.Errorf("%v and %v: %v", pair[0], pair[1], err)
		}
	}
}
