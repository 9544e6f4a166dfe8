package replication

import (
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/route"
	"github.com/dkvdb/dkv/internal/testkit"
)

// pin is a view that tells when it is closed.
type pin struct {
	replica.View
	closed atomic.Int32
}

func (p *pin) Close() { p.closed.Add(1) }

func wantClosed(t *testing.T, pins []*pin, want ...int32) {
	t.Helper()
	for i, p := range pins {
		if got := p.closed.Load(); got != want[i] {
			t.Errorf("snapshot %d was closed %d times, want %d", i, got, want[i])
		}
	}
}

// TestKeptSnapshots: a few that wait are kept, for a while, and none for longer than
// it is needed.
func TestKeptSnapshots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSnapshots()
		var pins []*pin
		begin := func() *snapshot {
			pins = append(pins, &pin{})
			snap, err := s.begin("v", pins[len(pins)-1], 0)
			if err != nil {
				t.Fatal(err)
			}
			return snap
		}
		broken := begin()
		s.leave(broken)
		time.Sleep(snapshotPatience - time.Second)
		for range 2 { // two streams of one snapshot
			if again, err := s.resume(broken.id, "v"); err != nil || again != broken {
				t.Fatal(err)
			}
		}
		if _, err := s.resume(broken.id, "w"); kv.KindOf(err) != kv.NotFound {
			t.Error(err)
		}
		time.Sleep(2 * snapshotPatience)
		s.leave(broken)
		time.Sleep(2 * snapshotPatience)
		wantClosed(t, pins, 0)
		s.leave(broken)
		time.Sleep(snapshotPatience - time.Second)
		wantClosed(t, pins, 0)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		wantClosed(t, pins, 1)
		if _, err := s.resume(broken.id, "v"); kv.KindOf(err) != kv.NotFound {
			t.Error(err)
		}

		pins = nil
		var waiting []*snapshot
		for range maxKeptSnapshots + 2 {
			waiting = append(waiting, begin())
		}
		for _, snap := range waiting {
			s.leave(snap)
		}
		wantClosed(t, pins, 1, 1, 0, 0, 0, 0)
		read := begin()
		s.close()
		s.close()
		wantClosed(t, pins, 1, 1, 1, 1, 1, 1, 0)
		s.leave(read)
		wantClosed(t, pins, 1, 1, 1, 1, 1, 1, 1)
		late := &pin{}
		if _, err := s.begin("v", late, 0); kv.KindOf(err) != kv.Unavailable || late.closed.Load() != 1 {
			t.Errorf("%v, closed %d times", err, late.closed.Load())
		}
	})
}

// TestSnapshotsOfManyVBucketsAreKept: the line to a slave breaks for all of its vBuckets at once, and
// each of them goes on where it was.
func TestSnapshotsOfManyVBucketsAreKept(t *testing.T) {
	s := newSnapshots()
	defer s.close()
	var all []*snapshot
	for i := range 4 * maxKeptSnapshots {
		snap, err := s.begin(strconv.Itoa(i), &pin{}, 0)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, snap)
	}
	for _, snap := range all {
		s.leave(snap)
	}
	for i, snap := range all {
		if _, err := s.resume(snap.id, snap.vBucket); err != nil {
			t.Errorf("vBucket %d: %v", i, err)
			continue
		}
		s.leave(snap)
	}
}

// kept counts the snapshots that wait to be resumed.
func (s *snapshots) kept() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting)
}

// TestEvictedSnapshots: what keeps storage from being reopened is given up at once,
// whether it is read or not; another vBucket's is not.
func TestEvictedSnapshots(t *testing.T) {
	r := large(t)
	stalled, kept := newTransfer(t), newTransfer(t)
	s := stalled.open(r.Replication)
	if err := kept.receive(r.Replication, 1); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "one is kept", func() bool { return r.service.snapshots.kept() == 1 })
	other := &pin{}
	elsewhere, err := r.service.snapshots.begin("other", other, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.service.snapshots.leave(elsewhere)
	r.service.snapshots.evict("default")
	if err := stalled.drain(s); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "begin a new one") {
		t.Errorf("a stream ends with %v", err)
	}
	for _, x := range []*transfer{stalled, kept} {
		if err := x.receive(r.Replication, 1); status.Code(err) != codes.NotFound {
			t.Errorf("it is resumed: %v", err)
		}
	}
	if err := r.Local.Close(); err != nil { // waits for all readers
		t.Error(err)
	}
	if other.closed.Load() != 0 {
		t.Error("another vBucket's was given up")
	}
}

// reopening is a replica that reopens its storage.
type reopening struct {
	replica.Replica
	heldUp func()
}

func (r *reopening) WhenHeldUp(f func()) { r.heldUp = f }

// TestSnapshotsMakeWay: a replica that needs its storage to itself has the snapshots
// given up.
func TestSnapshotsMakeWay(t *testing.T) {
	r := &reopening{}
	s := New(route.NewKeyspace(route.VBucket{Name: "v", Replica: r}), nil)
	defer s.Close()
	view := &pin{}
	snap, err := s.snapshots.begin("v", view, 0)
	if err != nil {
		t.Fatal(err)
	}
	s.snapshots.leave(snap)
	r.heldUp()
	r.heldUp()
	wantClosed(t, []*pin{view}, 1)
}
