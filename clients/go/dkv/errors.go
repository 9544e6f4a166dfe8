package dkv

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
)

// What an error means, for errors.Is. An error may be several of these: a put whose
// connection broke is ErrUnavailable and ErrOutcomeUnknown. If the caller's context
// ended, errors.Is finds context.DeadlineExceeded or context.Canceled too.
var (
	// ErrNotFound: the key, or another thing that a request names, does not exist.
	ErrNotFound = errors.New("not found")
	// ErrInvalid: the request can never succeed as it stands.
	ErrInvalid = errors.New("invalid request")
	// ErrPrecondition: the state of the database or the node forbids the
	// request, for example writes that are paused, data that is too old, or a MinIndex
	// that a promotion has lost.
	ErrPrecondition = errors.New("precondition failed")
	// ErrExhausted: a limit of the server is reached. The client retries if the server says
	// when, as it does for limits that end soon, and there is time for that.
	ErrExhausted = errors.New("resource exhausted")
	// ErrUnavailable: no node served the request in time.
	ErrUnavailable = errors.New("unavailable")
	// ErrOutcomeUnknown: the mutation may have taken effect, or may still do so.
	// Servers also return it if they no longer remember whether it did.
	ErrOutcomeUnknown = errors.New("outcome unknown")
	// ErrTrimmed: the changes that a watch would resume from are not retained any
	// more, belong to a keyspace that was replaced, or follow one that a promotion has lost.
	// Read the keys again, then watch from there.
	ErrTrimmed = errors.New("changes are not retained")
	// ErrUnauthenticated: the server does not accept the token or the certificate, or
	// demands one. The client does not retry, and asks no other node.
	ErrUnauthenticated = errors.New("unauthenticated")
	// ErrPermissionDenied: the server knows the caller, who has no right to do this. The
	// client does not retry.
	ErrPermissionDenied = errors.New("permission denied")
	// ErrTLS: one side speaks TLS and the other does not, or a certificate is
	// not accepted. It is ErrUnavailable too.
	ErrTLS = errors.New("TLS does not match")
	// ErrOtherCluster: the node belongs to another cluster than the one that the client
	// is bound to, or has other vBuckets. Nothing was done; see Client.Cluster.
	ErrOtherCluster = errors.New("another cluster")
	// ErrUnimplemented: the node never serves this request.
	ErrUnimplemented = errors.New("unimplemented")
	// ErrClosed: the client is closed.
	ErrClosed = errors.New("the client is closed")
)

// Error is the type of all errors of a request.
type Error struct {
	// Kind is one of the errors of this package; nil is a fault of the server.
	Kind error
	// OutcomeUnknown reports, for a mutation, that it may have taken effect. If it is
	// false, the mutation had no effect and never will.
	OutcomeUnknown bool
	// Address is that of the node that the error is about; empty if it is about none.
	Address string
	// ResumeKey is where to resume an iteration that the server ended because the caller
	// read nothing for too long (stream-stall-timeout); nil otherwise. Every pair before
	// this key was returned, and perhaps some from it on, those of the last message. An
	// iteration with this key as Range.Start reads the rest, from the state at that time.
	ResumeKey []byte
	// Err says what was wrong.
	Err error
}

func (e *Error) Error() string { return "dkv: " + e.Err.Error() }

// Unwrap lets errors.Is and errors.As see the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is makes errors.Is match what the error means.
func (e *Error) Is(target error) bool {
	return target == e.Kind || e.OutcomeUnknown && target == ErrOutcomeUnknown ||
		e.Kind == ErrTLS && target == ErrUnavailable
}

func errorf(kind error, format string, args ...any) *Error {
	return &Error{Kind: kind, Err: fmt.Errorf(format, args...)}
}

// toError converts the error of a call to the node at addr.
func toError(err error, addr string, mutates bool) *Error {
	out := &Error{Kind: kindOf(err), Address: addr, Err: err}
	out.OutcomeUnknown = mutates && kv.OutcomeOf(err) == kv.Unknown && !neverServed(err)
	if errors.Is(err, peer.ErrClosed) {
		out.OutcomeUnknown = false
	}
	if out.OutcomeUnknown && !peer.Answered(err) { // a server's answer says it itself
		out.Err = fmt.Errorf("%w (%s)", err, kv.Unknown)
	}
	return out
}

// transportCode returns the code of an error that does not come from the service at the
// other end, but from gRPC on either side or from a proxy in between; OK for others.
func transportCode(err error) codes.Code {
	if st, ok := status.FromError(err); ok {
		return st.Code()
	}
	return codes.OK
}

// wasReset reports whether err is that of a stream which the other side has reset, when it
// may or may not have received the request. gRPC converts HTTP/2's reason to a code that
// services use as well, so that only the text shows the reset.
func wasReset(err error) bool {
	st, ok := status.FromError(err)
	return ok && strings.Contains(st.Message(), "stream terminated by RST_STREAM")
}

// neverServed reports whether err means that no service has seen the request.
func neverServed(err error) bool {
	if wasReset(err) {
		return false
	}
	switch transportCode(err) {
	case codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented, codes.ResourceExhausted:
		return true
	default:
		return false
	}
}

func kindOf(err error) error {
	switch code := transportCode(err); {
	case wasReset(err):
		return ErrUnavailable
	case code == codes.Unauthenticated:
		return ErrUnauthenticated
	case code == codes.PermissionDenied:
		return ErrPermissionDenied
	case code == codes.ResourceExhausted: // gRPC's own: a message beyond its limit
		return ErrInvalid
	}
	switch {
	case errors.Is(err, peer.ErrClosed):
		return ErrClosed
	case errors.Is(err, kv.ErrRemoved): // the members serve the request
		return ErrUnavailable
	}
	switch kv.KindOf(err) {
	case kv.Invalid:
		return ErrInvalid
	case kv.Precondition, kv.Lost:
		return ErrPrecondition
	case kv.Exhausted:
		return ErrExhausted
	case kv.Unavailable, kv.NotOwner, kv.NotConfirmed:
		return ErrUnavailable
	case kv.OutOfRange:
		return ErrTrimmed
	case kv.TooLate:
		return ErrOutcomeUnknown
	case kv.NotFound:
		return ErrNotFound
	case kv.OtherCluster:
		return ErrOtherCluster
	case kv.Unimplemented:
		return ErrUnimplemented
	case kv.Unauthenticated:
		return ErrUnauthenticated
	case kv.Denied:
		return ErrPermissionDenied
	default:
		return nil
	}
}

// permanent reports whether another attempt cannot be expected to help.
func permanent(err error) bool {
	return errors.Is(err, ErrTLS) || rejected(err) || errors.Is(err, ErrPrecondition) || errors.Is(err, ErrOtherCluster)
}

// rejected reports whether a server does not accept the caller.
func rejected(err error) bool {
	return errors.Is(err, ErrUnauthenticated) || errors.Is(err, ErrPermissionDenied)
}

// isUnimplemented reports whether the other end does not know the method.
func isUnimplemented(err error) bool { return errors.Is(err, ErrUnimplemented) }
