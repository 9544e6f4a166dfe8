package metrics

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dkvdb/dkv/internal/app/condition"
	"github.com/dkvdb/dkv/internal/histogram"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/storage"
)

// engine reports what the storage engines of a node's vBuckets have counted.
type engine struct {
	compaction, levelFiles, levelBytes, filter, syncs *prometheus.Desc
}

func newEngine(database string) *engine {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, Constant(database))
	}
	return &engine{
		compaction: desc("dkv_storage_compaction_duration_seconds",
			"Time spent compacting, and over how many compactions; zero if the engine does not tell.", "vbucket"),
		levelFiles: desc("dkv_storage_level_files", "Sorted files by level; levels above 0 without files are left out.", "vbucket", "level"),
		levelBytes: desc("dkv_storage_level_bytes", "Size of the sorted files by level; levels above 0 without files are left out.", "vbucket", "level"),
		filter: desc("dkv_storage_filter_reads_total",
			"Reads of sorted files by what their bloom filters said: skipped (the file was not read), found (it was, and had the key) and useless (it was, in vain).", "vbucket", "result"),
		syncs: desc("dkv_storage_sync_duration_seconds", "How long fsyncs of the engines' write-ahead logs took, over all vBuckets."),
	}
}

// describe sends the descriptions.
func (e *engine) describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{e.compaction, e.levelFiles, e.levelBytes, e.filter, e.syncs} {
		ch <- d
	}
}

// collect sends the metrics of all vBuckets.
func (e *engine) collect(ch chan<- prometheus.Metric, vBuckets []condition.VBucket, stored []replica.Usage) {
	var syncs histogram.Counts
	for i := range vBuckets {
		e.collectOne(ch, vBuckets[i].Name, &stored[i].Storage)
		syncs.Add(&stored[i].Storage.Counted.Syncs)
	}
	ch <- Histogram(e.syncs, &syncs)
}

func (e *engine) collectOne(ch chan<- prometheus.Metric, name string, s *storage.Stats) {
	ch <- prometheus.MustNewConstSummary(e.compaction, s.Compactions, s.CompactionTime.Seconds(), nil, name)
	for level, l := range s.ByLevel {
		if l.Files > 0 || level == 0 {
			ch <- prometheus.MustNewConstMetric(e.levelFiles, Gauge, float64(l.Files), name, strconv.Itoa(level))
			ch <- prometheus.MustNewConstMetric(e.levelBytes, Gauge, float64(l.Bytes), name, strconv.Itoa(level))
		}
	}
	c := &s.Counted
	for result, n := range map[string]uint64{
		"skipped": c.FilterSkipped, "found": c.FilterFound, "useless": c.FilterPassed - min(c.FilterFound, c.FilterPassed),
	} {
		ch <- prometheus.MustNewConstMetric(e.filter, Counter, float64(n), name, result)
	}
}

// Histogram is a metric of durations that were counted.
func Histogram(d *prometheus.Desc, c *histogram.Counts, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstHistogram(d, c.Total(), c.Sum.Seconds(), c.Cumulative(), labels...)
}
