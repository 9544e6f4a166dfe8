package wal

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/dkvdb/dkv/internal/durable"
	"github.com/dkvdb/dkv/internal/faults"
	"github.com/dkvdb/dkv/internal/histogram"
)

// Options are what a Log is made of.
type Options struct {
	// Dir is the folder of the segments. It is made if it is not there.
	Dir string
	// SegmentSize bounds a segment, in bytes, unless a single write is larger; 64 MiB if 0.
	// A log begins with small ones.
	SegmentSize int64
	// Faults make syncs slow; nil on a node that has not agreed to drills.
	Faults *faults.Faults
	Log    *slog.Logger

	// failWhenFull lets a write fail if there is no room, instead of waiting for it.
	failWhenFull bool
	// disk takes the place of Dir in tests.
	disk disk
}

const (
	defaultSegmentSize = 64 << 20
	// firstSegmentSize is the size of a log's first segment; each is twice as large as the one
	// before, up to SegmentSize.
	firstSegmentSize = 1 << 20
	// flushDelay is how long what nothing waits for, as a commit index, may stay in memory. The
	// group's next write takes it along if there is one before.
	flushDelay = 100 * time.Millisecond
	// recentLimit bounds the entries that are kept in memory, in bytes: those that followers
	// are likely to be sent.
	recentLimit = 8 << 20
)

// Log implements raftio.ILogDB. Its methods are safe for concurrent use, as far as Dragonboat's
// contract asks for it: SaveRaftState is called by one goroutine for each worker.
type Log struct {
	opts Options
	disk disk
	stop chan struct{}
	// stopWaiting is closed when no call is to wait for room any more.
	stopWaiting chan struct{}
	stopOnce    sync.Once
	// background counts the goroutines that Close waits for.
	background sync.WaitGroup

	// mu guards the index: the groups and their blocks, which segments there are, and what is
	// in memory of them.
	mu       sync.RWMutex
	groups   map[raftio.NodeInfo]*group
	segments []*segment // the last one is written to
	recent   recent
	flushing bool // a timer runs, or is about to be handled
	closed   bool

	writer  writer
	spare   spare
	syncs   histogram.Histogram
	written atomic.Uint64 // bytes
	reclaim chan struct{}
}

var _ raftio.ILogDB = (*Log)(nil)

// Open reads the log in a folder, or begins one.
//
// The error is a *NewerError if a newer release has written it, and a *DamageError if what was
// durable is not there any more or is not what was written.
func Open(opts Options) (*Log, error) {
	if opts.SegmentSize == 0 {
		opts.SegmentSize = defaultSegmentSize
	}
	l := &Log{
		opts: opts, disk: opts.disk,
		stop:        make(chan struct{}),
		stopWaiting: make(chan struct{}),
		groups:      make(map[raftio.NodeInfo]*group),
		reclaim:     make(chan struct{}, 1),
	}
	if opts.failWhenFull {
		l.StopWaiting()
	}
	l.recent.limit = recentLimit
	if l.disk == nil {
		// A file that is durable in a folder that is not is lost with it.
		if err := errors.Join(durable.MkdirAll(opts.Dir), durable.SyncDir(filepath.Dir(opts.Dir))); err != nil {
			return nil, err
		}
		l.disk = folder{opts.Dir}
	}
	if err := l.recover(); err != nil {
		return nil, errors.Join(err, l.closeFiles())
	}
	l.background.Go(l.reclaimer)
	return l, nil
}

// Name implements raftio.ILogDB.
func (l *Log) Name() string { return "dkv-wal" }

// BinaryFormat implements raftio.ILogDB. The log's own format is in its segments.
func (l *Log) BinaryFormat() uint32 { return raftio.PlainLogDBBinVersion }

