package slave

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dkvdb/dkv/internal/app/condition"
	"github.com/dkvdb/dkv/internal/app/metrics"
	"github.com/dkvdb/dkv/internal/route"
	"github.com/dkvdb/dkv/internal/slave"
)

// following reports how the copies are kept up to date.
type following struct {
	*metrics.Table[sample]
	// links are about the link to the node that is followed.
	links  *metrics.Table[sample]
	reads  *prometheus.Desc
	copies []*replicated
	router *route.Router
}

// sample is what is read of a vBucket, once for all its metrics.
type sample struct {
	*condition.VBucket
	pulled slave.Status
}

// Metrics implements role.Role.
func (s *Slave) Metrics() metrics.Source {
	t := metrics.NewTable[sample](s.node.Layout.Database, "vbucket")
	t.Add("dkv_replication_lag_seconds", "For how long the state may not have been the newest any more; 86400 if it was not since the start.", metrics.Gauge, func(s sample) float64 { return s.Replica.Age.Seconds() })
	t.Add("dkv_replication_lag_changes", "By how many changes the copy is known to be behind.", metrics.Gauge, func(s sample) float64 { return float64(s.pulled.LagChanges) })
	t.Add("dkv_replication_bytes_total", "Bytes of changes and snapshots received.", metrics.Counter, func(s sample) float64 { return float64(s.pulled.Bytes) })
	t.Add("dkv_replication_compressed_bytes_total", "Bytes of changes and snapshots that arrived compressed (repl-compress).", metrics.Counter, func(s sample) float64 { return float64(s.pulled.Packed) })
	t.Add("dkv_replication_decompressed_bytes_total", "Bytes that these were before they were compressed.", metrics.Counter, func(s sample) float64 { return float64(s.pulled.Plain) })
	t.Add("dkv_replication_contact_seconds", "How long ago a master was heard of.", metrics.Gauge, func(s sample) float64 { return s.pulled.Contact.Seconds() })
	t.Add("dkv_slave_master_switches_total", "How often another master was followed than before.", metrics.Counter, func(s sample) float64 { return float64(s.pulled.Switches) })
	t.Add("dkv_slave_master_moves_total", "How often a master was left for a better one.", metrics.Counter, func(s sample) float64 { return float64(s.pulled.Moves) })
	t.Add("dkv_slave_copy_kept", "1 while the masters that answer cannot be followed by the copy, which is kept until an operator orders a resync.", metrics.Gauge, func(s sample) float64 { return metrics.Flag(s.pulled.Kept != "") })
	t.Add("dkv_slave_bootstraps_total", "Snapshots that replaced the state.", metrics.Counter, func(s sample) float64 { return float64(s.pulled.Bootstraps) })
	t.Add("dkv_slave_bootstrap_bytes", "How much of a snapshot has arrived; 0 if none is under way.", metrics.Gauge, func(s sample) float64 { return float64(s.pulled.Snapshot.Bytes) })
	links := metrics.NewTable[sample](s.node.Layout.Database, "vbucket", "source")
	links.Add("dkv_replication_link_lag_seconds", "For how long the copy may have been behind the node that it follows; what that is behind itself is not in it.", metrics.Gauge, func(s sample) float64 { return s.pulled.Link.Age.Seconds() })
	links.Add("dkv_replication_link_lag_changes", "By how many changes the copy is behind the node that it follows.", metrics.Gauge, func(s sample) float64 { return float64(s.pulled.Link.Lag) })
	links.Add("dkv_replication_path_nodes", "By way of how many nodes changes reach the copy: 1 if it follows one that keeps the log, more if it follows slaves.", metrics.Gauge, func(s sample) float64 { return float64(len(s.pulled.Path)) })
	reads := prometheus.NewDesc("dkv_lease_reads_total", "Linearizable reads by how they were answered.", []string{"vbucket", "path"}, metrics.Constant(s.node.Layout.Database))
	return &following{t, links, reads, s.copies, s.router}
}

// Describe implements metrics.Source.
func (s *following) Describe(ch chan<- *prometheus.Desc) {
	s.Table.Describe(ch)
	s.links.Describe(ch)
	ch <- s.reads
}

// Collect implements metrics.Source.
func (s *following) Collect(ch chan<- prometheus.Metric, vBuckets []condition.VBucket) {
	for i := range vBuckets {
		v := &vBuckets[i]
		pulled := sample{v, s.copies[i].puller.Status()}
		s.Table.Collect(ch, pulled, v.Name)
		if pulled.pulled.Master != "" && len(pulled.pulled.Path) > 0 {
			s.links.Collect(ch, pulled, v.Name, pulled.pulled.Master)
		}
	}
	// A forwarded read may be about several vBuckets.
	ch <- prometheus.MustNewConstMetric(s.reads, metrics.Counter, float64(s.router.Forwards().Reads), "", "forward")
}
