package kv

// ErrorDomain and the reasons tell programs the outcome of a mutation: they are in a
// google.rpc.ErrorInfo among the details of a gRPC status.
const (
	ErrorDomain = "dkv"

	// ReasonNotApplied is the reason of an error whose outcome is NotApplied.
	ReasonNotApplied = "NOT_APPLIED"
	// ReasonUnknown is the reason of an error whose outcome is Unknown.
	ReasonUnknown = "OUTCOME_UNKNOWN"
	// ReasonNotOwner is the reason of a NotOwner error, whose outcome is NotApplied.
	ReasonNotOwner = "NOT_OWNER"
	// ReasonWaiting stands beside ReasonNotApplied in the errors of a node that waits to
	// become a member of a cluster and serves nothing yet.
	ReasonWaiting = "NODE_WAITING"
	// ReasonRemoved stands beside another reason in the errors of a node that its cluster has
	// removed: another one may be asked.
	ReasonRemoved = "NODE_REMOVED"
	// ReasonSlave stands beside another reason in the errors of a slave for what masters serve:
	// one of them may be asked.
	ReasonSlave = "NODE_SLAVE"
	// ReasonTooLate is the reason of a TooLate error, whose outcome is unknown and cannot
	// be found out.
	ReasonTooLate = "TOO_LATE"
	// ReasonOtherCluster is the reason of an OtherCluster error, whose outcome is
	// NotApplied.
	ReasonOtherCluster = "OTHER_CLUSTER"
	// ReasonNotConfirmed is the reason of a NotConfirmed error. The outcome of a mutation is
	// unknown.
	ReasonNotConfirmed = "NOT_CONFIRMED"
	// ReasonLost is the reason of a Lost error, whose outcome is NotApplied.
	ReasonLost = "LOST"
)

// Reason returns the reason that an ErrorInfo gives for e.
func (e *Error) Reason() string {
	switch {
	case e.Kind == TooLate:
		return ReasonTooLate
	case e.Kind == NotConfirmed:
		return ReasonNotConfirmed
	case e.Outcome != NotApplied:
		return ReasonUnknown
	case e.Kind == NotOwner:
		return ReasonNotOwner
	case e.Kind == OtherCluster:
		return ReasonOtherCluster
	case e.Kind == Lost:
		return ReasonLost
	default:
		return ReasonNotApplied
	}
}