// Close writes what is still in memory and closes the log.
func (l *Log) Close() error {
	l.mu.Lock()
	closed := l.closed
	l.closed = true
	l.mu.Unlock()
	if closed {
		return nil
	}
	l.StopWaiting()
	err := l.flush()
	close(l.stop)
	l.background.Wait()
	return errors.Join(err, l.spare.close(), l.closeFiles())
}

// StopWaiting makes the calls fail that wait for room, from now on. It comes before Dragonboat is
// closed, which waits for them.
func (l *Log) StopWaiting() { l.stopOnce.Do(func() { close(l.stopWaiting) }) }

func (l *Log) closeFiles() (err error) {
	for _, s := range l.segments {
		err = errors.Join(err, s.release())
	}
	return err
}

// SaveRaftState implements raftio.ILogDB. What must not be lost is durable when it returns:
// entries, terms, votes and snapshots. A commit index that has moved alone is in memory; the
// group's next write takes it along, or a timer.
func (l *Log) SaveRaftState(updates []pb.Update, _ uint64) error {
	var records []record
	l.mu.Lock()
	for i := range updates {
		if r, ok := l.record(&updates[i]); ok {
			records = append(records, r)
		}
	}
	l.mu.Unlock()
	if len(records) == 0 {
		return nil
	}
	buf := encodings.Get().(*[]byte)
	q := request{buf: (*buf)[:0]}
	for i := range records {
		q.add(&records[i])
	}
	err := l.write(&q)
	if cap(q.buf) <= maxPooled {
		*buf = q.buf
		encodings.Put(buf)
	}
	return err
}

// encodings are buffers for what is saved.
var encodings = sync.Pool{New: func() any { return new([]byte) }}

// maxPooled is the size, in bytes, of the largest buffer that is kept for another call.
const maxPooled = 256 << 10

// record returns what an update has to be saved before it counts, or false if there is nothing.
// The caller holds mu.
func (l *Log) record(u *pb.Update) (record, bool) {
	g := l.group(raftio.NodeInfo{ShardID: u.ShardID, ReplicaID: u.ReplicaID})
	state := g.state
	if !pb.IsEmptyState(u.State) {
		state = u.State
	}
	r := record{kind: kindUpdate, group: g.id, entries: u.EntriesToSave}
	if !pb.IsEmptySnapshot(u.Snapshot) && u.Snapshot.Index > g.snapshotIndex {
		r.kind, r.snapshot = kindInstalled, pb.MustMarshal(&u.Snapshot)
	}
	if len(r.entries) == 0 && r.snapshot == nil && state.Term == g.saved.Term && state.Vote == g.saved.Vote {
		if g.state = state; g.dirty() {
			l.flushSoon()
		}
		return r, false
	}
	// A commit index that moves past the entries in the same update must not be durable before
	// them, as it might be if it was in memory for all to write.
	if state != g.saved {
		r.state = &state
	}
	return r, true
}

// group returns the group with an id, which is made if it is not there. The caller holds mu.
func (l *Log) group(id raftio.NodeInfo) *group {
	g := l.groups[id]
	if g == nil {
		g = &group{id: id}
		l.groups[id] = g
	}
	return g
}

