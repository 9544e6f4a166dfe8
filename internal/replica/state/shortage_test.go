package state

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/dkvdb/dkv/internal/durable"
)

// A swap that may have lasted is not healed in the process: the state that is open may not be
// the one that a restart opens, and what it acknowledged would be lost.
func TestUncertainSwapIsNoShortage(t *testing.T) {
	full := fmt.Errorf("write: %w", syscall.ENOSPC)
	if Shortage(full) == nil {
		t.Error("a full disk is no shortage")
	}
	for _, err := range []error{
		fmt.Errorf("%w: %w", durable.ErrUncertain, syscall.EMFILE),
		fmt.Errorf("commit: %w; close: %w", fmt.Errorf("%w: sync: %w", durable.ErrUncertain, syscall.EIO), full),
	} {
		if got := Shortage(err); got != nil {
			t.Errorf("%v is taken for %v", err, got)
		}
	}
}
