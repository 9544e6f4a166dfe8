package ops

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
)

// Hundreds of clients that scrape all the time have all metrics gathered a few times a
// second, and each of them gets metrics that were gathered after its request.
func TestMetricsAreGatheredForAllAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var gathered atomic.Int64
		s := &shared{from: gatherFunc(func() ([]*dto.MetricFamily, error) {
			n := gathered.Add(1)
			time.Sleep(5 * time.Millisecond)
			return []*dto.MetricFamily{{Metric: []*dto.Metric{{Counter: &dto.Counter{Value: proto.Float64(float64(n))}}}}}, nil
		})}
		begun := time.Now()
		if _, err := s.Gather(); err != nil || time.Since(begun) > 10*time.Millisecond {
			t.Errorf("the first one waits for %v, %v", time.Since(begun), err)
		}
		var askers sync.WaitGroup
		for range 200 {
			askers.Go(func() {
				for time.Since(begun) < 2*time.Second {
					before := gathered.Load()
					families, err := s.Gather()
					if err != nil || families[0].GetMetric()[0].GetCounter().GetValue() <= float64(before) {
						t.Errorf("asked after %d, and got %v, %v", before, families, err)
					}
				}
			})
		}
		askers.Wait()
		if n := gathered.Load(); n > 2*int64(time.Second/gatherPause)+2 || n < 10 {
			t.Errorf("gathered %d times in 2 seconds", n)
		}
	})
}
