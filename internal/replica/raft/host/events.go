package host

import "github.com/lni/dragonboat/v4/raftio"

// events passes on what Dragonboat reports about replicas. None of its methods may wait: an
// unbuffered channel feeds them.
type events struct{ h *Host }

// NodeDeleted implements raftio.ISystemEventListener: the replica was removed from the log.
func (e events) NodeDeleted(info raftio.NodeInfo) {
	if g := e.h.group(info.ShardID); g != nil {
		g.Removed()
	}
}

// The other events are not needed. NodeUnloaded does not say of which start of a replica it is.

func (events) NodeHostShuttingDown()                       {}
func (events) NodeReady(raftio.NodeInfo)                   {}
func (events) NodeUnloaded(raftio.NodeInfo)                {}
func (events) MembershipChanged(raftio.NodeInfo)           {}
func (events) ConnectionEstablished(raftio.ConnectionInfo) {}
func (events) ConnectionFailed(raftio.ConnectionInfo)      {}
func (events) SendSnapshotStarted(raftio.SnapshotInfo)     {}
func (events) SendSnapshotCompleted(raftio.SnapshotInfo)   {}
func (events) SendSnapshotAborted(raftio.SnapshotInfo)     {}
func (events) SnapshotReceived(raftio.SnapshotInfo)        {}
func (events) SnapshotRecovered(raftio.SnapshotInfo)       {}
func (events) SnapshotCreated(raftio.SnapshotInfo)         {}
func (events) SnapshotCompacted(raftio.SnapshotInfo)       {}
func (events) LogCompacted(raftio.EntryInfo)               {}
func (events) LogDBCompacted(raftio.EntryInfo)             {}
