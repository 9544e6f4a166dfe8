package app

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dkvdb/dkv/internal/cluster"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/slave"
	"github.com/dkvdb/dkv/internal/storage/diskspace"
)

// collector reports a node's vBuckets as metrics, read at each scrape.
type collector struct {
	node    *node
	metrics []metric
	// shared are figures of what all vBuckets of the node share. Each is one series
	// of its own, so that a sum over vBuckets counts nothing twice.
	shared     []metric
	compaction *prometheus.Desc
	peer       *prometheus.Desc
	reads      *prometheus.Desc
	under      *prometheus.Desc
}

// metric is one figure of a scrape.
type metric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*scrape) float64
}

// scrape is what a scrape reads of a vBucket, once for all metrics.
type scrape struct {
	status replica.Status
	usage  diskspace.Usage
	raft   replica.RaftStats
	pulled slave.Status
	slaves int
}

func newCollector(n *node) *collector {
	constant := prometheus.Labels{"database": n.info.Database}
	c := &collector{
		node: n,
		compaction: prometheus.NewDesc("dkv_storage_compaction_duration_seconds",
			"Time spent compacting, and over how many compactions; zero where the engine does not tell.", []string{"vbucket"}, constant),
		peer:  prometheus.NewDesc("dkv_raft_peer_healthy", "1 where another member has answered lately.", []string{"peer"}, constant),
		reads: prometheus.NewDesc("dkv_lease_reads_total", "Linearizable reads by how they were answered.", []string{"vbucket", "path"}, constant),
	}
	c.under = prometheus.NewDesc("dkv_under_replicated_vbuckets", "vBuckets that this node leads, or knows no leader of, and that have fewer live masters than their clusters have members.", nil, constant)
	add := func(name, help string, kind prometheus.ValueType, value func(*scrape) float64) {
		c.metrics = append(c.metrics, metric{desc: prometheus.NewDesc(name, help, []string{"vbucket"}, constant), kind: kind, value: value})
	}
	c.describe(add)
	describeShared(func(name, help string, kind prometheus.ValueType, value func(*scrape) float64) {
		c.shared = append(c.shared, metric{desc: prometheus.NewDesc(name, help, nil, constant), kind: kind, value: value})
	})
	switch {
	case n.cluster != nil:
		c.describeRaft(add)
	case n.cfg.Role == config.RoleSlave:
		c.describeSlave(add)
	}
	return c
}

type adder func(name, help string, kind prometheus.ValueType, value func(*scrape) float64)

const gauge, counter = prometheus.GaugeValue, prometheus.CounterValue

func (*collector) describe(add adder) {
	add("dkv_applied_index", "The last applied index of the vBucket's log.", gauge, func(s *scrape) float64 { return float64(s.status.Applied) })
	add("dkv_log_clock_seconds", "The clock of the vBucket's log, in seconds since 1970.", gauge, func(s *scrape) float64 { return float64(s.status.Clock.UnixMilli()) / 1000 })
	add("dkv_changelog_first_index", "The oldest change that is retained.", gauge, func(s *scrape) float64 { return float64(s.status.ChangelogFloor) })
	add("dkv_changelog_bytes", "The size of the retained changes.", gauge, func(s *scrape) float64 { return float64(s.status.ChangelogBytes) })
	add("dkv_expired_keys_total", "Keys that expiry has removed.", counter, func(s *scrape) float64 { return float64(s.status.ExpiredTotal) })
	add("dkv_requests_remembered", "Results of requests with an id that are remembered for retries.", gauge, func(s *scrape) float64 { return float64(s.status.Requests.Entries) })
	add("dkv_requests_clients", "Clients whose requests are remembered, or what was forgotten of them.", gauge, func(s *scrape) float64 { return float64(s.status.Requests.Sessions) })
	add("dkv_requests_bytes", "Memory of the requests and clients that are remembered.", gauge, func(s *scrape) float64 { return float64(s.status.Requests.Bytes) })
	add("dkv_requests_forgotten_total", "Results dropped before their clients had acknowledged them.", counter, func(s *scrape) float64 { return float64(s.status.Requests.Forgotten) })
	add("dkv_requests_clients_evicted_total", "Clients dropped since there were too many.", counter, func(s *scrape) float64 { return float64(s.status.Requests.Evicted) })
	add("dkv_requests_too_late_total", "Retries refused since their result may have been forgotten.", counter, func(s *scrape) float64 { return float64(s.status.Requests.TooLate) })
	add("dkv_writes_refused", "1 while mutations are refused.", gauge, func(s *scrape) float64 { return flag(s.status.ReadOnly != "") })
	add("dkv_storage_corrupt", "1 once a read has met damaged data.", gauge, func(s *scrape) float64 { return flag(s.status.Corruption != nil) })
	add("dkv_storage_memtable_bytes", "Memory of writes not yet in sorted files.", gauge, func(s *scrape) float64 { return float64(s.status.Storage.MemtableBytes) })
	add("dkv_storage_sst_files", "Sorted files.", gauge, func(s *scrape) float64 { return float64(s.status.Storage.SSTFiles) })
	add("dkv_storage_disk_bytes", "Size of the live files.", gauge, func(s *scrape) float64 { return float64(s.status.Storage.DiskBytes) })
	add("dkv_storage_keys_estimate", "Estimated number of keys.", gauge, func(s *scrape) float64 { return float64(s.status.Storage.EstimatedKeys) })
	add("dkv_storage_pending_compaction_bytes", "How much compaction is behind.", gauge, func(s *scrape) float64 { return float64(s.status.Storage.PendingCompactionBytes) })
	add("dkv_replication_slaves", "Slaves that have asked this node for changes lately.", gauge, func(s *scrape) float64 { return float64(s.slaves) })
}

