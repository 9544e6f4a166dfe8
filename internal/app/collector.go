package app

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/storage/diskspace"
)

// collector reports a node's vBucket as metrics, read when somebody scrapes.
type collector struct {
	node    *node
	metrics []metric
}

// metric is one figure of a scrape.
type metric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*scrape) float64
}

// scrape is what a scrape reads, once for all metrics.
type scrape struct {
	status replica.Status
	usage  diskspace.Usage
}

func newCollector(n *node) *collector {
	c := &collector{node: n}
	labels := prometheus.Labels{"database": n.info.Database, "vbucket": n.cfg.Node.VBucket}
	add := func(name, help string, kind prometheus.ValueType, value func(*scrape) float64) {
		c.metrics = append(c.metrics, metric{desc: prometheus.NewDesc(name, help, nil, labels), kind: kind, value: value})
	}
	gauge, counter := prometheus.GaugeValue, prometheus.CounterValue
	add("dkv_raft_is_leader", "1 where this node leads the vBucket.", gauge, func(s *scrape) float64 { return flag(s.status.IsLeader) })
	add("dkv_raft_term", "The term of the vBucket's log.", gauge, func(s *scrape) float64 { return float64(s.status.Term) })
	add("dkv_raft_commit_index", "The last decided index of the vBucket's log.", gauge, func(s *scrape) float64 { return float64(s.status.Commit) })
	add("dkv_raft_applied_index", "The last applied index of the vBucket's log.", gauge, func(s *scrape) float64 { return float64(s.status.Applied) })
	add("dkv_changelog_first_index", "The oldest change that is retained.", gauge, func(s *scrape) float64 { return float64(s.status.ChangelogFloor) })
	add("dkv_changelog_bytes", "The size of the retained changes.", gauge, func(s *scrape) float64 { return float64(s.status.ChangelogBytes) })
	add("dkv_expired_keys_total", "Keys that expiry has removed.", counter, func(s *scrape) float64 { return float64(s.status.ExpiredTotal) })
	add("dkv_writes_refused", "1 while mutations are refused.", gauge, func(s *scrape) float64 { return flag(s.status.ReadOnly != "") })
	add("dkv_storage_corrupt", "1 once a read has met damaged data.", gauge, func(s *scrape) float64 { return flag(s.status.Corruption != nil) })
	add("dkv_storage_memtable_bytes", "Memory of writes not yet in sorted files.", gauge, func(s *scrape) float64 { return float64(s.status.Storage.MemtableBytes) })
	add("dkv_storage_cache_bytes", "Memory of cached blocks.", gauge, func(s *scrape) float64 { return float64(s.status.Storage.CacheBytes) })
	add("dkv_storage_sst_files", "Sorted files.", gauge, func(s *scrape) float64 { return float64(s.status.Storage.SSTFiles) })
	add("dkv_storage_disk_bytes", "Size of the live files.", gauge, func(s *scrape) float64 { return float64(s.status.Storage.DiskBytes) })
	add("dkv_storage_keys_estimate", "Estimated number of keys.", gauge, func(s *scrape) float64 { return float64(s.status.Storage.EstimatedKeys) })
	add("dkv_storage_compaction_duration_seconds", "Time spent compacting.", counter, func(s *scrape) float64 { return s.status.Storage.CompactionTime.Seconds() })
	add("dkv_storage_pending_compaction_bytes", "How much compaction is behind.", gauge, func(s *scrape) float64 { return float64(s.status.Storage.PendingCompactionBytes) })
	add("dkv_disk_free_bytes", "Free bytes of the file system of db-folder.", gauge, func(s *scrape) float64 { return float64(s.usage.Free) })
	add("dkv_disk_reserve_bytes", "Free bytes below which writes are refused.", gauge, func(s *scrape) float64 { return float64(s.usage.Reserve) })
	return c
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range c.metrics {
		ch <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := &scrape{status: c.node.local.Status(), usage: c.node.guard.Usage()}
	for _, m := range c.metrics {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(s))
	}
}
