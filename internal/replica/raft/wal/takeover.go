package wal

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/dkvdb/dkv/internal/durable"
	"github.com/dkvdb/dkv/internal/replica/raft/wal/former"
)

// TakeOver makes a log out of that of an earlier release in a folder, if there is one, and
// reports whether there is. It leaves that one as it is: until the caller has noted that the new
// one counts, a crash changes nothing, and TakeOver begins again.
func TakeOver(opts Options, from string) (bool, error) {
	databases, err := former.Databases(from)
	if err != nil || len(databases) == 0 {
		return false, err
	}
	next := opts
	next.Dir, next.failWhenFull = opts.Dir+".new", true
	if err := errors.Join(os.RemoveAll(next.Dir), os.RemoveAll(opts.Dir)); err != nil {
		return true, err
	}
	l, err := Open(next)
	if err != nil {
		return true, err
	}
	err = former.Read(from, l.importGroup, func(id raftio.NodeInfo, ents []pb.Entry) error {
		return l.writeOne(&record{kind: kindUpdate, group: id, entries: ents})
	})
	if err := errors.Join(err, l.Close()); err != nil {
		return true, errors.Join(err, os.RemoveAll(next.Dir))
	}
	if err := os.Rename(next.Dir, opts.Dir); err != nil {
		return true, err
	}
	return true, durable.SyncDir(filepath.Dir(opts.Dir))
}

// importGroup writes all of a group but its entries.
func (l *Log) importGroup(g former.Group) error {
	r := &record{kind: kindUpdate, group: g.ID, bootstrap: pb.MustMarshal(&g.Bootstrap), state: nonEmpty(g.State)}
	if !pb.IsEmptySnapshot(g.Snapshot) {
		// Entries that follow take their place in front of what the snapshot ends with, or
		// behind.
		r.kind, r.snapshot = kindInstalled, pb.MustMarshal(&g.Snapshot)
	}
	return l.writeOne(r)
}
