package member

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dkvdb/dkv/internal/app/condition"
	"github.com/dkvdb/dkv/internal/app/metrics"
	"github.com/dkvdb/dkv/internal/cluster"
	"github.com/dkvdb/dkv/internal/replica/raft"
	"github.com/dkvdb/dkv/internal/replica/raft/host"
	"github.com/dkvdb/dkv/internal/replica/raft/wal"
)

// source reports the Raft logs of a member and its peers.
type source struct {
	member             *Member
	rafts              *metrics.Table[sample]
	host               *metrics.Table[hostSample]
	peer, reads, syncs *prometheus.Desc
}

// sample is what is read of a vBucket, once for all its metrics.
type sample struct {
	*condition.VBucket
	raft   raft.Stats
	window wal.Window
}

// hostSample is what is read of what all vBuckets share.
type hostSample struct {
	host.Stats
	under int
}

// Metrics implements role.Role.
func (m *Member) Metrics() metrics.Source {
	database := m.node.Layout.Database
	constant := metrics.Constant(database)
	return m.standbys.Metrics(&source{
		member: m,
		rafts:  raftTable(database),
		host:   hostTable(database),
		peer:   prometheus.NewDesc("dkv_raft_peer_healthy", "1 if another member has answered lately.", []string{"peer"}, constant),
		reads:  prometheus.NewDesc("dkv_lease_reads_total", "Linearizable reads by how they were answered.", []string{"vbucket", "path"}, constant),
		syncs:  prometheus.NewDesc("dkv_raft_log_sync_duration_seconds", "How long writes to the Raft log took until they were durable, over all vBuckets.", nil, constant),
	})
}

func hostTable(database string) *metrics.Table[hostSample] {
	t := metrics.NewTable[hostSample](database)
	t.Add("dkv_under_replicated_vbuckets", "vBuckets of this database that have fewer live masters than their clusters have members. Every master that is left reports all of them.",
		metrics.Gauge, func(s hostSample) float64 { return float64(s.under) })
	t.Add("dkv_raft_connections_rejected_total", "Connections to the Raft port that were not those of a node of this cluster.", metrics.Counter, func(s hostSample) float64 { return float64(s.Rejected) })
	t.Add("dkv_raft_sent_bytes_total", "Bytes of Raft messages and snapshots sent to other members.", metrics.Counter, func(s hostSample) float64 { return float64(s.Sent) })
	t.Add("dkv_raft_received_bytes_total", "Bytes of Raft messages and snapshots received from other members.", metrics.Counter, func(s hostSample) float64 { return float64(s.Received) })
	t.Add("dkv_raft_log_disk_bytes", "Size of the Raft log on disk, over all vBuckets.", metrics.Gauge, func(s hostSample) float64 { return float64(s.Log.Bytes) })
	t.Add("dkv_raft_log_written_bytes_total", "Bytes written to the Raft log, over all vBuckets.", metrics.Counter, func(s hostSample) float64 { return float64(s.Log.Written) })
	return t
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
	t.Add("dkv_raft_log_first_index", "The first entry that the Raft log still has: a member that needs an older one is sent the whole state.", metrics.Gauge, func(s sample) float64 { return float64(s.window.First) })
	t.Add("dkv_raft_log_entries", "Entries that the Raft log has.", metrics.Gauge, func(s sample) float64 { return float64(s.window.Next - s.window.First) })
	t.Add("dkv_raft_log_bytes", "Size of the entries that the Raft log has.", metrics.Gauge, func(s sample) float64 { return float64(s.window.Bytes) })
	return t
}

// Describe implements metrics.Source.
func (s *source) Describe(ch chan<- *prometheus.Desc) {
	s.rafts.Describe(ch)
	ch <- s.peer
	ch <- s.reads
	ch <- s.syncs
	s.host.Describe(ch)
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
		s.rafts.Collect(ch, sample{v, stats, s.member.rafts[i].Window()}, v.Name)
	}
	// A forwarded read may be about several vBuckets.
	read(s.member.router.Forwards().Reads, "", "forward")
	for _, p := range s.member.cluster.Peers() {
		ch <- prometheus.MustNewConstMetric(s.peer, metrics.Gauge, metrics.Flag(p.Healthy), p.Name())
	}
	shared := hostSample{s.member.host.Stats(), s.underReplicated(len(vBuckets))}
	ch <- metrics.Histogram(s.syncs, &shared.Log.Syncs)
	s.host.Collect(ch, shared)
}

// underReplicated counts the vBuckets that lack a voting member. All vBuckets have the same
// members, so it is all of them or none. Every member that is left counts them: that so many
// are gone is no reason to report none, and that all count the same is why dashboards and
// alerts take the largest.
func (s *source) underReplicated(vBuckets int) int {
	if s.member.isRemoved() || !slices.ContainsFunc(s.member.cluster.Missing(), func(p cluster.Peer) bool { return p.Voting }) {
		return 0
	}
	return vBuckets
}
