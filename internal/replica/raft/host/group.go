package host

import (
	"github.com/lni/dragonboat/v4/raftio"

	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/storage/diskspace"
)

// Group is a vBucket's replica on a host, as the host knows it. None of its methods may
// wait: Dragonboat calls them from its own loops.
type Group interface {
	// Replica is its id in the log.
	Replica() uint64
	State() replica.State
	// OnDisk reports whether its state is in a folder, and not in memory.
	OnDisk() bool
	// Guard watches the file system of its state; nil does not.
	Guard() *diskspace.Guard
	// SnapshotSize estimates the size of the snapshot that is about to be sent.
	SnapshotSize() uint64

	// LeaderUpdated hints at who leads the log.
	LeaderUpdated(raftio.LeaderInfo)
	// MemberEnded says that the process of the member at a Raft address has ended.
	MemberEnded(address string)
	// Committed notes that the log is committed up to an entry.
	Committed(entry uint64)
	// Lacks notes why the replica cannot catch up; nil means that it can.
	Lacks(why error)
	// Removed says that the replica was removed from the log.
	Removed()
}
