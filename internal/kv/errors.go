package kv

import (
	"errors"
	"fmt"
)

// Kind classifies an error by what its receiver can do about it. The gRPC
// layer maps each kind to one status code.
type Kind uint8

const (
	// Internal is a fault of ours: a bug, or storage that failed.
	Internal Kind = iota
	// Invalid is a request that can never succeed as it stands.
	Invalid
	// Precondition is a request that this node, in its present state, refuses.
	Precondition
	// Exhausted means that a limit is reached: disk, memory, requests in flight.
	Exhausted
	// Unavailable is temporary; another try, here or elsewhere, may succeed.
	Unavailable
	// OutOfRange is a position in the change stream that is no longer, or not
	// yet, there.
	OutOfRange
	// Corrupt means that stored data failed its checksum.
	Corrupt
	// NotFound means that the thing named by the request does not exist.
	NotFound
	// Unimplemented is a request that this node's role never serves.
	Unimplemented
	// NotOwner means that another node, or nobody at present, serves mutations
	// and linearizable reads. The request had no effect here; ask the owner.
	NotOwner
	// TooLate is a mutation that was sent before, perhaps, and whose result is not
	// remembered any more. It was not applied this time and is not if it is sent
	// again, but what became of earlier attempts cannot be told.
	TooLate
	// OtherCluster is a request for a cluster that this node is not of. It had no
	// effect here; ask a node of that cluster.
	OtherCluster
)

// Outcome tells what became of a mutation that ended in an error.
type Outcome uint8

const (
	// NotApplied means that the mutation had no effect and never will:
	// retrying is safe.
	NotApplied Outcome = iota
	// Unknown means that the mutation may have landed or may still land: it may be
	// sent again only with its RequestID, and only as long as that is remembered.
	Unknown
)

func (o Outcome) String() string {
	if o == Unknown {
		return "outcome unknown"
	}
	return "not applied"
}

// Error is an error with a machine-readable kind and a sentence for people,
// which says what was wrong and, where it is known, what to do.
type Error struct {
	Kind    Kind
	Outcome Outcome
	Err     error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap lets errors.Is and errors.As see the wrapped error.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error of the given kind, formatted as fmt.Errorf does (with
// %w). Its outcome is NotApplied.
func Errorf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Err: fmt.Errorf(format, args...)}
}

// UnknownOutcome marks err as one after which a mutation may still land.
func UnknownOutcome(kind Kind, err error) *Error {
	return &Error{Kind: kind, Outcome: Unknown, Err: err}
}

// KindOf returns the kind of the first Error in err's chain, and Internal
// where there is none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// OutcomeOf returns the outcome of the first Error in err's chain. An error
// that does not say is Unknown: claiming "not applied" needs knowledge.
func OutcomeOf(err error) Outcome {
	var e *Error
	if errors.As(err, &e) {
		return e.Outcome
	}
	return Unknown
}
