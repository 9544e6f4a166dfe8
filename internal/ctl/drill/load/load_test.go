package load

import (
	"context"
	"fmt"
	"testing"

	"github.com/dkvdb/dkv/clients/go/dkv"
)

func TestFailure(t *testing.T) {
	for want, err := range map[string]error{
		"":                nil,
		"outcome unknown": &dkv.Error{Kind: dkv.ErrUnavailable, OutcomeUnknown: true},
		"unavailable":     &dkv.Error{Kind: dkv.ErrUnavailable},
		"timeout":         fmt.Errorf("a read: %w", context.DeadlineExceeded),
		"other":           fmt.Errorf("a fault of the server"),
	} {
		if got := Failure(err); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}