// ListNodeInfo implements raftio.ILogDB.
func (l *Log) ListNodeInfo() ([]raftio.NodeInfo, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var ids []raftio.NodeInfo
	for id, g := range l.groups {
		if g.bootstrap != nil {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// SaveBootstrapInfo implements raftio.ILogDB.
func (l *Log) SaveBootstrapInfo(shard, replica uint64, b pb.Bootstrap) error {
	return l.writeOne(&record{kind: kindUpdate, group: raftio.NodeInfo{ShardID: shard, ReplicaID: replica}, bootstrap: pb.MustMarshal(&b)})
}

// GetBootstrapInfo implements raftio.ILogDB.
func (l *Log) GetBootstrapInfo(shard, replica uint64) (b pb.Bootstrap, err error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	g := l.groups[raftio.NodeInfo{ShardID: shard, ReplicaID: replica}]
	if g == nil || g.bootstrap == nil {
		return b, raftio.ErrNoBootstrapInfo
	}
	return b, b.Unmarshal(g.bootstrap)
}

// SaveSnapshots implements raftio.ILogDB.
func (l *Log) SaveSnapshots(updates []pb.Update) error {
	var q request
	for i := range updates {
		u := &updates[i]
		if pb.IsEmptySnapshot(u.Snapshot) {
			continue
		}
		r := record{kind: kindUpdate, group: raftio.NodeInfo{ShardID: u.ShardID, ReplicaID: u.ReplicaID}, snapshot: pb.MustMarshal(&u.Snapshot)}
		q.add(&r)
	}
	if len(q.records) == 0 {
		return nil
	}
	return l.write(&q)
}

// GetSnapshot implements raftio.ILogDB: an empty one if there is none.
func (l *Log) GetSnapshot(shard, replica uint64) (s pb.Snapshot, err error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	g := l.groups[raftio.NodeInfo{ShardID: shard, ReplicaID: replica}]
	if g == nil || g.snapshot == nil {
		return s, nil
	}
	return s, s.Unmarshal(g.snapshot)
}

// ReadRaftState implements raftio.ILogDB: the state, and the entries behind last, which is that
// of the newest snapshot.
func (l *Log) ReadRaftState(shard, replica, last uint64) (raftio.RaftState, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	g := l.groups[raftio.NodeInfo{ShardID: shard, ReplicaID: replica}]
	if g == nil || pb.IsEmptyState(g.state) {
		return raftio.RaftState{}, raftio.ErrNoSavedLog
	}
	s := raftio.RaftState{State: g.state, FirstIndex: last}
	// What a snapshot holds was committed. Dragonboat does not start with a commit index before
	// it.
	s.State.Commit = max(s.State.Commit, g.snapshotIndex)
	first, next := g.first(), g.next
	if first >= next || next <= last+1 {
		return s, nil
	}
	if first > last+1 {
		return s, &DamageError{Text: fmt.Sprintf("the log of shard %d begins with entry %d, but the newest snapshot ends with entry %d", shard, first, last)}
	}
	s.FirstIndex, s.EntryCount = last+1, next-last-1
	return s, nil
}

// RemoveEntriesTo implements raftio.ILogDB.
func (l *Log) RemoveEntriesTo(shard, replica, index uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.groups[raftio.NodeInfo{ShardID: shard, ReplicaID: replica}]
	if g == nil || index < g.first() {
		return nil
	}
	l.drop(g.trim(max(index, index+1)))
	g.trimmed = true
	l.flushSoon()
	l.reclaimSoon()
	return nil
}

// CompactEntriesTo implements raftio.ILogDB. What can be given back is, by itself.
func (l *Log) CompactEntriesTo(uint64, uint64, uint64) (<-chan struct{}, error) {
	done := make(chan struct{})
	close(done)
	return done, nil
}

// RemoveNodeData implements raftio.ILogDB.
func (l *Log) RemoveNodeData(shard, replica uint64) error {
	return l.writeOne(&record{kind: kindRemoved, group: raftio.NodeInfo{ShardID: shard, ReplicaID: replica}})
}

// ImportSnapshot implements raftio.ILogDB: the group begins with a snapshot.
func (l *Log) ImportSnapshot(s pb.Snapshot, replica uint64) error {
	id := raftio.NodeInfo{ShardID: s.ShardID, ReplicaID: replica}
	b := pb.Bootstrap{Join: true, Type: s.Type}
	var q request
	q.add(&record{kind: kindRemoved, group: id})
	q.add(&record{kind: kindInstalled, group: id, bootstrap: pb.MustMarshal(&b), snapshot: pb.MustMarshal(&s), state: &pb.State{Term: s.Term, Commit: s.Index}})
	return l.write(&q)
}

func (l *Log) writeOne(r *record) error {
	var q request
	q.add(r)
	return l.write(&q)
}
