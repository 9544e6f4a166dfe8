package replica

import "github.com/lni/dragonboat/v4/raftio"

// hostEvents takes down what a Host is told about its replicas. None of it may
// wait: an unbuffered channel feeds it.
type hostEvents struct{ h *Host }

// NodeDeleted implements raftio.ISystemEventListener: the log has put the replica
// out.
func (e hostEvents) NodeDeleted(info raftio.NodeInfo) {
	if r, ok := e.h.rafts.Load(info.ShardID); ok {
		r.(*Raft).PutOut()
	}
}

// NodeUnloaded implements raftio.ISystemEventListener: nothing is under way any more
// for a replica that was stopped.
func (e hostEvents) NodeUnloaded(info raftio.NodeInfo) {
	if r, ok := e.h.rafts.Load(info.ShardID); ok {
		if unloaded := r.(*Raft).unloaded.Swap(nil); unloaded != nil {
			close(*unloaded)
		}
	}
}

// The others do not matter here.

func (hostEvents) NodeHostShuttingDown()                       {}
func (hostEvents) NodeReady(raftio.NodeInfo)                   {}
func (hostEvents) MembershipChanged(raftio.NodeInfo)           {}
func (hostEvents) ConnectionEstablished(raftio.ConnectionInfo) {}
func (hostEvents) ConnectionFailed(raftio.ConnectionInfo)      {}
func (hostEvents) SendSnapshotStarted(raftio.SnapshotInfo)     {}
func (hostEvents) SendSnapshotCompleted(raftio.SnapshotInfo)   {}
func (hostEvents) SendSnapshotAborted(raftio.SnapshotInfo)     {}
func (hostEvents) SnapshotReceived(raftio.SnapshotInfo)        {}
func (hostEvents) SnapshotRecovered(raftio.SnapshotInfo)       {}
func (hostEvents) SnapshotCreated(raftio.SnapshotInfo)         {}
func (hostEvents) SnapshotCompacted(raftio.SnapshotInfo)       {}
func (hostEvents) LogCompacted(raftio.EntryInfo)               {}
func (hostEvents) LogDBCompacted(raftio.EntryInfo)             {}
