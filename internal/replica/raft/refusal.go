package raft

import (
	"context"
	"errors"
	"slices"

	"github.com/lni/dragonboat/v4"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/raft/host"
)

// hasty are the errors of requests that have too little time left.
var hasty = []error{dragonboat.ErrTimeoutTooSmall, dragonboat.ErrInvalidDeadline, dragonboat.ErrDeadlineNotSet}

// outOfTime reports whether a request was not begun for lack of time.
func outOfTime(err error) bool { return isAny(err, hasty) }

func isAny(err error, causes []error) bool {
	return slices.ContainsFunc(causes, func(cause error) bool { return errors.Is(err, cause) })
}

// refusals translate Dragonboat's errors of requests that it rejected, or did not answer,
// and say what can be done.
var refusals = []struct {
	causes []error
	kind   kv.Kind
	text   string
}{
	{[]error{dragonboat.ErrInvalidAddress}, kv.Invalid,
		"this is not a valid Raft address; write an IPv4 address or a host name of letters, digits and hyphens"},
	{hasty, kv.Unavailable, "too little is left of the time that the request may take; allow more"},
	{[]error{dragonboat.ErrTimeout, dragonboat.ErrCanceled, context.DeadlineExceeded, context.Canceled}, kv.Unavailable,
		"there was no answer in time; is a majority of the members up?"},
	{[]error{dragonboat.ErrShardNotReady, dragonboat.ErrAborted}, kv.Unavailable, "the log has no leader at present; retry"},
	{[]error{dragonboat.ErrSystemBusy}, kv.Unavailable, "another request of this kind is under way, or there are too many; retry"},
	{[]error{dragonboat.ErrShardNotInitialized, dragonboat.ErrShardNotFound, dragonboat.ErrShardClosed}, kv.Unavailable,
		"this node takes no part in the log at present; retry, or ask another one"},
	{[]error{dragonboat.ErrClosed, host.ErrClosed}, kv.Precondition, "this node is shutting down; ask another one"},
}

// refused is the error of a request about the membership that had no effect. Its text
// begins with what was to be done. Only if its kind is kv.Unavailable may the same request
// succeed later.
func (r *Replica) refused(what string, err error) error {
	if r.State() == replica.Removed || errors.Is(err, dragonboat.ErrReplicaRemoved) {
		return kv.Errorf(kv.Precondition, "%s: %w", what, replica.ErrRemoved)
	}
	var known *kv.Error
	if errors.As(err, &known) {
		return kv.Errorf(known.Kind, "%s: %w", what, err)
	}
	for _, c := range refusals {
		if isAny(err, c.causes) {
			return kv.Errorf(c.kind, "%s: %s", what, c.text)
		}
	}
	return kv.Errorf(kv.Precondition, "%s: %w", what, err)
}
