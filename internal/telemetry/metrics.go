package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/dkvdb/dkv/internal/version"
)

// NewRegistry returns a registry with the metrics that every process has: those of
// the Go run time and of the process, and dkv_build_info, which is always 1 and has
// the build in its labels.
func NewRegistry(build version.Info) *prometheus.Registry {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "dkv_build_info",
		Help: "Always 1; the labels say which build is running.",
		ConstLabels: prometheus.Labels{
			"version":    build.Version,
			"go_version": build.GoVersion,
			"revision":   build.Revision,
		},
	})
	info.Set(1)
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		info,
	)
	return registry
}
