package succession

import (
	"maps"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dkvdb/dkv/internal/app/node"
	"github.com/dkvdb/dkv/internal/standby/promotion"
)

// TestPromotionsAreCountedByOutcome, as the data folder says what the node has become.
func TestPromotionsAreCountedByOutcome(t *testing.T) {
	for _, c := range []struct {
		part promotion.Part
		want map[string]float64
	}{
		{promotion.Part{}, map[string]float64{"promoted": 0, "replaced": 0, "failed": 0, "abandoned": 0}},
		{promotion.Part{Promotion: &promotion.Record{Step: promotion.Sealed}}, map[string]float64{"promoted": 0, "replaced": 0, "failed": 0, "abandoned": 0}},
		{promotion.Part{Promotion: &promotion.Record{Step: promotion.Done}}, map[string]float64{"promoted": 1, "replaced": 0, "failed": 0, "abandoned": 0}},
		{promotion.Part{Superseded: &promotion.Superseded{}}, map[string]float64{"promoted": 0, "replaced": 1, "failed": 0, "abandoned": 0}},
	} {
		s := &Service{node: new(node.Node), part: c.part}
		registry := prometheus.NewRegistry()
		registry.MustRegister(s.Metrics())
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					if l.GetName() == "outcome" {
						got[l.GetValue()] = m.GetCounter().GetValue()
					}
				}
			}
		}
		if !maps.Equal(got, c.want) {
			t.Errorf("%+v: %v, want %v", c.part, got, c.want)
		}
	}
}
