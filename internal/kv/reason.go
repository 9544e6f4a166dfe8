package kv

// ErrorDomain and the reasons are how the outcome of a mutation is told to
// programs: in a google.rpc.ErrorInfo among the details of a gRPC status.
const (
	ErrorDomain = "dkv"

	// ReasonNotApplied is that of an error whose outcome is NotApplied.
	ReasonNotApplied = "NOT_APPLIED"
	// ReasonUnknown is that of an error whose outcome is Unknown.
	ReasonUnknown = "OUTCOME_UNKNOWN"
	// ReasonNotOwner is that of a NotOwner error, which is not applied either.
	ReasonNotOwner = "NOT_OWNER"
	// ReasonWaiting stands beside NotApplied in what a node answers that waits to
	// become a member of a cluster: it serves nothing yet.
	ReasonWaiting = "NODE_WAITING"
	// ReasonTooLate is that of a TooLate error, whose outcome is unknown and will
	// not become known.
	ReasonTooLate = "TOO_LATE"
	// ReasonOtherCluster is that of an OtherCluster error, which is not applied
	// either.
	ReasonOtherCluster = "OTHER_CLUSTER"
)

// Reason is what an ErrorInfo says of e.
func (e *Error) Reason() string {
	switch {
	case e.Kind == TooLate:
		return ReasonTooLate
	case e.Outcome != NotApplied:
		return ReasonUnknown
	case e.Kind == NotOwner:
		return ReasonNotOwner
	case e.Kind == OtherCluster:
		return ReasonOtherCluster
	default:
		return ReasonNotApplied
	}
}
