package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/internal/kv"
)

func TestToStatus(t *testing.T) {
	if toStatus(nil) != nil {
		t.Error("no error became one")
	}
	for _, c := range []struct {
		err  error
		want codes.Code
	}{
		{kv.Errorf(kv.Internal, "x"), codes.Internal},
		{kv.Errorf(kv.Invalid, "x"), codes.InvalidArgument},
		{kv.Errorf(kv.Precondition, "x"), codes.FailedPrecondition},
		{kv.Errorf(kv.Exhausted, "x"), codes.ResourceExhausted},
		{kv.Errorf(kv.Unavailable, "x"), codes.Unavailable},
		{kv.Errorf(kv.OutOfRange, "x"), codes.OutOfRange},
		{kv.Errorf(kv.Lost, "x"), codes.Aborted},
		{kv.Errorf(kv.Corrupt, "x"), codes.DataLoss},
		{kv.Errorf(kv.NotFound, "x"), codes.NotFound},
		{kv.Errorf(kv.Unimplemented, "x"), codes.Unimplemented},
		{kv.Errorf(kv.NotOwner, "x"), codes.Unavailable},
		{kv.Errorf(kv.Unauthenticated, "x"), codes.Unauthenticated},
		{kv.Errorf(kv.Denied, "x"), codes.PermissionDenied},
		{kv.UnknownOutcome(kv.NotConfirmed, errors.New("x")), codes.Unavailable},
		{kv.UnknownOutcome(kv.TooLate, errors.New("x")), codes.FailedPrecondition},
		{kv.Errorf(kv.Lost+1, "x"), codes.Internal}, // no kind
		{kv.UnknownOutcome(kv.Unavailable, errors.New("x")), codes.Unavailable},

		// A caller that has gone, or waited too long, is told just that; but a
		// wait that ended before the deadline has its own reason.
		{kv.Errorf(kv.Unavailable, "x: %w", context.DeadlineExceeded), codes.DeadlineExceeded},
		{kv.UnknownOutcome(kv.Unavailable, context.Canceled), codes.Canceled},
		{kv.Errorf(kv.Precondition, "x: %w", context.DeadlineExceeded), codes.FailedPrecondition},
		{kv.Errorf(kv.OtherCluster, "x"), codes.FailedPrecondition},

		{errors.New("x"), codes.Internal},
		{context.DeadlineExceeded, codes.DeadlineExceeded},
		{fmt.Errorf("x: %w", context.Canceled), codes.Canceled},
		{status.Error(codes.Aborted, "x"), codes.Aborted},
	} {
		wrapped := fmt.Errorf("around it: %w", c.err)
		for _, err := range []error{c.err, wrapped} {
			if got := status.Code(toStatus(err)); got != c.want {
				t.Errorf("%v: code %v, want %v", err, got, c.want)
			}
		}
		if got := status.Convert(toStatus(wrapped)).Message(); got != wrapped.Error() {
			t.Errorf("message %q, want %q", got, wrapped.Error())
		}
	}
}

// TestLimitsSayWhenToTryAgain: the pause is in a form for programs, beside the outcome.
func TestLimitsSayWhenToTryAgain(t *testing.T) {
	st := status.Convert(exhausted(1500*time.Millisecond, "%d are under way", 2))
	if st.Code() != codes.ResourceExhausted || st.Message() != "2 are under way" || len(st.Details()) != 2 {
		t.Fatalf("%v", st)
	}
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.RetryInfo:
			if after := d.GetRetryDelay().AsDuration(); after != 1500*time.Millisecond {
				t.Errorf("after %v", after)
			}
		case *errdetails.ErrorInfo:
			if d.GetReason() != kv.ReasonNotApplied {
				t.Errorf("%v", d)
			}
		default:
			t.Errorf("%v", d)
		}
	}
}

// TestToStatusExplains checks what programs decide by, which text is not.
func TestToStatusExplains(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string // the reasons, with blanks between them
	}{
		{kv.Errorf(kv.Precondition, "x"), kv.ReasonNotApplied},
		{kv.Errorf(kv.Precondition, "x: %w", kv.ErrRemoved), kv.ReasonNotApplied + " " + kv.ReasonRemoved},
		{kv.Errorf(kv.Precondition, "%w; ask x", kv.ErrSlave), kv.ReasonNotApplied + " " + kv.ReasonSlave},
		{kv.Errorf(kv.Unavailable, "x: %w", context.DeadlineExceeded), kv.ReasonNotApplied},
		{kv.Errorf(kv.NotOwner, "x"), kv.ReasonNotOwner},
		{kv.UnknownOutcome(kv.Unavailable, errors.New("x")), kv.ReasonUnknown},
		{kv.UnknownOutcome(kv.TooLate, errors.New("x")), kv.ReasonTooLate},
		{kv.Errorf(kv.OtherCluster, "x"), kv.ReasonOtherCluster},
		{fmt.Errorf("around it: %w", kv.UnknownOutcome(kv.NotOwner, errors.New("x"))), kv.ReasonUnknown},
		{errors.New("x"), ""},
		{context.Canceled, ""},
		{status.Error(codes.Aborted, "x"), ""},
	} {
		var reasons []string
		for _, d := range status.Convert(toStatus(c.err)).Details() {
			info, ok := d.(*errdetails.ErrorInfo)
			if !ok || info.GetDomain() != kv.ErrorDomain {
				t.Errorf("%v: detail %v", c.err, d)
			}
			reasons = append(reasons, info.GetReason())
		}
		if got := strings.Join(reasons, " "); got != c.want {
			t.Errorf("%v: reason %q, want %q", c.err, got, c.want)
		}
	}
}

// TestRejectionsSayWhenToTryAgain: also that of another node, which a forwarded call passes on.
func TestRejectionsSayWhenToTryAgain(t *testing.T) {
	err := toStatus(&kv.Error{Kind: kv.Exhausted, RetryAfter: 2 * time.Second, Err: errors.New("too many")})
	var pause time.Duration
	for _, d := range status.Convert(err).Details() {
		if info, is := d.(*errdetails.RetryInfo); is {
			pause = info.GetRetryDelay().AsDuration()
		}
	}
	if pause != 2*time.Second {
		t.Errorf("%v asks for a pause of %v", err, pause)
	}
}
