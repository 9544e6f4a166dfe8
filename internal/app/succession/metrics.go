package succession

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dkvdb/dkv/internal/app/metrics"
	"github.com/dkvdb/dkv/internal/standby/promotion"
)

// outcomes reports how promotions of a node have ended. What it has become is on its disk: the
// process opens the node again with that.
type outcomes struct {
	service *Service
	desc    *prometheus.Desc
}

// Metrics reports the promotions of the node.
func (s *Service) Metrics() prometheus.Collector {
	return &outcomes{s, prometheus.NewDesc("dkv_promotions_total",
		"Promotions of this node by outcome: promoted if it has become a master and replaced if others have replaced it, as its data folder says; failed, and abandoned by an operator, since the start.",
		[]string{"outcome"}, metrics.Constant(s.node.Layout.Database))}
}

// Describe implements prometheus.Collector.
func (o *outcomes) Describe(ch chan<- *prometheus.Desc) { ch <- o.desc }

// Collect implements prometheus.Collector.
func (o *outcomes) Collect(ch chan<- prometheus.Metric) {
	counts := map[string]uint64{"promoted": 0, "replaced": 0, "failed": 0, "abandoned": 0}
	if r := o.service.part.Promotion; r != nil && r.Step == promotion.Done {
		counts["promoted"] = 1
	}
	if o.service.part.Superseded != nil {
		counts["replaced"] = 1
	}
	if f := o.service.founder; f != nil {
		counts["failed"], counts["abandoned"] = f.Ended()
	}
	for outcome, n := range counts {
		ch <- prometheus.MustNewConstMetric(o.desc, metrics.Counter, float64(n), outcome)
	}
}
