package slave

import (
	"testing"

	"github.com/dkvdb/dkv/internal/kv"
)

// TestWhatWaitsIsAppliedTogether: stretches that arrived while a batch was written become one
// call of the replica, whatever their size, and none is awaited for that.
func TestWhatWaitsIsAppliedTogether(t *testing.T) {
	in := make(chan stretch, pipeline)
	next := func(upTo kv.Index) stretch {
		return stretch{changes: []kv.Change{{Index: upTo}}, upTo: upTo, clock: kv.Clock(upTo), bytes: 4 << 20}
	}
	in <- next(2)
	in <- next(3)
	var f freshness
	got := gather(&f, next(1), in)
	if len(got.changes) != 3 || got.upTo != 3 || got.clock != 3 || got.bytes != 12<<20 || len(in) != 0 {
		t.Errorf("%d changes up to %d at %d, %d bytes; %d stretches still wait", len(got.changes), got.upTo, got.clock, got.bytes, len(in))
	}
	if got := gather(&f, next(4), in); len(got.changes) != 1 || got.upTo != 4 {
		t.Errorf("%d changes up to %d, when nothing waits", len(got.changes), got.upTo)
	}
}
