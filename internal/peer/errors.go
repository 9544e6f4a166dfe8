package peer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/internal/kv"
)

// Answer is an error that a peer answered with, as opposed to an error of the
// connection to it. Its text is the peer's and names the outcome if that matters.
type Answer struct {
	text   string
	cause  error
	resume kv.Resume
}

func (a *Answer) Error() string { return a.text }

// Unwrap returns the context error that the peer's status code stands for, kv.ErrRemoved if its
// cluster has removed the peer, kv.ErrSlave if it leaves the request to masters, or nil.
func (a *Answer) Unwrap() error { return a.cause }

// ResumeOf returns where to resume the stream that ended with err; nil if it does not say.
func ResumeOf(err error) kv.Resume {
	var a *Answer
	if errors.As(err, &a) {
		return a.resume
	}
	return nil
}

// Answered reports whether err is what a peer answered.
func Answered(err error) bool {
	var a *Answer
	return errors.As(err, &a)
}

// failure is an error of the connection to a peer, or one that the peer gave no
// reason for, with its gRPC status.
type failure struct {
	text string
	st   *status.Status
}

func (f *failure) Error() string { return f.text }

// GRPCStatus lets status.FromError find the status.
func (f *failure) GRPCStatus() *status.Status { return f.st }

// toError turns the error of a call into a kv.Error. sent says whether the request
// may have been sent.
func (p *Peer) toError(ctx context.Context, err error, sent bool) error {
	st := status.Convert(err)
	if hasReason(st, kv.ReasonWaiting) {
		// Not an answer of a member: the node may have lost its disk.
		return kv.Errorf(kv.Unavailable, "node %s: %s", p.addr, st.Message())
	}
	if reason, ok := reasonOf(st); ok {
		return answer(st, reason)
	}
	if cause := ended(ctx); cause != nil {
		return outcome(kv.Unavailable, sent, fmt.Errorf("node %s did not answer: %w", p.addr, cause))
	}
	switch st.Code() {
	case codes.Unavailable, codes.Canceled, codes.DeadlineExceeded, codes.Aborted:
		// Canceled: the connection was closed on this side.
		return outcome(kv.Unavailable, sent, &failure{fmt.Sprintf("node %s cannot be reached: %s%s", p.addr, st.Message(), hint(st.Message())), st})
	default:
		return outcome(kindOf(st.Code()), sent, &failure{fmt.Sprintf("node %s: %s", p.addr, st.Message()), st})
	}
}

// hint returns what to look at if a connection fails with a text of gRPC or crypto/tls, as the end
// of a sentence: there is no other sign of what two nodes disagree about.
func hint(text string) string {
	for _, h := range [...]struct{ sign, hint string }{
		{"looked like an HTTP/1.1 header", "that is an HTTP port (http-listen-addr), or a node that requires TLS: its gRPC port (listen-addr) is meant, and tls-mode has to fit"},
		{"the connection is draining", "it stops, or requires TLS (tls-mode)"},
		{"does not look like a TLS handshake", "it does not speak TLS: tls-mode has to fit, there or here"},
	} {
		if strings.Contains(text, h.sign) {
			return "; " + h.hint
		}
	}
	return ""
}

// FromStatus returns the error that a status of a node's server stands for, as a call to that
// node would end with it; and any other error as it is.
func FromStatus(err error) error {
	st, is := status.FromError(err)
	if err == nil || !is {
		return err
	}
	if reason, ok := reasonOf(st); ok {
		return answer(st, reason)
	}
	return kv.Errorf(kindOf(st.Code()), "%w", &failure{st.Message(), st})
}

// ended returns why a call's context has ended, or nil. A deadline counts as soon
// as it is due: the peer may report it before the timer here has fired.
func ended(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if deadline, limited := ctx.Deadline(); limited && time.Until(deadline) < time.Millisecond {
		return context.DeadlineExceeded
	}
	return nil
}

func outcome(kind kv.Kind, sent bool, err error) error {
	if sent {
		return kv.UnknownOutcome(kind, err)
	}
	return kv.Errorf(kind, "%w", err)
}

// answer returns the error of a peer that gave a reason.
func answer(st *status.Status, reason string) error {
	out := &kv.Error{Kind: kindOf(st.Code()), Outcome: kv.Unknown, RetryAfter: retryAfter(st)}
	switch reason {
	case kv.ReasonNotOwner:
		out.Kind, out.Outcome = kv.NotOwner, kv.NotApplied
	case kv.ReasonNotApplied:
		out.Outcome = kv.NotApplied
	case kv.ReasonTooLate:
		out.Kind = kv.TooLate
	case kv.ReasonOtherCluster:
		out.Kind, out.Outcome = kv.OtherCluster, kv.NotApplied
	case kv.ReasonLost:
		out.Kind, out.Outcome = kv.Lost, kv.NotApplied
	case kv.ReasonNotConfirmed:
		out.Kind = kv.NotConfirmed
	}
	a := &Answer{text: st.Message(), resume: resumeOf(st)}
	switch st.Code() {
	case codes.DeadlineExceeded:
		a.cause = context.DeadlineExceeded
	case codes.Canceled:
		a.cause = context.Canceled
	}
	switch {
	case out.Outcome != kv.NotApplied:
	case hasReason(st, kv.ReasonRemoved):
		a.cause = kv.ErrRemoved
	case hasReason(st, kv.ReasonSlave):
		a.cause = kv.ErrSlave
	}
	out.Err = a
	return out
}

// hasReason reports whether reason is among those that a status gives.
func hasReason(st *status.Status, reason string) bool {
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == kv.ErrorDomain && info.GetReason() == reason {
			return true
		}
	}
	return false
}

// resumeOf returns where to resume a stream that was ended for stalling; nil if the
// status does not say.
func resumeOf(st *status.Status) kv.Resume {
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == kv.ErrorDomain && info.GetReason() == kv.ReasonStalled {
			return info.GetMetadata()
		}
	}
	return nil
}

// retryAfter returns when a peer says that the call may be tried again; 0 if it does not.
func retryAfter(st *status.Status) time.Duration {
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			return max(info.GetRetryDelay().AsDuration(), 0)
		}
	}
	return 0
}

func reasonOf(st *status.Status) (string, bool) {
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == kv.ErrorDomain {
			return info.GetReason(), true
		}
	}
	return "", false
}

// kindOf returns the kind that a server maps to a code.
func kindOf(code codes.Code) kv.Kind {
	switch code {
	case codes.InvalidArgument:
		return kv.Invalid
	case codes.FailedPrecondition:
		return kv.Precondition
	case codes.ResourceExhausted:
		return kv.Exhausted
	case codes.OutOfRange:
		return kv.OutOfRange
	case codes.DataLoss:
		return kv.Corrupt
	case codes.NotFound:
		return kv.NotFound
	case codes.Unimplemented:
		return kv.Unimplemented
	case codes.Unauthenticated:
		return kv.Unauthenticated
	case codes.PermissionDenied:
		return kv.Denied
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Aborted:
		return kv.Unavailable
	default:
		return kv.Internal
	}
}
