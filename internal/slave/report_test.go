package slave

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/replica/follower"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/slave/report"
	"github.com/dkvdb/dkv/internal/slave/source"
	"github.com/dkvdb/dkv/internal/testkit"
)

// owner is the side of a log's owner: it notes what slaves confirm, and says what it wants.
type owner struct {
	peerpb.UnimplementedStandbyServer
	mu       sync.Mutex
	earlier  bool // of an earlier release
	streams  int
	first    *peerpb.Confirmation
	last     *peerpb.Confirmation
	heard    []*peerpb.Confirmation
	times    []time.Time // when each was heard
	wanted   *peerpb.Wanted
	sendings []chan struct{}
}

func (o *owner) Confirm(stream grpc.BidiStreamingServer[peerpb.Confirmation, peerpb.Wanted]) error {
	o.mu.Lock()
	if o.earlier {
		o.mu.Unlock()
		return status.Error(codes.Unimplemented, "unknown service")
	}
	o.streams++
	wake := make(chan struct{}, 1)
	wake <- struct{}{}
	o.sendings = append(o.sendings, wake)
	o.mu.Unlock()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		for {
			select {
			case <-wake:
			case <-ended:
				return
			}
			o.mu.Lock()
			w := o.wanted
			o.mu.Unlock()
			if w != nil {
				_ = stream.Send(w)
			}
		}
	}()
	for first := true; ; first = false {
		m, err := stream.Recv()
		if err != nil {
			return nil
		}
		o.mu.Lock()
		if first {
			o.first = m
		}
		o.last = m
		o.heard, o.times = append(o.heard, m), append(o.times, time.Now())
		o.mu.Unlock()
	}
}

// want tells slaves what the owner wants.
func (o *owner) want(w *peerpb.Wanted) {
	o.mu.Lock()
	defer o.mu.Unlock()
	w.VBucket = "default"
	o.wanted = w
	for _, wake := range o.sendings {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
}

// confirmed waits until a slave has confirmed something.
func (o *owner) confirmed(t *testing.T, what string, is func(*peerpb.Confirmation) bool) *peerpb.Confirmation {
	t.Helper()
	var found *peerpb.Confirmation
	testkit.Eventually(t, what, func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		if i := slices.IndexFunc(o.heard, is); i >= 0 {
			found = o.heard[i]
		}
		return found != nil
	})
	return found
}

// reporting has a slave report to the owners of its log.
func reporting(t *testing.T, r *rig) func(*Options, *follower.Options) {
	return reportingUnless(t, r, nil)
}

// reportingUnless is reporting of a slave that could not become a master while unfit says so.
func reportingUnless(t *testing.T, r *rig, unfit func() error) func(*Options, *follower.Options) {
	return func(o *Options, _ *follower.Options) {
		var rep *report.Reporter
		ready := make(chan struct{})
		o.Moved = func() { <-ready; rep.Moved(0) }
		r.report = func(p *Puller) {
			rep = report.New(report.Options{Disk: "disk1", Address: "slave:1", DC: "dc1", Durable: true, Unfit: unfit, Pool: r.pool, Log: r.log}, p)
			close(ready)
			testkit.Run(t, func(ctx context.Context) error { rep.Run(ctx); return nil })
		}
	}
}

// A slave that could not be a master introduces itself as one that cannot stand by, as
// soon as that is so.
func TestASlaveThatIsUnfitSaysSo(t *testing.T) {
	r := newRig(t)
	m := r.master("m1:1")
	m.put("a", "1")
	var unfit atomic.Bool
	s := r.slave(source.Fixed("m1:1"), streaming, reportingUnless(t, r, func() error {
		if unfit.Load() {
			return errors.New("its key is gone")
		}
		return nil
	}))
	s.has(m)
	m.owner.confirmed(t, "it can stand by", func(c *peerpb.Confirmation) bool { return c.GetDurable() })
	unfit.Store(true)
	m.owner.confirmed(t, "it cannot", func(c *peerpb.Confirmation) bool { return c.GetDisk() != "" && !c.GetDurable() })
}

