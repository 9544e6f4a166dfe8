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

// What an error means, for errors.Is. An error may be several of these: a put
// that was cut off is ErrUnavailable and ErrOutcomeUnknown. Where the caller's
// context ended, errors.Is finds context.DeadlineExceeded or context.Canceled too.
var (
	// ErrNotFound: the key, or whatever a request names, does not exist.
	ErrNotFound = errors.New("not found")
	// ErrInvalid: the request can never succeed as it stands.
	ErrInvalid = errors.New("invalid request")
	// ErrPrecondition: the state of the database or the node forbids the
	// request, for example writes that are paused, or data that is too old.
	ErrPrecondition = errors.New("precondition failed")
	// ErrExhausted: a limit of the server is reached; it is not tried again by
	// itself.
	ErrExhausted = errors.New("resource exhausted")
	// ErrUnavailable: nobody served the request in time.
	ErrUnavailable = errors.New("unavailable")
	// ErrOutcomeUnknown: the mutation may have taken effect, or may still. Servers
	// say so too if they have forgotten whether it did.
	ErrOutcomeUnknown = errors.New("outcome unknown")
	// ErrTrimmed: the changes that a watch would go on with are not retained any
	// more, or belong to a keyspace that was replaced: read anew, then watch.
	ErrTrimmed = errors.New("changes are not retained")
	// ErrUnauthenticated: the server does not accept the token, or demands one.
	ErrUnauthenticated = errors.New("unauthenticated")
	// ErrTLS: one side speaks TLS and the other does not, or a certificate is
	// not accepted. It is ErrUnavailable too.
	ErrTLS = errors.New("TLS does not match")
	// ErrOtherCluster: the node is of another cluster than the one that the client is
	// bound to, or the database is cut otherwise there. Nothing was done; see
	// Client.Cluster.
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
	// OutcomeUnknown tells, of a mutation, that it may have taken effect. Where
	// it is false the mutation had no effect and never will.
	OutcomeUnknown bool
	// Address is that of the node that the error is about, where it is about one.
	Address string
	// ResumeKey, if there is one, says where an iteration may go on that the server ended
	// since nothing was taken for too long (stream-stall-timeout): everything before it
	// was brought, and perhaps some pairs from it on, those of the last message. Another
	// iteration with it as Range.Start goes on from there, in the state that there is by
	// then.
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

// toError translates the error of a call of the node at addr.
func toError(err error, addr string, mutates bool) *Error {
	out := &Error{Kind: kindOf(err), Address: addr, Err: err}
	out.OutcomeUnknown = mutates && kv.OutcomeOf(err) == kv.Unknown && !refused(err)
	if errors.Is(err, peer.ErrClosed) {
		out.OutcomeUnknown = false
	}
	if out.OutcomeUnknown && !peer.Answered(err) { // an answer says so itself
		out.Err = fmt.Errorf("%w (%s)", err, kv.Unknown)
	}
	return out
}

// unexplained is the code of an error that does not come from the service at the
// other end: gRPC's own, there or here, or that of something in between.
func unexplained(err error) codes.Code {
	if st, ok := status.FromError(err); ok {
		return st.Code()
	}
	return codes.OK
}

// cutOff reports whether err is that of a stream which the other side has reset, whatever
// it had received by then. gRPC translates HTTP/2's reason into a code that services use
// as well; that it was a reset is only in the text.
func cutOff(err error) bool {
	st, ok := status.FromError(err)
	return ok && strings.Contains(st.Message(), "stream terminated by RST_STREAM")
}

// refused reports whether err means that no service has seen the request.
func refused(err error) bool {
	if cutOff(err) {
		return false
	}
	switch unexplained(err) {
	case codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented, codes.ResourceExhausted:
		return true
	default:
		return false
	}
}

func kindOf(err error) error {
	switch code := unexplained(err); {
	case cutOff(err):
		return ErrUnavailable
	case code == codes.Unauthenticated, code == codes.PermissionDenied:
		return ErrUnauthenticated
	case code == codes.ResourceExhausted: // gRPC's own: a message beyond its limit
		return ErrInvalid
	}
	if errors.Is(err, peer.ErrClosed) {
		return ErrClosed
	}
	switch kv.KindOf(err) {
	case kv.Invalid:
		return ErrInvalid
	case kv.Precondition:
		return ErrPrecondition
	case kv.Exhausted:
		return ErrExhausted
	case kv.Unavailable, kv.NotOwner:
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
	default:
		return nil
	}
}

// lasting tells whether trying again by itself cannot be expected to help.
func lasting(err error) bool {
	return errors.Is(err, ErrTLS) || errors.Is(err, ErrUnauthenticated) || errors.Is(err, ErrPrecondition) || errors.Is(err, ErrOtherCluster)
}
