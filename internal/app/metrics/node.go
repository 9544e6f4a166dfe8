package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dkvdb/dkv/internal/app/condition"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/diskspace"
)

// Node reports a node's vBuckets, its disk and its clock, and what its role adds.
type Node struct {
	options  Options
	vBuckets *Table[sample]
	// shared are figures of what all vBuckets share. Each is one series, so that a sum
	// over vBuckets counts nothing twice.
	shared     *Table[sharedSample]
	engine     *engine
	role, mode *prometheus.Desc
}

// Options are what the metrics are read from, at each scrape.
type Options struct {
	Database string
	// Condition judges the node's vBuckets.
	Condition func() []condition.VBucket
	// Stored is what each of them takes, in the same order.
	Stored func() []replica.Usage
	Usage  func() diskspace.Usage
	// Memory is what the process may use, in bytes; 0 is unknown.
	Memory int64
	// Followers counts the slaves that have asked this node for changes of a vBucket.
	Followers func(vBucket string) int
	// Insecure is what other hosts may do without authentication: data, true for everything,
	// or "" for nothing.
	Insecure string
	// SharesCache reports whether the engines of all vBuckets use one cache, which each of
	// them then reports whole.
	SharesCache bool
	// Role is the name of the node's role, Source what that reports besides.
	Role   string
	Source Source
}

// sample is what is read of a vBucket, once for all its metrics.
type sample struct {
	*condition.VBucket
	stored *replica.Usage
	slaves int
}

type sharedSample struct {
	insecure                  string
	cacheBytes, rowCacheBytes uint64
	disk                      diskspace.Usage
	memory                    int64
}

// addCaches adds the caches that the engine of a vBucket reports.
func (s *sharedSample) addCaches(u *storage.Stats, shared bool) {
	s.rowCacheBytes = max(s.rowCacheBytes, u.RowCacheBytes) // one for all
	if shared {
		s.cacheBytes = max(s.cacheBytes, u.CacheBytes)
	} else {
		s.cacheBytes += u.CacheBytes
	}
}

// NewNode makes the collector.
func NewNode(o Options) *Node {
	return &Node{
		options:  o,
		vBuckets: vBucketTable(o.Database),
		shared:   sharedTable(o.Database),
		engine:   newEngine(o.Database),
		role:     prometheus.NewDesc("dkv_node_role", "Always 1; the label says what the node is: none (standalone), master, slave or discovery.", []string{"role"}, Constant(o.Database)),
		mode:     prometheus.NewDesc("dkv_vbucket_mode", "Always 1; the label says how the vBucket's log is kept: local, raft or stream.", []string{"vbucket", "mode"}, Constant(o.Database)),
	}
}

func vBucketTable(database string) *Table[sample] {
	t := NewTable[sample](database, "vbucket")
	t.Add("dkv_applied_index", "The last applied index of the vBucket's log.", Gauge, func(s sample) float64 { return float64(s.Replica.Applied) })
	t.Add("dkv_log_clock_seconds", "The clock of the vBucket's log, in seconds since 1970.", Gauge, func(s sample) float64 { return float64(s.Replica.Clock.UnixMilli()) / 1000 })
	t.Add("dkv_changelog_first_index", "The oldest change that is retained.", Gauge, func(s sample) float64 { return float64(s.Replica.ChangelogFloor) })
	t.Add("dkv_changelog_bytes", "The size of the retained changes.", Gauge, func(s sample) float64 { return float64(s.stored.ChangelogBytes) })
	t.Add("dkv_expired_keys_total", "Keys that expiry has removed.", Counter, func(s sample) float64 { return float64(s.Replica.ExpiredTotal) })
	t.Add("dkv_requests_remembered", "Results of requests with an id that are remembered for retries.", Gauge, func(s sample) float64 { return float64(s.Replica.Requests.Entries) })
	t.Add("dkv_requests_clients", "Clients whose requests are remembered, or what was forgotten of them.", Gauge, func(s sample) float64 { return float64(s.Replica.Requests.Sessions) })
	t.Add("dkv_requests_bytes", "Memory of the requests and clients that are remembered.", Gauge, func(s sample) float64 { return float64(s.Replica.Requests.Bytes) })
	t.Add("dkv_requests_forgotten_total", "Results dropped before their clients had acknowledged them.", Counter, func(s sample) float64 { return float64(s.Replica.Requests.Forgotten) })
	t.Add("dkv_requests_clients_evicted_total", "Clients dropped since there were too many.", Counter, func(s sample) float64 { return float64(s.Replica.Requests.Evicted) })
	t.Add("dkv_requests_too_late_total", "Retries refused since their result may have been forgotten.", Counter, func(s sample) float64 { return float64(s.Replica.Requests.TooLate) })
	t.Add("dkv_writes_refused", "1 while mutations are refused; 0 on a slave, which never accepts any.", Gauge, func(s sample) float64 { return Flag(s.Rejection() != "") })
	t.Add("dkv_storage_corrupt", "1 once a read has met damaged data.", Gauge, func(s sample) float64 { return Flag(s.Replica.Corruption != nil) })
	t.Add("dkv_storage_memtable_bytes", "Memory of writes not yet in sorted files.", Gauge, func(s sample) float64 { return float64(s.stored.Storage.MemtableBytes) })
	t.Add("dkv_storage_sst_files", "Sorted files.", Gauge, func(s sample) float64 { return float64(s.stored.Storage.SSTFiles) })
	t.Add("dkv_storage_disk_bytes", "Size of the live files.", Gauge, func(s sample) float64 { return float64(s.stored.Storage.DiskBytes) })
	t.Add("dkv_storage_keys_estimate", "Estimated number of keys.", Gauge, func(s sample) float64 { return float64(s.stored.Storage.EstimatedKeys) })
	t.Add("dkv_storage_pending_compaction_bytes", "How much compaction is behind.", Gauge, func(s sample) float64 { return float64(s.stored.Storage.PendingCompactionBytes) })
	t.Add("dkv_storage_cache_hits_total", "Blocks that were found in the cache.", Counter, func(s sample) float64 { return float64(s.stored.Storage.Counted.CacheHits) })
	t.Add("dkv_storage_cache_misses_total", "Blocks that were looked up in the cache and had to be read.", Counter, func(s sample) float64 { return float64(s.stored.Storage.Counted.CacheMisses) })
	t.Add("dkv_storage_row_cache_hits_total", "Reads of a key that a row in memory answered.", Counter, func(s sample) float64 { return float64(s.stored.Storage.Counted.RowHits) })
	t.Add("dkv_storage_row_cache_misses_total", "Reads of a key for which there was no row in memory.", Counter, func(s sample) float64 { return float64(s.stored.Storage.Counted.RowMisses) })
	t.Add("dkv_storage_write_stall_seconds_total", "For how long writers were slowed down or stopped until memtables were flushed or files compacted.", Counter, func(s sample) float64 { return s.stored.Storage.Counted.StallTime.Seconds() })
	t.Add("dkv_storage_write_stopped", "1 while writers are stopped until memtables are flushed or files compacted.", Gauge, func(s sample) float64 { return Flag(s.stored.Storage.WriteStopped) })
	t.Add("dkv_replication_slaves", "Slaves that have asked this node for changes lately.", Gauge, func(s sample) float64 { return float64(s.slaves) })
	return t
}

