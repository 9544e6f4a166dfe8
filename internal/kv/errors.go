package kv

import (
	"errors"
	"fmt"
	"time"
)

// Kind classifies an error by what the caller can do about it. The gRPC layer maps each
// kind to one status code.
type Kind uint8

const (
	// Internal is a fault of this node: a bug, or storage that failed.
	Internal Kind = iota
	// Invalid is a request that can never succeed as it stands.
	Invalid
	// Precondition is a request that this node rejects in its current state.
	Precondition
	// Exhausted means that a limit is reached: disk, memory, requests in flight.
	Exhausted
	// Unavailable is temporary: a retry, here or at another node, may succeed.
	Unavailable
	// OutOfRange is a position in the change stream that is no longer retained, or does
	// not exist yet.
	OutOfRange
	// Corrupt means that stored data failed its checksum.
	Corrupt
	// NotFound means that the thing named by the request does not exist.
	NotFound
	// Unimplemented is a request that this node's role never serves.
	Unimplemented
	// NotOwner means that this node does not serve mutations and linearizable reads:
	// another node does, or none at the moment. The request had no effect; ask the owner.
	NotOwner
	// TooLate is a mutation that may have been sent before, and whose result is no longer
	// remembered. It was not applied this time and will not be if it is sent again, but
	// whether an earlier attempt was applied is unknown.
	TooLate
	// OtherCluster is a request for a cluster that this node does not belong to. It had no
	// effect; ask a node of that cluster.
	OtherCluster
	// Unauthenticated is a caller that has shown no credentials, or wrong ones.
	Unauthenticated
	// Denied is a caller that is known, and is not allowed what it asks for.
	Denied
	// NotConfirmed is a mutation that is applied here, or a read that was answered here, and
	// that the standbys have not confirmed: a promotion may undo it. A mutation's outcome is
	// unknown; it may be repeated with its id only.
	NotConfirmed
	// Lost is an index that is of no history any more: the state that had it was lost when a
	// promotion ended its history before it. No node will ever reach it.
	Lost
)

// Outcome says whether a mutation that ended in an error may have been applied.
type Outcome uint8

const (
	// NotApplied means that the mutation had no effect and never will have one: a retry is
	// safe.
	NotApplied Outcome = iota
	// Unknown means that the mutation may have been applied or may still be. A retry is
	// safe only with the same RequestID, and only as long as its result is remembered.
	Unknown
)

func (o Outcome) String() string {
	if o == Unknown {
		return "outcome unknown"
	}
	return "not applied"
}

// Error is an error with a machine-readable kind and outcome, and a sentence for people that
// says what failed, why and, if known, what to do.
type Error struct {
	Kind    Kind
	Outcome Outcome
	// RetryAfter is when the same call may succeed; 0 if that is not known.
	RetryAfter time.Duration
	Err        error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap lets errors.Is and errors.As see the wrapped error.
func (e *Error) Unwrap() error { return e.Err }

// ErrRemoved rejects requests to a node that was removed from its cluster, or to its replica of
// a log that it keeps no more.
var ErrRemoved = Errorf(Precondition, "this node was removed from the cluster; ask another one")

// ErrSlave rejects requests to a slave that only masters serve.
var ErrSlave = Errorf(Precondition, "this node is a slave")

// Errorf returns an Error of the given kind whose outcome is NotApplied. It formats, and
// wraps with %w, as fmt.Errorf does.
func Errorf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Err: fmt.Errorf(format, args...)}
}

// UnknownOutcome returns an Error of the given kind after which the mutation may have been
// applied, or may still be.
func UnknownOutcome(kind Kind, err error) *Error {
	return &Error{Kind: kind, Outcome: Unknown, Err: err}
}

// KindOf returns the kind of the first Error in err's chain, or Internal if there is none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// OutcomeOf returns the outcome of the first Error in err's chain, or Unknown if there is
// none: "not applied" may be said only if it is known.
func OutcomeOf(err error) Outcome {
	var e *Error
	if errors.As(err, &e) {
		return e.Outcome
	}
	return Unknown
}

// RetryAfterOf returns the pause of the first Error in err's chain, or 0.
func RetryAfterOf(err error) time.Duration {
	var e *Error
	if errors.As(err, &e) {
		return e.RetryAfter
	}
	return 0
}
