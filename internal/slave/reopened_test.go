package slave

import (
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/follower"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/slave/source"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/testkit"
)

// A copy that is at an earlier index after its storage was reopened gets what it lacks, also if its
// masters have nothing new. Until then its age is unknown, and it confirms no more than it has.
func TestReopenedCopyGetsWhatItLacks(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		disk := replicatest.NewRig(t, replicatest.OnDisk)
		s := r.slave(source.Fixed("m1:1"), mode, func(_ *Options, o *follower.Options) {
			o.Options.Open, o.Options.Generations = disk.Opts.Open, disk.Opts.Generations
		})
		s.has(m)
		if err := s.Puller.Sync(); err != nil {
			t.Fatal(err)
		}
		_, synced := s.Position()
		disk.FailWrites(storage.ErrNoSpace)
		m.put("a", "2")
		s.has(m)
		testkit.Eventually(t, "storage has failed", func() bool { return s.Replica.State() == replica.Failed })
		disk.OnWrite(nil)
		testkit.Eventually(t, "storage is reopened", func() bool { return s.Replica.State() == replica.Serving })
		if _, at := s.Position(); at != synced {
			t.Fatalf("it was opened at %d; the test wants what is lost in a crash", at)
		}
		if age := s.Replica.Age(); age != replica.NeverFresh {
			t.Errorf("an earlier state is %v old", age)
		}
		testkit.Eventually(t, "nothing is confirmed that is not there", func() bool {
			p, ok := s.Puller.Progress()
			return !ok || p.Received == p.Applied
		})
		s.has(m)
		time.Sleep(time.Second)
		if p, err := s.Puller.Status(), s.Healthy(); err != nil || p.Age > 700*time.Millisecond || p.Err != nil || p.Bootstraps != 1 {
			t.Errorf("status %+v, %v", p, err)
		}
	})
}
