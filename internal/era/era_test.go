package era_test

import (
	"testing"

	"github.com/dkvdb/dkv/internal/era"
)

// A promotion in between is no lag.
func TestDistanceLeavesOutGaps(t *testing.T) {
	for _, c := range []struct{ from, to, want uint64 }{
		{5, 5, 0}, {7, 5, 0}, {5, 7, 2}, {0, era.Gap - 1, era.Gap - 1},
		{5, 5 + era.Gap, 0}, {5, 9 + era.Gap, 4}, {5, 9 + 3*era.Gap, 4}, {era.Gap + 5, era.Gap + 6, 1},
	} {
		if got := era.Distance(c.from, c.to); got != c.want {
			t.Errorf("from %d to %d: %d, want %d", c.from, c.to, got, c.want)
		}
	}
}

func TestEraIsInTheHistory(t *testing.T) {
	for _, c := range []struct {
		era     uint64
		id      string
		history string
	}{
		{0, "6f1c", "6f1c"},
		{1, "6f1c", "1-6f1c"},
		{70_000, "6f1c", "70000-6f1c"},
	} {
		if got := era.History(c.era, c.id); got != c.history {
			t.Errorf("History(%d, %q) = %q, want %q", c.era, c.id, got, c.history)
		}
		if got := era.Of(c.history); got != c.era {
			t.Errorf("Era(%q) = %d, want %d", c.history, got, c.era)
		}
		if next := era.Restored(t.Context(), c.history); next == c.history || era.Of(next) != c.era || era.WholeRestore(next) != "" {
			t.Errorf("Restored(%q) = %q", c.history, next)
		}
		whole, id := era.RestoreWhole(t.Context())
		if next := era.Restored(whole, c.history); era.Of(next) != c.era || id == "" || era.WholeRestore(next) != id || era.Restored(whole, next) != next {
			t.Errorf("Restored(%q) = %q in a restore %q", c.history, next, id)
		}
	}
	for _, strange := range []string{"", "-", "1-", "-6f1c", "x-6f1c", "-1-6f1c"} {
		if got := era.Of(strange); got != 0 {
			t.Errorf("Era(%q) = %d, want 0", strange, got)
		}
	}
}
