package metrics

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dkvdb/dkv/internal/app/condition"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/diskspace"
)

// A cache that the engines of all vBuckets share counts once; caches of their own add up.
func TestCachesOfEnginesAreNotCountedTwice(t *testing.T) {
	vBuckets := []condition.VBucket{{Name: "0"}, {Name: "1"}}
	stored := []replica.Usage{{Storage: storage.Stats{CacheBytes: 40}}, {Storage: storage.Stats{CacheBytes: 30}}}
	for shared, want := range map[bool]float64{true: 40, false: 70} {
		r := prometheus.NewRegistry()
		r.MustRegister(NewNode(Options{
			Database:    "default",
			Condition:   func() []condition.VBucket { return vBuckets },
			Stored:      func() []replica.Usage { return stored },
			Usage:       func() diskspace.Usage { return diskspace.Usage{} },
			Followers:   func(string) int { return 0 },
			SharesCache: shared,
			Source:      None{},
		}))
		families, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := -1.0
		for _, f := range families {
			if f.GetName() == "dkv_storage_cache_bytes" {
				got = f.GetMetric()[0].GetGauge().GetValue()
			}
		}
		if got != want {
			t.Errorf("shared %v: %v bytes, want %v", shared, got, want)
		}
	}
}
