// Package tail reads what a Raft log has behind the state that it was applied to: the commands that
// a promotion, or a recovery, applies to a copy of the state, since one that was acknowledged may be
// among them. Log is the log of a member that does not run.
package tail
