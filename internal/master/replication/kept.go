package replication

import (
	"slices"
	"sync"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
)

const (
	// snapshotPatience is how long a snapshot waits to be resumed after its stream has
	// ended. Even after the last chunk: what was sent may not have arrived.
	snapshotPatience = time.Minute
	// maxKeptSnapshots is how many of a vBucket may wait; a further one replaces the one that has
	// waited longest. A pinned state keeps storage from freeing what was overwritten since. Each
	// vBucket has storage of its own, and the streams of all of them break together.
	maxKeptSnapshots = 4
)

// snapshots are the states that are being sent, or wait to be resumed.
type snapshots struct {
	mu     sync.Mutex
	closed bool
	// byID are those that can be resumed.
	byID map[string]*snapshot
	// waiting are those without readers, the one that has waited longest first.
	waiting []*snapshot
}

// snapshot is a pinned state of a vBucket.
type snapshot struct {
	id, vBucket string
	view        replica.View
	size        uint64
	// evicted is closed when its readers must leave at once.
	evicted chan struct{}

	// Under snapshots.mu: how many streams read it, how often it has waited, and the timer
	// that ends the present wait.
	readers int
	waits   uint64
	expiry  *time.Timer
}

func newSnapshots() *snapshots { return &snapshots{byID: make(map[string]*snapshot)} }

// begin makes a snapshot of a view, which it closes in the end. The caller is a reader of the
// snapshot and must leave it.
func (s *snapshots) begin(vBucket string, view replica.View, size uint64) (*snapshot, error) {
	snap := &snapshot{id: kv.NewID(), vBucket: vBucket, view: view, size: size, evicted: make(chan struct{}), readers: 1}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		view.Close()
		return nil, errStopping
	}
	s.byID[snap.id] = snap
	return snap, nil
}

var errStopping = kv.Errorf(kv.Unavailable, "this node is shutting down; ask another one")

// resume makes the caller a reader of a snapshot that exists, which it must leave.
func (s *snapshots) resume(id, vBucket string) (*snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	snap := s.byID[id]
	if snap == nil || snap.vBucket != vBucket {
		return nil, kv.Errorf(kv.NotFound, "this node has no snapshot %.64q of vBucket %s (any more); begin a new one", id, vBucket)
	}
	snap.readers++
	s.unwait(snap)
	return snap, nil
}

// leave ends the reading that begin or resume began. After its last reader has left, a snapshot
// waits for a while.
func (s *snapshots) leave(snap *snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	snap.readers--
	switch {
	case snap.readers > 0:
	case s.closed, s.byID[snap.id] == nil:
		s.drop(snap)
	default:
		s.waiting = append(s.waiting, snap)
		snap.waits++
		wait := snap.waits
		snap.expiry = time.AfterFunc(snapshotPatience, func() { s.expire(snap, wait) })
		s.bound(snap.vBucket)
	}
}

// bound drops the snapshot of a vBucket that has waited longest if too many of them wait.
func (s *snapshots) bound(vBucket string) {
	var longest *snapshot
	n := 0
	for _, snap := range s.waiting {
		if snap.vBucket != vBucket {
			continue
		}
		if n++; longest == nil {
			longest = snap
		}
	}
	if n > maxKeptSnapshots {
		s.drop(longest)
	}
}

// expire drops a snapshot that was not resumed in time. It ignores the timer of an earlier wait.
func (s *snapshots) expire(snap *snapshot, wait uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if wait == snap.waits && slices.Contains(s.waiting, snap) {
		s.drop(snap)
	}
}

// unwait ends a snapshot's wait, if it is waiting.
func (s *snapshots) unwait(snap *snapshot) {
	if i := slices.Index(s.waiting, snap); i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
		snap.expiry.Stop()
	}
}

// drop releases a snapshot without readers.
func (s *snapshots) drop(snap *snapshot) {
	s.unwait(snap)
	delete(s.byID, snap.id)
	snap.view.Close()
}

// evict gives up all snapshots of a vBucket: those that wait at once, and the others when their
// readers, which it tells to leave, have left.
func (s *snapshots) evict(vBucket string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, snap := range s.byID {
		if snap.vBucket != vBucket {
			continue
		}
		delete(s.byID, id)
		close(snap.evicted)
		if snap.readers == 0 {
			s.drop(snap)
		}
	}
}

// close drops the snapshots that wait, and has the others dropped when their readers leave.
func (s *snapshots) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for len(s.waiting) > 0 {
		s.drop(s.waiting[0])
	}
}

// about is a stream's first chunk, without its data.
func (snap *snapshot) about() *serverpb.SnapshotChunk {
	id := snap.view.Identity()
	return &serverpb.SnapshotChunk{
		SnapshotId:   snap.id,
		ChangeNumber: snap.view.Index(),
		HistoryId:    id.History,
		ClusterId:    id.Cluster,
		Size:         snap.size,
	}
}
