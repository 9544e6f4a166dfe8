package slave

import (
	"context"
	"errors"
	"testing"
)

// The watchdog may end a stream at the moment in which a message arrives, and nothing more is
// received then: the session must not go on without its stream.
func TestMessageAtTheEndOfPatienceEndsTheSession(t *testing.T) {
	ctx, end := context.WithCancelCause(t.Context())
	w := newWatchdog(minPatience, minPatience, end)
	defer w.stop()
	end(errSilent)
	if passed, err := w.pass(ctx, stretch{}, nil); passed || !errors.Is(err, errSilent) {
		t.Errorf("the stream of a silent master ends with %v", err)
	}
}

// A session that ends by itself has no error of its stream.
func TestStreamOfAnEndedSessionHasNoError(t *testing.T) {
	outer, leave := context.WithCancel(t.Context())
	ctx, end := context.WithCancelCause(outer)
	w := newWatchdog(minPatience, minPatience, end)
	defer w.stop()
	leave()
	if passed, err := w.pass(ctx, stretch{}, nil); passed || err != nil {
		t.Error(passed, err)
	}
}
