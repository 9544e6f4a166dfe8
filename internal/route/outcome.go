package route

import (
	"context"
	"errors"
	"fmt"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
)

// WithOutcome appends the outcome to the text of an error, so that its reader can decide
// whether to retry.
func WithOutcome(err error) error { return fmt.Errorf("%w (%s)", err, kv.OutcomeOf(err)) }

// gaveUp is the error for a caller that waits no longer. last is that of the last attempt.
func (c Call) gaveUp(ctx context.Context, last error) error {
	var known *kv.Error
	if !errors.As(last, &known) {
		return c.Explain(last)
	}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, context.Canceled):
		return c.Explain(kv.Errorf(kv.Unavailable, "the caller did not wait for the owner: %w", cause))
	case (known.Kind == kv.NotOwner || errors.Is(last, kv.ErrRemoved)) && peer.Answered(last):
		return c.Explain(kv.Errorf(kv.Unavailable, "the node that was asked as the owner no longer owns the log, which is moving to another node; retry later"))
	case known.Outcome == kv.Unknown, peer.Answered(last):
		return c.Explain(last)
	default: // it was not sent to any node; the deadline is not the reason
		return c.Explain(kv.Errorf(kv.Unavailable, "no owner served the request in time: %v; retry later", known))
	}
}

// Explain adds the outcome to the text of a mutation's error if the text does not say it
// already. A read has no outcome.
func (c Call) Explain(err error) error {
	switch {
	case !c.Mutates:
		if kv.OutcomeOf(err) == kv.Unknown {
			return kv.Errorf(kv.KindOf(err), "%w", err) // nothing can have happened
		}
		return err
	case peer.Answered(err):
		return err
	default:
		return WithOutcome(err)
	}
}

// partly is err after a request has taken effect on some vBuckets, or, if none is known to be
// done, may have: it must not be mistaken for one without effect.
func partly(err error, done, all int) error {
	kind, cause := kv.Internal, err
	if known := (*kv.Error)(nil); errors.As(err, &known) {
		kind, cause = known.Kind, known // its text has no outcome yet
	}
	what := fmt.Sprintf("%d of %d vBuckets are done", done, all)
	if done == 0 {
		what = fmt.Sprintf("some of %d vBuckets may be done", all)
	}
	return WithOutcome(kv.UnknownOutcome(kind, fmt.Errorf("%s, another one failed; repeat the request: %w", what, cause)))
}
