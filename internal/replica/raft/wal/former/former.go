// Package former reads the Raft log of releases that kept it in Pebble, the default of
// Dragonboat, so that a node of such a release can be taken over.
package former

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble"
	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
)

// Group is what the log has of one Raft group's replica.
type Group struct {
	ID        raftio.NodeInfo
	Bootstrap pb.Bootstrap
	// State is empty if the replica never took part.
	State pb.State
	// Snapshot is empty if there is none.
	Snapshot pb.Snapshot
}

// Keys begin with what they are of, twice, and two zeros; then come the group's and the
// replica's number, and for entries and snapshots an index. All numbers are big endian.
const (
	entryKey     = 1
	stateKey     = 2
	lastIndexKey = 3
	snapshotKey  = 5
	bootstrapKey = 6
	// batchKey is that of entries in a format which no release of ours has written.
	batchKey = 7
)

// Databases returns the folders that such a log in a folder is spread over; none if there is no
// log.
func Databases(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "logdb-") {
			names = append(names, filepath.Join(dir, e.Name()))
		}
	}
	return names, err
}

// Remove removes the log in a folder, if there is one.
func Remove(dir string) error {
	names, err := Databases(dir)
	for _, name := range names {
		err = errors.Join(err, os.RemoveAll(name))
	}
	return err
}

// Read calls group with each group of the log in a folder, and then entries with that group's
// entries, in order, some at a time. It changes nothing.
func Read(dir string, group func(Group) error, entries func(raftio.NodeInfo, []pb.Entry) error) error {
	names, err := Databases(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := readDatabase(name, group, entries); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func readDatabase(dir string, group func(Group) error, entries func(raftio.NodeInfo, []pb.Entry) error) (err error) {
	db, err := pebble.Open(dir, &pebble.Options{ReadOnly: true, Logger: quiet{}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	r := reader{db}
	if err := r.scan(key(batchKey), key(batchKey+1), func(_, _ []byte) (bool, error) {
		return false, errors.New("it has entries in a format that no release of DKV has written")
	}); err != nil {
		return err
	}
	var groups []Group
	if err := r.scan(key(bootstrapKey), key(bootstrapKey+1), func(k, v []byte) (bool, error) {
		g := Group{ID: raftio.NodeInfo{ShardID: binary.BigEndian.Uint64(k[4:]), ReplicaID: binary.BigEndian.Uint64(k[12:])}}
		groups = append(groups, g)
		return true, groups[len(groups)-1].Bootstrap.Unmarshal(v)
	}); err != nil {
		return err
	}
	for i := range groups {
		if err := r.read(&groups[i], group, entries); err != nil {
			return fmt.Errorf("shard %d: %w", groups[i].ID.ShardID, err)
		}
	}
	return nil
}

type reader struct{ db *pebble.DB }

// read delivers a group of which the bootstrap record is known.
func (r reader) read(g *Group, group func(Group) error, entries func(raftio.NodeInfo, []pb.Entry) error) error {
	if err := r.get(key(stateKey, g.ID.ShardID, g.ID.ReplicaID), g.State.Unmarshal); err != nil {
		return err
	}
	var last uint64
	if err := r.get(key(lastIndexKey, g.ID.ShardID, g.ID.ReplicaID), func(v []byte) error {
		if len(v) != 8 {
			return errors.New("the last index is not a number")
		}
		last = binary.BigEndian.Uint64(v)
		return nil
	}); err != nil {
		return err
	}
	if err := r.scan(key(snapshotKey, g.ID.ShardID, g.ID.ReplicaID), key(snapshotKey, g.ID.ShardID, g.ID.ReplicaID+1), func(_, v []byte) (bool, error) {
		g.Snapshot = pb.Snapshot{} // the newest is the last
		return true, g.Snapshot.Unmarshal(v)
	}); err != nil {
		return err
	}
	if err := group(*g); err != nil {
		return err
	}
	return r.entries(g.ID, last, entries)
}

// chunk bounds the entries that are delivered at once, in bytes.
const chunk = 1 << 20

// entries delivers the entries up to the last. What is behind it belongs to a log that was
// replaced.
func (r reader) entries(id raftio.NodeInfo, last uint64, deliver func(raftio.NodeInfo, []pb.Entry) error) error {
	var ents []pb.Entry
	size := 0
	err := r.scan(key(entryKey, id.ShardID, id.ReplicaID), key(entryKey, id.ShardID, id.ReplicaID, last+1), func(_, v []byte) (bool, error) {
		var e pb.Entry
		if err := e.Unmarshal(v); err != nil {
			return false, err
		}
		if n := len(ents); size > chunk || n > 0 && e.Index != ents[n-1].Index+1 {
			if err := deliver(id, ents); err != nil {
				return false, err
			}
			ents, size = nil, 0
		}
		ents = append(ents, e)
		size += len(v)
		return true, nil
	})
	if err != nil || len(ents) == 0 {
		return err
	}
	return deliver(id, ents)
}

// get calls use with the value at a key, if there is one.
func (r reader) get(k []byte, use func([]byte) error) error {
	v, closer, err := r.db.Get(k)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(use(v), closer.Close())
}

// scan calls use with the pairs in [low, high), in order, until it returns false.
func (r reader) scan(low, high []byte, use func(k, v []byte) (bool, error)) (err error) {
	it := r.db.NewIter(&pebble.IterOptions{LowerBound: low, UpperBound: high})
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		if more, err := use(it.Key(), it.Value()); err != nil || !more {
			return err
		}
	}
	return it.Error()
}

// key is the key of what is of a kind, with numbers.
func key(kind byte, numbers ...uint64) []byte {
	k := []byte{kind, kind, 0, 0}
	for _, n := range numbers {
		k = binary.BigEndian.AppendUint64(k, n)
	}
	return k
}

// quiet logs nothing: an error is returned as well.
type quiet struct{}

func (quiet) Infof(string, ...any) {}

// Fatalf is called if going on would lose data.
func (quiet) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
