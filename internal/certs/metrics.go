package certs

import "github.com/prometheus/client_golang/prometheus"

var (
	failuresDesc = prometheus.NewDesc("dkv_tls_handshake_failures_total", "TLS handshakes that failed, by port and reason.", []string{"port", "reason"}, nil)
	expiryDesc   = prometheus.NewDesc("dkv_tls_certificate_expiry_timestamp_seconds",
		"When a certificate in use expires, in seconds since 1970: the node's own, and the first to expire of the authorities that vouch for it.", []string{"certificate"}, nil)
)

// Describe implements prometheus.Collector.
func (s *Store) Describe(ch chan<- *prometheus.Desc) {
	ch <- failuresDesc
	ch <- expiryDesc
}

// Collect implements prometheus.Collector.
func (s *Store) Collect(ch chan<- prometheus.Metric) {
	for _, e := range s.Expiries() {
		ch <- prometheus.MustNewConstMetric(expiryDesc, prometheus.GaugeValue, float64(e.At.Unix()), e.Of)
	}
	s.mu.Lock()
	ports := s.ports
	s.mu.Unlock()
	for _, f := range ports {
		for reason, n := range f.all() {
			ch <- prometheus.MustNewConstMetric(failuresDesc, prometheus.CounterValue, float64(n), f.port, reason)
		}
	}
}
