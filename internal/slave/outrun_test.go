package slave

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/slave/source"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestASnapshotSlowerThanTheChangelog is loaded again and again. Health says why, and what helps, and no more
// once the copy follows.
func TestASnapshotSlowerThanTheChangelog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.rate.Store(128 << 10)
		m := r.master("m1:1", retain(changelog.Retention{MaxAge: 20 * time.Second}))
		m.fill("k", 4500, 2000) // 70 s
		s := r.slave(source.Fixed("m1:1"), polling)
		writes := time.NewTicker(5 * time.Second)
		defer writes.Stop()
		outrun := func() bool {
			err := s.Healthy()
			return err != nil && strings.Contains(err.Error(), "the last snapshot took 1m") && strings.Contains(err.Error(), "changelog-max-age")
		}
		for begun := time.Now(); !outrun(); <-writes.C {
			if time.Since(begun) > 10*time.Minute {
				t.Fatalf("after %d snapshots it says %v", s.Puller.Status().Bootstraps, s.Healthy())
			}
			m.put("k", "v")
		}
		r.rate.Store(0)
		s.has(m)
		m.put("k", "last")
		testkit.Eventually(t, "it is healthy", func() bool { return s.Healthy() == nil })
		if why := s.Puller.Status().Outrun; why != "" {
			t.Error(why)
		}
	})
}
