package certs

import "github.com/prometheus/client_golang/prometheus"

var expiryDesc = prometheus.NewDesc("dkv_tls_certificate_expiry_timestamp_seconds",
	"When a certificate in use expires, in seconds since 1970: the node's own, and the first to expire of the authorities that vouch for it.", []string{"certificate"}, nil)

// Describe implements prometheus.Collector.
func (s *Store) Describe(ch chan<- *prometheus.Desc) { ch <- expiryDesc }

// Collect implements prometheus.Collector.
func (s *Store) Collect(ch chan<- prometheus.Metric) {
	for _, e := range s.Expiries() {
		ch <- prometheus.MustNewConstMetric(expiryDesc, prometheus.GaugeValue, float64(e.At.Unix()), e.Of)
	}
}
