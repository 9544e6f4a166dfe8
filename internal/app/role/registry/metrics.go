package registry

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/discovery"
)

// collector reports what the registry knows of all nodes, read when /metrics/cluster is
// scraped. What it reports of the databases is the same on each node of the registry, so
// that any of them may be scraped; what it reports of the registry itself comes from the
// node that owns the log.
type collector struct {
	opened *atomic.Pointer[discovery.Registry]
	// reader is who reads; nil for one who may know everything.
	reader *auth.Identity

	row, changes, slaves                                       *prometheus.Desc
	rows, vBuckets, leaderless, disputed, under, watchers, age *prometheus.Desc
	refused                                                    *prometheus.Desc
}

// clusterMetrics answers GET /metrics/cluster, with the nodes of the databases that the caller may
// know of.
func (r *Registry) clusterMetrics(w http.ResponseWriter, request *http.Request) {
	of := r.gatherer(auth.FromContext(request.Context()))
	promhttp.HandlerFor(of, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}).ServeHTTP(w, request)
}

// gatherer is what GET /metrics/cluster gathers for a reader.
func (r *Registry) gatherer(reader *auth.Identity) prometheus.Gatherer {
	of := []string{"database", "vbucket", "node"}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	all := prometheus.NewRegistry()
	all.MustRegister(&collector{
		opened:     &r.opened,
		reader:     reader,
		row:        desc("dkv_cluster_node", "1 for each live node of a vBucket.", append(of, "dc", "name", "status")...),
		changes:    desc("dkv_cluster_change_number", "The change number that a node has applied, as it said last.", of...),
		slaves:     desc("dkv_cluster_slaves", "How many slaves follow a node.", of...),
		rows:       desc("dkv_cluster_rows", "Rows of the registry, including those of nodes that are gone.", "status"),
		vBuckets:   desc("dkv_cluster_vbuckets", "vBuckets that have a row."),
		leaderless: desc("dkv_cluster_leaderless_vbuckets", "vBuckets without a live leader."),
		disputed:   desc("dkv_cluster_disputed_vbuckets", "vBuckets that a node of another cluster or history claims to lead."),
		under:      desc("dkv_under_replicated_vbuckets", "vBuckets with fewer live masters than their clusters have members."),
		refused:    desc("dkv_cluster_refused_rows_total", "Heartbeats' rows that were refused, for their cluster or layout, or for a limit.", "reason"),
		watchers:   desc("dkv_cluster_watchers", "Clients that watch the registry."),
		age:        desc("dkv_cluster_heartbeat_age_seconds", "The age of the oldest heartbeat of a live node."),
	})
	return all
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.row, c.changes, c.slaves, c.rows, c.vBuckets, c.leaderless, c.disputed, c.under, c.watchers, c.age, c.refused} {
		ch <- d
	}
}

// scrapeTimeout bounds a scrape, which may have to wait for an election.
const scrapeTimeout = 5 * time.Second

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	registry := c.opened.Load()
	if registry == nil {
		return // the node is starting
	}
	send := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	rows, err := registry.Rows(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(c.row, err)
	}
	for _, r := range known(rows, c.reader) {
		of := []string{r.GetDatabase(), r.GetVBucket(), r.GetNodeAddress()}
		send(c.changes, float64(r.GetChangeNumber()), of...)
		send(c.slaves, float64(r.GetSlaves()), of...)
		send(c.row, 1, append(of, r.GetDcID(), r.GetNodeName(), r.GetStatus().String())...)
	}
	if c.reader != nil && !c.reader.Knows("") {
		return // the rest is of all databases
	}
	if all, err := registry.Summary(ctx); err != nil {
		ch <- prometheus.NewInvalidMetric(c.under, err)
	} else {
		send(c.vBuckets, float64(all.GetVBuckets()))
		send(c.leaderless, float64(all.GetLeaderless()))
		send(c.disputed, float64(all.GetDisputed()))
		send(c.under, float64(all.GetUnderReplicated()))
	}
	seen, owner := registry.Observe()
	if !owner {
		return
	}
	for status, n := range seen.Rows {
		send(c.rows, float64(n), status.String())
	}
	for reason, n := range seen.Refused {
		ch <- prometheus.MustNewConstMetric(c.refused, prometheus.CounterValue, float64(n), reason)
	}
	send(c.watchers, float64(seen.Watchers))
	send(c.age, seen.OldestHeartbeat.Seconds())
}
