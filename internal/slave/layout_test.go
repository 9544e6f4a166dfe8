package slave

import (
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/replica/follower"
	"github.com/dkvdb/dkv/internal/slave/source"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestMasterWithOtherVBuckets is not followed: a vBucket of the same name has other keys there, so that
// this node would not find its own. Another master with as many is.
func TestMasterWithOtherVBuckets(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		two := func(o *Options, _ *follower.Options) { o.VBuckets = 2 }
		s := r.slave(source.Fixed("m1:1"), mode, two)
		time.Sleep(time.Minute)
		if id, _ := s.Position(); id.History != "" {
			t.Errorf("it has taken the state of a master with 1 vBucket")
		}
		if err := s.Healthy(); err == nil || !strings.Contains(err.Error(), "vbuckets: 1") {
			t.Errorf("health: %v", err)
		}
		one := r.slave(source.Fixed("m1:1"), mode, func(o *Options, _ *follower.Options) { o.VBuckets = 1 })
		one.has(m)
		testkit.Eventually(t, "it is well", func() bool { return one.Healthy() == nil })
	})
}

// TestMasterOfAnotherDatabase is not followed: its keys are others. Another one is.
func TestMasterOfAnotherDatabase(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		s := r.slave(source.Fixed("m1:1"), mode, func(o *Options, _ *follower.Options) { o.Database = "orders" })
		time.Sleep(time.Minute)
		if id, _ := s.Position(); id.History != "" {
			t.Errorf("it has taken the state of another database")
		}
		if err := s.Healthy(); err == nil || !strings.Contains(err.Error(), `database "db"`) || !strings.Contains(err.Error(), `"orders"`) {
			t.Errorf("health: %v", err)
		}
		same := r.slave(source.Fixed("m1:1"), mode, func(o *Options, _ *follower.Options) { o.Database = "db" })
		same.has(m)
		testkit.Eventually(t, "it is well", func() bool { return same.Healthy() == nil })
	})
}
