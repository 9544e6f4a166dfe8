package server

import (
	"context"
	"errors"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/quota"
)

// toStatus turns an error of the layers below into the gRPC status that says
// the same. Errors that are statuses already pass unchanged.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	var known *kv.Error
	if !errors.As(err, &known) {
		if st, ok := status.FromError(err); ok {
			return shortened(err, st)
		}
		if ctx := contextCode(err); ctx != codes.OK {
			return status.Error(ctx, short(err.Error()))
		}
		return status.Error(codes.Internal, short(err.Error()))
	}
	st := status.New(codeOf(known), short(err.Error()))
	if known.RetryAfter > 0 {
		st = after(st, known.RetryAfter)
	}
	switch {
	case errors.Is(err, kv.ErrRemoved):
		return explained(st, known.Reason(), kv.ReasonRemoved)
	case errors.Is(err, kv.ErrSlave):
		return explained(st, known.Reason(), kv.ReasonSlave)
	}
	return explained(st, known.Reason())
}

// shortened is an error with a text of bounded length: it travels as a header, and a
// header that is too long breaks the client's connection.
func shortened(err error, st *status.Status) error {
	if len(st.Message()) <= maxText {
		return err
	}
	p := st.Proto()
	p.Message = short(p.Message)
	return status.ErrorProto(p)
}

// explained adds the outcome of the request, and what else there is to know of it, in a form
// for programs, which decide by it whether to forward or retry.
func explained(st *status.Status, reasons ...string) error {
	for _, reason := range reasons {
		if full, err := st.WithDetails(&errdetails.ErrorInfo{Domain: kv.ErrorDomain, Reason: reason}); err == nil {
			st = full
		}
	}
	return st.Err()
}

const (
	// requestPause and streamPause are when a call may be tried again that a limit has
	// rejected: requests end soon, streams last.
	requestPause, streamPause = 100 * time.Millisecond, time.Second
)

// exhausted is the error of a call that a limit rejects. It had no effect, and may be tried
// again after a pause, which the details of the error say.
func exhausted(pause time.Duration, format string, args ...any) error {
	return explained(after(status.Newf(codes.ResourceExhausted, format, args...), pause), kv.ReasonNotApplied)
}

// after adds when the call may be tried again.
func after(st *status.Status, pause time.Duration) *status.Status {
	if full, err := st.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(pause)}); err == nil {
		return full
	}
	return st
}

// beyondQuota is the error of a call beyond a limit of its identity.
func (c *calls) beyondQuota(m *method, err error) error {
	var e *quota.Exceeded
	if !errors.As(err, &e) {
		return toStatus(err)
	}
	c.limited(e.Limit)
	return exhausted(e.RetryAfter, "%s: %v", m.op, e)
}

func codeOf(err *kv.Error) codes.Code {
	switch err.Kind {
	case kv.Invalid:
		return codes.InvalidArgument
	case kv.Precondition, kv.TooLate, kv.OtherCluster:
		return codes.FailedPrecondition
	case kv.Exhausted:
		return codes.ResourceExhausted
	case kv.OutOfRange:
		return codes.OutOfRange
	case kv.Lost:
		return codes.Aborted
	case kv.Corrupt:
		return codes.DataLoss
	case kv.NotFound:
		return codes.NotFound
	case kv.Unimplemented:
		return codes.Unimplemented
	case kv.Unauthenticated:
		return codes.Unauthenticated
	case kv.Denied:
		return codes.PermissionDenied
	case kv.NotConfirmed: // also at a deadline: it says what became of the request
		return codes.Unavailable
	case kv.Unavailable, kv.NotOwner:
		if c := contextCode(err); c != codes.OK {
			return c
		}
		return codes.Unavailable
	default:
		return codes.Internal
	}
}

func contextCode(err error) codes.Code {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	default:
		return codes.OK
	}
}
