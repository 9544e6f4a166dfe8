package member

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dkvdb/dkv/internal/app/condition"
	"github.com/dkvdb/dkv/internal/app/metrics"
	"github.com/dkvdb/dkv/internal/cluster"
	"github.com/dkvdb/dkv/internal/replica/raft"
)

// source reports the Raft logs of a member and its peers.
type source struct {
	member                       *Member
	rafts                        *metrics.Table[sample]
	peer, reads, under, rejected *prometheus.Desc
}

// sample is what is read of a vBucket, once for all its metrics.
type sample struct {
	*condition.VBucket
	raft raft.Stats
}

// Metrics implements role.Role.
func (m *Member) Metrics() metrics.Source {
	database := m.node.Layout.Database
	constant := metrics.Constant(database)
	return m.standbys.Metrics(&source{
		member: m,
		rafts:  raftTable(database),
		peer:   prometheus.NewDesc("dkv_raft_peer_healthy", "1 if another member has answered lately.", []string{"peer"}, constant),
		reads:  prometheus.NewDesc("dkv_lease_reads_total", "Linearizable reads by how they were answered.", []string{"vbucket", "path"}, constant),
		under: prometheus.NewDesc("dkv_under_replicated_vbuckets",
			"vBuckets that this node leads, or knows no leader of, and that have fewer live masters than their clusters have members.", nil, constant),
		rejected: prometheus.NewDesc("dkv_raft_connections_rejected_total",
			"Connections to the Raft port that were not those of a node of this cluster.", nil, constant),
	})
}

func raftTable(database string) *metrics.Table[sample] {
	t := metrics.NewTable[sample](database, "vbucket")
	t.Add("dkv_raft_is_leader", "1 if this node leads the vBucket.", metrics.Gauge, func(s sample) float64 { return metrics.Flag(s.Replica.IsLeader) })
	t.Add("dkv_raft_term", "The term of the vBucket's log.", metrics.Gauge, func(s sample) float64 { return float64(s.Replica.Term) })
	t.Add("dkv_raft_commit_index", "The last index of the vBucket's log that this node knows to be committed.", metrics.Gauge, func(s sample) float64 { return float64(s.Replica.Commit) })
	t.Add("dkv_raft_applied_index", "The last applied index of the vBucket's log.", metrics.Gauge, func(s sample) float64 { return float64(s.Replica.Applied) })
	t.Add("dkv_raft_leader_changes_total", "How often another member was seen to lead.", metrics.Counter, func(s sample) float64 { return float64(s.raft.LeaderChanges) })
	t.Add("dkv_lease_remaining_seconds", "How long this node may answer reads by itself.", metrics.Gauge, func(s sample) float64 { return s.raft.Remaining.Seconds() })
	t.Add("dkv_lease_wait_outs_total", "Takeovers that had to wait for earlier leases.", metrics.Counter, func(s sample) float64 { return float64(s.raft.WaitOuts) })
	t.Add("dkv_lease_fallbacks_total", "Reads that found no lease.", metrics.Counter, func(s sample) float64 { return float64(s.raft.Fallbacks) })
	t.Add("dkv_lease_activations_total", "Epochs in which this node owned the log.", metrics.Counter, func(s sample) float64 { return float64(s.raft.Activations) })
	t.Add("dkv_raft_snapshots_sent_total", "States sent to members that were far behind.", metrics.Counter, func(s sample) float64 { return float64(s.raft.SnapshotsSent) })
	t.Add("dkv_raft_snapshots_received_total", "States received for being far behind.", metrics.Counter, func(s sample) float64 { return float64(s.raft.SnapshotsReceived) })
	t.Add("dkv_raft_snapshot_sent_bytes_total", "Bytes of states sent to other members.", metrics.Counter, func(s sample) float64 { return float64(s.raft.SnapshotBytes) })
	t.Add("dkv_raft_lag_entries", "Entries of the vBucket's log that are committed and not applied here.", metrics.Gauge, func(s sample) float64 { return float64(s.Replica.Lag) })
	t.Add("dkv_replication_lag_seconds", "For how long the state may not have been the newest any more; 86400 if it was not since the start.", metrics.Gauge, func(s sample) float64 { return s.Replica.Age.Seconds() })
	return t
}

// Describe implements metrics.Source.
func (s *source) Describe(ch chan<- *prometheus.Desc) {
	s.rafts.Describe(ch)
	ch <- s.peer
	ch <- s.reads
	ch <- s.under
	ch <- s.rejected
}

// Collect implements metrics.Source.
func (s *source) Collect(ch chan<- prometheus.Metric, vBuckets []condition.VBucket) {
	read := func(n uint64, vBucket, path string) {
		ch <- prometheus.MustNewConstMetric(s.reads, metrics.Counter, float64(n), vBucket, path)
	}
	for i := range vBuckets {
		v := &vBuckets[i]
		stats := s.member.rafts[i].Stats()
		read(stats.LeaseReads, v.Name, "lease")
		read(stats.Confirmed, v.Name, "readindex")
		s.rafts.Collect(ch, sample{v, stats}, v.Name)
	}
	// A forwarded read may be about several vBuckets.
	read(s.member.router.Forwards().Reads, "", "forward")
	for _, p := range s.member.cluster.Peers() {
		ch <- prometheus.MustNewConstMetric(s.peer, metrics.Gauge, metrics.Flag(p.Healthy), p.Name())
	}
	ch <- prometheus.MustNewConstMetric(s.under, metrics.Gauge, float64(s.underReplicated(vBuckets)))
	ch <- prometheus.MustNewConstMetric(s.rejected, metrics.Counter, float64(s.member.host.Rejected()))
}

// underReplicated counts the vBuckets that this node answers for and that lack a voting
// member. Every member that is left counts those without a leader: that so many are gone
// is no reason to report none.
func (s *source) underReplicated(vBuckets []condition.VBucket) int {
	if s.member.isRemoved() || !slices.ContainsFunc(s.member.cluster.Missing(), func(p cluster.Peer) bool { return p.Voting }) {
		return 0
	}
	under := 0
	for i := range vBuckets {
		if owner := vBuckets[i].Replica.Owner; owner.Self || owner.ID == 0 {
			under++
		}
	}
	return under
}