func sharedTable(database string) *Table[sharedSample] {
	t := NewTable[sharedSample](database)
	t.Add("dkv_insecure", "What other hosts may do without authentication: 0 nothing, 1 all but administrative calls, 2 everything.", Gauge, func(s sharedSample) float64 { return exposure(s.insecure) })
	t.Add("dkv_storage_cache_bytes", "Memory of cached blocks.", Gauge, func(s sharedSample) float64 { return float64(s.cacheBytes) })
	t.Add("dkv_storage_row_cache_bytes", "Memory of whole pairs that were read.", Gauge, func(s sharedSample) float64 { return float64(s.rowCacheBytes) })
	t.Add("dkv_disk_free_bytes", "Free bytes of the file system of db-folder.", Gauge, func(s sharedSample) float64 { return float64(s.disk.Free) })
	t.Add("dkv_disk_total_bytes", "Size of the file system of db-folder, without what it keeps for root.", Gauge, func(s sharedSample) float64 { return float64(s.disk.Total) })
	t.Add("dkv_disk_reserve_bytes", "Free bytes below which writes are refused.", Gauge, func(s sharedSample) float64 { return float64(s.disk.Reserve) })
	t.Add("dkv_memory_limit_bytes", "Memory that the process may use: the machine's, or the limit of its container; 0 is unknown.", Gauge, func(s sharedSample) float64 { return float64(s.memory) })
	return t
}

func exposure(insecure string) float64 {
	switch insecure {
	case "":
		return 0
	case "data":
		return 1
	default:
		return 2
	}
}

// Describe implements prometheus.Collector.
func (n *Node) Describe(ch chan<- *prometheus.Desc) {
	n.vBuckets.Describe(ch)
	n.shared.Describe(ch)
	n.engine.describe(ch)
	ch <- n.role
	ch <- n.mode
	n.options.Source.Describe(ch)
}

// Collect implements prometheus.Collector.
func (n *Node) Collect(ch chan<- prometheus.Metric) {
	shared := sharedSample{insecure: n.options.Insecure, disk: n.options.Usage(), memory: n.options.Memory}
	vBuckets := n.options.Condition()
	stored := n.options.Stored()
	for i := range vBuckets {
		v, u := &vBuckets[i], &stored[i]
		n.vBuckets.Collect(ch, sample{v, u, n.options.Followers(v.Name)}, v.Name)
		ch <- prometheus.MustNewConstMetric(n.mode, Gauge, 1, v.Name, string(v.Replica.Mode))
		shared.addCaches(&u.Storage, n.options.SharesCache)
	}
	ch <- prometheus.MustNewConstMetric(n.role, Gauge, 1, n.options.Role)
	n.engine.collect(ch, vBuckets, stored)
	n.shared.Collect(ch, shared)
	n.options.Source.Collect(ch, vBuckets)
}
