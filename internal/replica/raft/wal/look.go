package wal

import (
	"errors"
	"fmt"
	"os"

	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/dkvdb/dkv/internal/storage"
)

// Reader is a log that is only looked at: not even what a start repairs is written. No other
// process may have it open.
type Reader struct{ log *Log }

// Read opens the log in a folder to look at it. The errors are those of Open.
func Read(dir string) (*Reader, error) {
	l := &Log{disk: untouched{folder{dir}}, groups: make(map[raftio.NodeInfo]*group), reclaim: make(chan struct{}, 1)}
	err := l.recover()
	var newer *NewerError
	if errors.As(err, &newer) {
		err = storage.Newer("the Raft log by "+newer.File, uint64(newer.Format), Format)
	}
	if err != nil {
		return nil, errors.Join(err, l.closeFiles())
	}
	return &Reader{l}, nil
}

// Close closes the files.
func (r *Reader) Close() error { return r.log.closeFiles() }

// Extent is what a log has of a group's replica.
type Extent struct {
	// First and Last are its entries; if Last is below First, it has none.
	First, Last uint64
	// Term is the last that the replica has voted in or heard of, Commit the last entry that it
	// knew to be committed.
	Term, Commit uint64
	// Snapshot is the newest one that was made or received; empty for none.
	Snapshot pb.Snapshot
	// Bootstrap has the first members of a new log.
	Bootstrap pb.Bootstrap
}

// Extent returns what the log has of a replica. The error wraps raftio.ErrNoSavedLog if it has nothing.
func (r *Reader) Extent(shard, replica uint64) (e Extent, err error) {
	g := r.log.groups[raftio.NodeInfo{ShardID: shard, ReplicaID: replica}]
	if g == nil || g.bootstrap == nil {
		return e, fmt.Errorf("the log has nothing of replica %d of shard %d: %w", replica, shard, raftio.ErrNoSavedLog)
	}
	e.First, e.Last = g.first(), max(g.next, 1)-1
	e.Term, e.Commit = g.state.Term, max(g.state.Commit, g.snapshotIndex)
	if g.snapshot != nil {
		if err := e.Snapshot.Unmarshal(g.snapshot); err != nil {
			return e, err
		}
	}
	return e, e.Bootstrap.Unmarshal(g.bootstrap)
}

// Entries returns those from low up to but not including high, or as many of them as have about so
// many bytes, but at least one.
func (r *Reader) Entries(shard, replica, low, high, maxSize uint64) ([]pb.Entry, error) {
	entries, _, err := r.log.IterateEntries(nil, 0, shard, replica, low, high, maxSize)
	if err == nil && len(entries) == 0 && low < high {
		err = &DamageError{Text: fmt.Sprintf("the log of shard %d does not show entry %d", shard, low)}
	}
	return entries, err
}

// untouched is a folder in which nothing is changed.
type untouched struct{ folder }

func (d untouched) open(name string) (file, error) {
	f, err := os.Open(d.path(name))
	if err != nil {
		return nil, err
	}
	return unwritten{osFile{f}}, nil
}

func (untouched) create(string, int64, string) (file, error) {
	return nil, errors.New("the log is only looked at")
}

// remove removes nothing: a segment that was never begun is none.
func (untouched) remove(string) error { return nil }

// unwritten is a file that stays as it is. At a start the last frame is written once more; it need
// not be for a look.
type unwritten struct{ osFile }

func (unwritten) writeSync([][]byte, int64) error { return nil }
