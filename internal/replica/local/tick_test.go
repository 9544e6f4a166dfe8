package local_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
)

// While a restore builds another state, this one is read as before.
func TestReadersTickDuringARestore(t *testing.T) {
	var ahead atomic.Int64
	r := replicatest.RunNode(t, replicatest.AheadBy(&ahead))
	r.MustPropose(replicatest.PutUntil("lock", "held", time.Now().Add(time.Minute)))
	back, err := r.BeginRestore()
	if err != nil {
		t.Fatal(err)
	}
	defer back()
	ahead.Store(int64(2 * time.Minute))
	for name, found := range replicatest.Readings {
		if held, err := found(r, "lock"); err != nil || held {
			t.Errorf("%s: %v, %v", name, held, err)
		}
	}
	_, err = r.Propose(t.Context(), replicatest.Put("a", "1"))
	replicatest.WantError(t, err, kv.Unavailable, kv.NotApplied)
}
