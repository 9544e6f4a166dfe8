package suggest

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	_ "github.com/dkvdb/dkv/internal/testkit/seed" // draws the same values in every run
)

func TestNearest(t *testing.T) {
	known := []string{
		"role", "listen-addr", "http-listen-addr", "db-folder", "root-folder", "get", "set", "mset", "addNode",
		"discovery-service.client.push-status-interval", "discovery-service.server.status-ttl", "nexus-cluster-name", "nexus-cluster-url",
	}
	tests := []struct{ word, want string }{
		{"rol", "role"},
		{"role", "role"},
		{"ROLE", "role"},
		{"rloe", "role"},
		{"listen-adr", "listen-addr"},
		{"listen_addr", "listen-addr"},
		{"http-listen-address", "http-listen-addr"},
		{"addnode", "addNode"},
		{"sett", "set"},
		{"gte", "get"},
		{"bet", "get"},
		{"status-ttl", "discovery-service.server.status-ttl"},
		{"push-status-interval", "discovery-service.client.push-status-interval"},
		{"nexus", "nexus-cluster-url"},
		{"folder", "db-folder"},
		{"xyzzy", ""},
		{"zz", ""},
		{"", ""},
		{strings.Repeat("role", 100), ""},
	}
	for _, tt := range tests {
		if got := Nearest(tt.word, known); got != tt.want {
			t.Errorf("Nearest(%q) = %q, want %q", tt.word, got, tt.want)
		}
	}
	if got := Nearest("role", nil); got != "" {
		t.Errorf("Nearest among nothing = %q, want none", got)
	}
	if got := Nearest("x", []string{strings.Repeat("x", maxWord+1)}); got != "" {
		t.Errorf("Nearest among overlong names = %q, want none", got)
	}
}

func TestDistance(t *testing.T) {
	tests := []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"", "abc", 3},
		{"abc", "", 3},
		{"abc", "abc", 0},
		{"abc", "abd", 1},
		{"abc", "ab", 1},
		{"abc", "acb", 1},
		{"kitten", "sitting", 3},
		{"ca", "abc", 3}, // restricted: the swapped pair is not edited again
	}
	for _, tt := range tests {
		if got := distance(tt.a, tt.b); got != tt.want {
			t.Errorf("distance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

func TestDistanceIsSymmetricAndBounded(t *testing.T) {
	word := rapid.StringMatching(`[ab-]{0,12}`)
	rapid.Check(t, func(t *rapid.T) {
		a, b := word.Draw(t, "a"), word.Draw(t, "b")
		d := distance(a, b)
		if back := distance(b, a); back != d {
			t.Fatalf("distance(%q, %q) = %d, but %d the other way round", a, b, d, back)
		}
		if d > max(len(a), len(b)) || d < max(len(a), len(b))-min(len(a), len(b)) {
			t.Fatalf("distance(%q, %q) = %d is out of bounds", a, b, d)
		}
		if (d == 0) != (a == b) {
			t.Fatalf("distance(%q, %q) = %d", a, b, d)
		}
	})
}

func TestOneTypingSlipIsAlwaysFound(t *testing.T) {
	const name = "discovery-service.server.heartbeat-timeout"
	rapid.Check(t, func(t *rapid.T) {
		at := rapid.IntRange(0, len(name)-1).Draw(t, "at")
		slip := rapid.SampledFrom([]string{
			name[:at] + name[at+1:],
			name[:at] + "x" + name[at:],
			name[:at] + "x" + name[at+1:],
		}).Draw(t, "slip")
		if got := Nearest(slip, []string{"role", name, "db-folder"}); got != name {
			t.Fatalf("Nearest(%q) = %q", slip, got)
		}
	})
}
