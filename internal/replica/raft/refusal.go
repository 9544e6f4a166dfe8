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

// hasty are the errors of requests that come too close to their deadlines.
var hasty = []error{dragonboat.ErrTimeoutTooSmall, dragonboat.ErrInvalidDeadline, dragonboat.ErrDeadlineNotSet}

// outOfTime tells whether a request was not even begun for want of time.
func outOfTime(err error) bool { return isAny(err, hasty) }

func isAny(err error, causes []error) bool {
	return slices.ContainsFunc(causes, func(cause error) bool { return errors.Is(err, cause) })
}

// refusals word what Dragonboat says of a request that it did not take, or did not
// answer, and tell what can be done about it.
var refusals = []struct {
	causes []error
	kind   kv.Kind
	text   string
}{
	{[]error{dragonboat.ErrInvalidAddress}, kv.Invalid,
		"the log's library takes no such address; write an IPv4 address or a host name of letters, digits and hyphens"},
	{hasty, kv.Unavailable, "too little is left of the time that the request may take; allow more"},
	{[]error{dragonboat.ErrTimeout, dragonboat.ErrCanceled, context.DeadlineExceeded, context.Canceled}, kv.Unavailable,
		"there was no answer in time; is a majority of the members up?"},
	{[]error{dragonboat.ErrShardNotReady, dragonboat.ErrAborted}, kv.Unavailable, "the log has no leader at present; retry"},
	{[]error{dragonboat.ErrSystemBusy}, kv.Unavailable, "another request of this kind is under way, or there are too many; retry"},
	{[]error{dragonboat.ErrShardNotInitialized, dragonboat.ErrShardNotFound, dragonboat.ErrShardClosed}, kv.Unavailable,
		"this node takes no part in the log at present; retry, or ask another one"},
	{[]error{dragonboat.ErrClosed, host.ErrClosed}, kv.Precondition, "this node is shutting down; ask another one"},
	{[]error{dragonboat.ErrReplicaRemoved}, kv.Precondition, replica.ErrRemoved.Error()},
}

// refused is the error of a request about the membership that had no effect. What
// was to be done comes first in its text. Only where its kind is kv.Unavailable may
// the same request succeed later.
func (r *Replica) refused(what string, err error) error {
	if r.State() == replica.Removed {
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