func describeShared(add adder) {
	add("dkv_storage_cache_bytes", "Memory of cached blocks.", gauge, func(s *scrape) float64 { return float64(s.status.Storage.CacheBytes) })
	add("dkv_disk_free_bytes", "Free bytes of the file system of db-folder.", gauge, func(s *scrape) float64 { return float64(s.usage.Free) })
	add("dkv_disk_total_bytes", "Size of the file system of db-folder.", gauge, func(s *scrape) float64 { return float64(s.usage.Total) })
	add("dkv_disk_reserve_bytes", "Free bytes below which writes are refused.", gauge, func(s *scrape) float64 { return float64(s.usage.Reserve) })
}

func (*collector) describeRaft(add adder) {
	add("dkv_raft_is_leader", "1 where this node leads the vBucket.", gauge, func(s *scrape) float64 { return flag(s.status.IsLeader) })
	add("dkv_raft_term", "The term of the vBucket's log.", gauge, func(s *scrape) float64 { return float64(s.status.Term) })
	add("dkv_raft_commit_index", "The last index of the vBucket's log that this node knows to be decided.", gauge, func(s *scrape) float64 { return float64(s.status.Commit) })
	add("dkv_raft_applied_index", "The last applied index of the vBucket's log.", gauge, func(s *scrape) float64 { return float64(s.status.Applied) })
	add("dkv_raft_leader_changes_total", "How often another member was seen to lead.", counter, func(s *scrape) float64 { return float64(s.raft.LeaderChanges) })
	add("dkv_lease_remaining_seconds", "How long this node may answer reads by itself.", gauge, func(s *scrape) float64 { return s.raft.Remaining.Seconds() })
	add("dkv_lease_wait_outs_total", "Takeovers that had to wait for earlier leases.", counter, func(s *scrape) float64 { return float64(s.raft.WaitOuts) })
	add("dkv_lease_fallbacks_total", "Reads that found no lease.", counter, func(s *scrape) float64 { return float64(s.raft.Fallbacks) })
	add("dkv_lease_activations_total", "Epochs in which this node owned the log.", counter, func(s *scrape) float64 { return float64(s.raft.Activations) })
	add("dkv_raft_snapshots_sent_total", "States sent to members that were far behind.", counter, func(s *scrape) float64 { return float64(s.raft.SnapshotsSent) })
	add("dkv_raft_snapshots_received_total", "States received for being far behind.", counter, func(s *scrape) float64 { return float64(s.raft.SnapshotsReceived) })
	add("dkv_raft_snapshot_sent_bytes_total", "Bytes of states sent to other members.", counter, func(s *scrape) float64 { return float64(s.raft.SnapshotBytes) })
	add("dkv_raft_lag_entries", "Entries of the vBucket's log that are decided and not applied here.", gauge, func(s *scrape) float64 { return float64(s.status.Lag) })
	addLag(add)
}

