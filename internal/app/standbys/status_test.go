package standbys

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dkvdb/dkv/internal/app/metrics"
	"github.com/dkvdb/dkv/internal/app/node"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/standby/witness"
)

// TestMastersReportTheRecord if they need its lease.
func TestMastersReportTheRecord(t *testing.T) {
	s := &Standbys{node: &node.Node{Config: new(config.Config)}}
	for _, want := range []int{0, 4} {
		ch := make(chan prometheus.Metric, 10)
		s.Metrics(metrics.None{}).Collect(ch, nil)
		if len(ch) != want {
			t.Errorf("%d metrics, want %d", len(ch), want)
		}
		s.record = &record{Standbys: s, keeper: witness.New(witness.Options{})}
	}
}
