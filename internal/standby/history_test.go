package standby_test

import (
	"testing"

	"github.com/dkvdb/dkv/internal/standby"
)

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
		if got := standby.History(c.era, c.id); got != c.history {
			t.Errorf("History(%d, %q) = %q, want %q", c.era, c.id, got, c.history)
		}
		if got := standby.Era(c.history); got != c.era {
			t.Errorf("Era(%q) = %d, want %d", c.history, got, c.era)
		}
	}
	for _, strange := range []string{"", "-", "1-", "-6f1c", "x-6f1c", "-1-6f1c"} {
		if got := standby.Era(strange); got != 0 {
			t.Errorf("Era(%q) = %d, want 0", strange, got)
		}
	}
}
