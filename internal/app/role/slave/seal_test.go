package slave

import (
	"context"
	"testing"

	"github.com/dkvdb/dkv/internal/kv"
)

// TestSealsWaitForEachOther: a seal that fails undoes what it has sealed, which another one must not
// count on; one that waits for the disk holds up the next only as long as that is awaited.
func TestSealsWaitForEachOther(t *testing.T) {
	s := &Slave{sealing: make(chan struct{}, 1)}
	end, err := s.beginSealing(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range map[string]func(context.Context, string) error{"Seal": s.Seal, "Unseal": s.Unseal} {
		if err := call(ctx, "p1"); kv.KindOf(err) != kv.Unavailable || kv.OutcomeOf(err) != kv.NotApplied {
			t.Errorf("%s beside another one: %v", name, err)
		}
	}
	end()
	for name, call := range map[string]func(context.Context, string) error{"Seal": s.Seal, "Unseal": s.Unseal} {
		if err := call(t.Context(), "p1"); err != nil {
			t.Errorf("%s after the other one: %v", name, err)
		}
	}
}
