package identify

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// counts are what the metrics show.
type counts struct {
	reloadFailures atomic.Uint64
	rejections     [8]atomic.Uint64 // in the order of reasons
}

func (c *counts) reject(why reason) {
	for n, r := range reasons {
		if r == why {
			c.rejections[n].Add(1)
		}
	}
}

var (
	identitiesDesc = prometheus.NewDesc("dkv_auth_identities", "Identities in the file that is in use.", nil, nil)
	failuresDesc   = prometheus.NewDesc("dkv_auth_reload_failures_total", "Changed files of identities that could not be used.", nil, nil)
	rejectionsDesc = prometheus.NewDesc("dkv_auth_rejections_total", "Calls with a wrong token or certificate.", []string{"reason"}, nil)
)

// Describe implements prometheus.Collector.
func (f *File) Describe(ch chan<- *prometheus.Desc) {
	ch <- identitiesDesc
	ch <- failuresDesc
	ch <- rejectionsDesc
}

// Collect implements prometheus.Collector.
func (f *File) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(identitiesDesc, prometheus.GaugeValue, float64(f.current.Load().count()))
	ch <- prometheus.MustNewConstMetric(failuresDesc, prometheus.CounterValue, float64(f.counts.reloadFailures.Load()))
	for n, why := range reasons {
		ch <- prometheus.MustNewConstMetric(rejectionsDesc, prometheus.CounterValue, float64(f.counts.rejections[n].Load()), string(why))
	}
}