// A slave tells the owner how far it is and who it is, over one stream. What is not synced is
// not confirmed as synced; once the owner waits for syncs, they come with the changes.
func TestSlaveConfirmsToTheOwner(t *testing.T) {
	r := newRig(t)
	m := r.master("m1:1")
	m.put("a", "1")
	disk := replicatest.NewRig(t, func(d *replicatest.Rig) { replicatest.OnDiskAt(d, t.TempDir()+"/db") })
	s := r.slave(source.Fixed("m1:1"), streaming, reporting(t, r), func(_ *Options, o *follower.Options) {
		o.Options.Open, o.Options.Generations = disk.Opts.Open, disk.Opts.Generations
	})
	s.has(m)
	id, at := s.Position()
	got := m.owner.confirmed(t, "the slave confirms what it has", func(c *peerpb.Confirmation) bool { return c.GetApplied() >= at })
	if got.GetHistory() != id.History || got.GetReceived() < at {
		t.Errorf("confirmed %v", got)
	}
	m.owner.mu.Lock()
	if f := m.owner.first; f.GetDisk() != "disk1" || f.GetStart() == 0 || f.GetAddress() != "slave:1" || !f.GetDurable() || f.GetDc() != "dc1" {
		t.Errorf("introduced as %v", f)
	}
	m.owner.mu.Unlock()

	m.owner.confirmed(t, "what it has is synced", func(c *peerpb.Confirmation) bool { return c.GetSynced() >= at })
	begun, release := disk.HoldWrites()
	defer release()
	next := m.put("a", "2")
	m.owner.confirmed(t, "the slave confirms what it has applied", func(c *peerpb.Confirmation) bool { return c.GetApplied() >= next })
	m.owner.want(&peerpb.Wanted{Listed: true, Sync: true})
	<-begun
	m.owner.mu.Lock()
	if i := slices.IndexFunc(m.owner.heard, func(c *peerpb.Confirmation) bool { return c.GetSynced() >= next }); i >= 0 {
		t.Errorf("confirmed as synced before the sync: %v", m.owner.heard[i])
	}
	m.owner.mu.Unlock()
	release()
	m.owner.confirmed(t, "the slave confirms what it has synced", func(c *peerpb.Confirmation) bool { return c.GetSynced() >= next })

	if err := s.Puller.Seal(t.Context(), "p1"); err != nil {
		t.Fatal(err)
	}
	sealed := m.put("a", "3")
	testkit.Eventually(t, "the slave shows the seal", func() bool { return s.Puller.Status().Phase == Sealed })
	if _, ok := s.Puller.Progress(); ok {
		t.Error("a sealed slave confirms")
	}
	m.owner.mu.Lock()
	defer m.owner.mu.Unlock()
	if m.owner.last.GetReceived() >= sealed {
		t.Errorf("confirmed %v after the seal", m.owner.last)
	}
}

// A slave that the owner waits for follows the owner itself, by a stream, whatever it
// prefers, and returns to its preference when it is not waited for any more.
func TestListedSlaveFollowsTheOwner(t *testing.T) {
	r := newRig(t)
	leads := r.master("m1:1")
	leads.put("a", "1")
	twin := r.twin("m2:1", leads)
	twin.lead("m1:1")
	s := r.slave(source.Fixed("m2:1"), polling, reporting(t, r))
	s.has(leads)
	follows := func(master string, mode Mode) func() bool {
		return func() bool {
			st := s.Puller.Status()
			return st.Phase == Following && st.Master == master && st.Mode == mode
		}
	}
	testkit.Eventually(t, "the slave follows what it prefers", follows("m2:1", Poll))
	leads.owner.want(&peerpb.Wanted{Listed: true})
	testkit.Eventually(t, "the slave follows the owner", follows("m1:1", Stream))
	at := leads.put("b", "1")
	leads.owner.confirmed(t, "what the owner has", func(c *peerpb.Confirmation) bool { return c.GetReceived() >= at })
	twin.sync(leads)
	leads.owner.want(&peerpb.Wanted{})
	testkit.Eventually(t, "the slave follows what it prefers again", follows("m2:1", Poll))
}

// An owner of an earlier release does not serve the stream: the slave follows as ever.
func TestOwnerWithoutStandbys(t *testing.T) {
	r := newRig(t)
	m := r.master("m1:1")
	m.owner.earlier = true
	s := r.slave(source.Fixed("m1:1"), streaming, reporting(t, r))
	m.put("a", "1")
	s.has(m)
	testkit.Eventually(t, "the slave knows the owner", func() bool { return s.Puller.Leader() == "m1:1" })
	m.put("a", "2")
	s.has(m)
}

// A slave that has more than the log, since that has gone back, confirms nothing: the owner
// would take its indexes for those of other changes.
func TestNothingIsConfirmedToALogThatWentBack(t *testing.T) {
	r := newRig(t)
	m := r.master("m1:1")
	m.put("a", "1")
	old := r.twin("m2:1", m)
	m.put("a", "2")
	s := r.slave(source.Fixed("m1:1", "m2:1"), streaming, reporting(t, r))
	s.has(m)
	testkit.Eventually(t, "the slave confirms", func() bool { _, ok := s.Puller.Progress(); return ok })
	m.kill()
	testkit.Eventually(t, "the slave confirms nothing", func() bool { _, ok := s.Puller.Progress(); return !ok })
	testkit.Eventually(t, "the slave has met the other log", func() bool { return old.received() > 0 })
	if p, ok := s.Puller.Progress(); ok {
		t.Errorf("confirmed %+v to a log that has less", p)
	}
}

// TestAStandingSlaveTakesARestoredState of the owner that waits for it, which goes on waiting.
func TestAStandingSlaveTakesARestoredState(t *testing.T) {
	r := newRig(t)
	m := r.master("m1:1")
	m.put("a", "1")
	backup := t.TempDir() + "/backup"
	if err := m.Backup(t.Context(), backup); err != nil {
		t.Fatal(err)
	}
	m.put("a", "2")
	s := r.slave(source.Fixed(m.addr), streaming, reporting(t, r))
	s.has(m)
	m.owner.want(&peerpb.Wanted{Listed: true})
	testkit.Eventually(t, "the slave is waited for", s.Puller.listed.Load)
	if err := m.Restore(t.Context(), backup); err != nil {
		t.Fatal(err)
	}
	m.put("b", "1")
	s.has(m)
	m.put("b", "2")
	s.has(m)
}
