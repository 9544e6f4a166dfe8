// Package metrics holds what a node reports as Prometheus metrics, read at each scrape.
package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dkvdb/dkv/internal/app/condition"
)

// Source is a group of metrics over a node's vBuckets.
type Source interface {
	Describe(chan<- *prometheus.Desc)
	// Collect is given the condition of the node's vBuckets, which was judged for this
	// scrape.
	Collect(chan<- prometheus.Metric, []condition.VBucket)
}

// None is a Source without metrics.
type None struct{}

// Describe implements Source.
func (None) Describe(chan<- *prometheus.Desc) {}

// Collect implements Source.
func (None) Collect(chan<- prometheus.Metric, []condition.VBucket) {}

// Gauge and Counter are the kinds of a metric.
const Gauge, Counter = prometheus.GaugeValue, prometheus.CounterValue

// Table is a list of metrics that are all read from a value of one type, such as the
// status of a vBucket.
type Table[T any] struct {
	constant prometheus.Labels
	labels   []string
	rows     []row[T]
}

type row[T any] struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(T) float64
}

// NewTable makes an empty table whose metrics carry the name of the database and the
// labels given.
func NewTable[T any](database string, labels ...string) *Table[T] {
	return &Table[T]{constant: Constant(database), labels: labels}
}

// Constant are the labels that all metrics of a node have.
func Constant(database string) prometheus.Labels { return prometheus.Labels{"database": database} }

// Add adds a metric.
func (t *Table[T]) Add(name, help string, kind prometheus.ValueType, value func(T) float64) {
	t.rows = append(t.rows, row[T]{prometheus.NewDesc(name, help, t.labels, t.constant), kind, value})
}

// Describe implements prometheus.Collector.
func (t *Table[T]) Describe(ch chan<- *prometheus.Desc) {
	for _, r := range t.rows {
		ch <- r.desc
	}
}

// Collect sends all metrics of a value. labels are the values of those of the table.
func (t *Table[T]) Collect(ch chan<- prometheus.Metric, of T, labels ...string) {
	for _, r := range t.rows {
		ch <- prometheus.MustNewConstMetric(r.desc, r.kind, r.value(of), labels...)
	}
}

// Flag is 1 for true.
func Flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
