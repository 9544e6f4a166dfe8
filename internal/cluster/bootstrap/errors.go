package bootstrap

import "errors"

var (
	// ErrNoAnswer means that no node listens at a url, or that it does not
	// answer in time.
	ErrNoAnswer = errors.New("no answer")
	// ErrMember means that what listens at a url does not wait for an invitation: as a
	// rule it runs Raft already.
	ErrMember = errors.New("already a member of a cluster")
	// ErrUnfit means that a node waits at a url, but for another cluster or
	// with other settings.
	ErrUnfit = errors.New("does not fit")
	// ErrDeclined means that a node did not accept an invitation or a
	// rejection.
	ErrDeclined = errors.New("declined")

	// ErrConfig means that the settings are wrong.
	ErrConfig = errors.New("wrong settings")
	// ErrRejected means that a member of the cluster has rejected this node.
	ErrRejected = errors.New("rejected by the cluster")
	// ErrMismatch means that the identity file, the disk and the settings do
	// not belong together.
	ErrMismatch = errors.New("identity mismatch")
	// ErrOlderCopy means that the disk is an older copy, which lacks what its node has
	// done since it was taken, or another node's.
	ErrOlderCopy = errors.New("this data folder is not the newest one of its node")
	// ErrRemoved means that the disk is that of a node which its cluster has removed.
	ErrRemoved = errors.New("this node was removed from its cluster")
	// ErrCorrupt means that the identity file cannot be read.
	ErrCorrupt = errors.New("identity file damaged")
	// ErrPortTaken means that another process listens on the Raft port.
	ErrPortTaken = errors.New("raft port taken")
)