func addLag(add adder) {
	add("dkv_replication_lag_seconds", "For how long the state may not have been the newest any more; 86400 if it was not since the start.", gauge, func(s *scrape) float64 { return s.status.Age.Seconds() })
}

func (*collector) describeSlave(add adder) {
	addLag(add)
	add("dkv_replication_lag_changes", "By how many changes the copy is known to be behind.", gauge, func(s *scrape) float64 { return float64(s.pulled.LagChanges) })
	add("dkv_replication_bytes_total", "Bytes of changes and snapshots received.", counter, func(s *scrape) float64 { return float64(s.pulled.Bytes) })
	add("dkv_replication_contact_seconds", "How long ago a master was heard of.", gauge, func(s *scrape) float64 { return s.pulled.Contact.Seconds() })
	add("dkv_slave_master_switches_total", "How often another master was followed than before.", counter, func(s *scrape) float64 { return float64(s.pulled.Switches) })
	add("dkv_slave_master_moves_total", "How often a master was left for a better one.", counter, func(s *scrape) float64 { return float64(s.pulled.Moves) })
	add("dkv_slave_copy_kept", "1 while masters answer that the copy cannot follow and does not give way to without an order.", gauge, func(s *scrape) float64 { return flag(s.pulled.Kept != "") })
	add("dkv_slave_bootstraps_total", "Snapshots that replaced the state.", counter, func(s *scrape) float64 { return float64(s.pulled.Bootstraps) })
	add("dkv_slave_bootstrap_bytes", "How much of a snapshot has arrived; 0 where none is under way.", gauge, func(s *scrape) float64 { return float64(s.pulled.Snapshot.Bytes) })
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range append(c.metrics, c.shared...) {
		ch <- m.desc
	}
	ch <- c.compaction
	if c.node.cluster != nil {
		ch <- c.peer
		ch <- c.reads
		ch <- c.under
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	usage := c.node.guard.Usage()
	shared := &scrape{usage: usage}
	for _, v := range c.node.vBuckets {
		s := &scrape{status: v.Status(), usage: usage, slaves: c.node.replication.Followers(v.name)}
		switch r := v.hosted.(type) {
		case *followed:
			s.pulled = r.puller.Status()
		case *replica.Raft:
			s.raft = r.RaftStats()
			ch <- prometheus.MustNewConstMetric(c.reads, counter, float64(s.raft.LeaseReads), v.name, "lease")
			ch <- prometheus.MustNewConstMetric(c.reads, counter, float64(s.raft.Confirmed), v.name, "readindex")
		}
		for _, m := range c.metrics {
			ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(s), v.name)
		}
		st := &s.status.Storage
		ch <- prometheus.MustNewConstSummary(c.compaction, st.Compactions, st.CompactionTime.Seconds(), nil, v.name)
		// Each engine tells of the whole cache.
		shared.status.Storage.CacheBytes = max(shared.status.Storage.CacheBytes, st.CacheBytes)
	}
	for _, m := range c.shared {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(shared))
	}
	if c.node.cluster == nil {
		return
	}
	// A forwarded read may be about several vBuckets.
	ch <- prometheus.MustNewConstMetric(c.reads, counter, float64(c.node.router.Forwards().Reads), "", "forward")
	for _, p := range c.node.cluster.Peers() {
		ch <- prometheus.MustNewConstMetric(c.peer, gauge, flag(p.Healthy), p.Name())
	}
	ch <- prometheus.MustNewConstMetric(c.under, gauge, float64(c.node.underReplicated()))
}

// underReplicated counts the vBuckets that this node answers for and that lack a voting
// member. Those without a leader count on every member that is left: that so many are
// gone is no reason to tell of none.
func (n *node) underReplicated() int {
	if n.isRemoved() || !slices.ContainsFunc(n.cluster.Missing(), func(p cluster.Peer) bool { return p.Voting }) {
		return 0
	}
	under := 0
	for _, v := range n.vBuckets {
		if owner := v.Status().Owner; owner.Self || owner.ID == 0 {
			under++
		}
	}
	return under
}
