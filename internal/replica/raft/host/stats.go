package host

import (
	"github.com/lni/dragonboat/v4/raftio"

	"github.com/dkvdb/dkv/internal/replica/raft/wal"
)

// Stats are figures of what all replicas of a host share.
type Stats struct {
	Log wal.Stats
	// Sent and Received are bytes of messages and snapshots.
	Sent, Received uint64
	// Rejected counts connections to the port that were not those of a node of this cluster.
	Rejected uint64
}

// Stats returns the host's figures.
func (h *Host) Stats() Stats {
	s := Stats{Sent: h.traffic.Sent.Load(), Received: h.traffic.Received.Load(), Rejected: h.rejected.Load()}
	if l := h.storage.opened.Load(); l != nil {
		s.Log = l.Stats()
	}
	return s
}

// Window returns the entries that the log has of a replica.
func (h *Host) Window(shard, replica uint64) wal.Window {
	l := h.storage.opened.Load()
	if l == nil {
		return wal.Window{}
	}
	return l.Window(raftio.NodeInfo{ShardID: shard, ReplicaID: replica})
}
