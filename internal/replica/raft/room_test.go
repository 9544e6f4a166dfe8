package raft

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/raft/transport"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/diskspace"
	"github.com/dkvdb/dkv/internal/testkit"
)

// smallDisk is the guard of a node's disk that a test makes too small.
type smallDisk struct {
	dir string
	// full makes nothing fit. afterwards, if it is not nil, does so once there are other
	// files of snapshots than those.
	full       atomic.Bool
	afterwards atomic.Pointer[[]string]
	log        testkit.Log
}

// files are those in the folder of the log whose names end like that.
func (d *smallDisk) files(suffix string) (out []string) {
	_ = filepath.WalkDir(filepath.Join(d.dir, "raft"), func(path string, _ fs.DirEntry, _ error) error {
		if strings.HasSuffix(path, suffix) && !strings.Contains(path, ".receiving/") {
			out = append(out, path)
		}
		return nil
	})
	return out
}

// reserve is what is kept free of the disk: twice what is free, so that nothing fits and
// the disk does not look so full that the replica has to stop.
func (d *smallDisk) reserve(uint64) uint64 {
	if !d.full.Load() {
		before := d.afterwards.Load()
		if before == nil || slices.Equal(*before, d.files(".gbsnap")) {
			return 0
		}
	}
	free, err := diskspace.New(d.dir, func(uint64) uint64 { return 0 })
	if err != nil {
		return 0
	}
	return 2 * free.Usage().Free
}

// onSmallDisk gives every node of a cluster a disk that can be made too small. The log is
// cut often.
func onSmallDisk(disks map[uint64]*smallDisk) func(*cluster) {
	return func(c *cluster) {
		c.every, c.keep = 50, 5
		c.options = func(n *node, opts *Options) {
			d := disks[n.id]
			if d == nil {
				d = &smallDisk{dir: n.path}
				disks[n.id] = d
			}
			guard, err := diskspace.New(n.path, d.reserve)
			if err != nil {
				n.c.t.Fatal(err)
			}
			testkit.Run(n.c.t, func(ctx context.Context) error { guard.Run(ctx, func(bool) {}); return nil })
			opts.Guard, opts.Log = guard, d.log.Logger(slog.LevelInfo)
		}
	}
}

// missMuch has a follower miss more than the log keeps.
func missMuch(c *cluster) (away *node) {
	c.t.Helper()
	away = c.follower()
	away.wantAt(c.put("old", "v"), "old", "v")
	away.kill()
	for i := range 300 {
		c.put(fmt.Sprint("k", i), "v")
	}
	return away
}

// A snapshot that does not fit is not taken, not even in part. The member stays up and
// says what it needs, once, the others serve, and it catches up when there is room.
func TestRaftSnapshotWaitsForRoom(t *testing.T) {
	disks := make(map[uint64]*smallDisk)
	c := newCluster(t, 3, onSmallDisk(disks))
	away := missMuch(c)
	disk := disks[away.id]
	disk.full.Store(true)
	away.start()
	testkit.Eventually(t, "it says that it cannot catch up", func() bool { return away.Status().Behind != nil })
	why := away.Status().Behind
	if text := why.Error(); !errors.Is(why, storage.ErrNoSpace) || !strings.Contains(text, "a snapshot of about 1 MiB from member") || !strings.Contains(text, "free some space or enlarge the disk") {
		t.Errorf("it says %v", why)
	}
	testkit.Eventually(t, "it serves what it has", func() bool { return away.State() == replica.Serving })
	if stored := disk.files(".receiving"); len(stored) != 0 {
		t.Errorf("received nevertheless: %v", stored)
	}
	index := c.put("meanwhile", "v")
	disk.full.Store(false)
	away.wantAt(index, "meanwhile", "v")
	testkit.Eventually(t, "it is no longer behind", func() bool { return away.Status().Behind == nil })
	if n := disk.log.Count("this replica cannot catch up"); n != 1 {
		t.Errorf("the log says %d times that it cannot catch up:\n%s", n, &disk.log)
	}
	if got := away.Stats().SnapshotsReceived; got != 1 {
		t.Errorf("%d snapshots were received", got)
	}
}

// A member that has received a snapshot, and has no room for the state, fails, stays as it
// is until there is room, and goes on then.
func TestRaftStateOfASnapshotWaitsForRoom(t *testing.T) {
	disks := make(map[uint64]*smallDisk)
	c := newCluster(t, 3, onSmallDisk(disks))
	away := missMuch(c)
	disk := disks[away.id]
	before := disk.files(".gbsnap")
	disk.afterwards.Store(&before)
	away.start()
	testkit.Eventually(t, "it has failed", func() bool { return away.State() == replica.Failed })
	if err := away.Status().Err; !errors.Is(err, storage.ErrNoSpace) || !strings.Contains(err.Error(), "the state that a snapshot brings does not fit") {
		t.Errorf("it has failed for %v", err)
	}
	disk.afterwards.Store(nil)
	away.wantAt(c.put("meanwhile", "v"), "meanwhile", "v")
}

// A replica does not come back before there is room for what it has failed for, however
// much room there is besides: it would fail for that again, and again.
func TestRaftStaysFailedUntilThereIsRoom(t *testing.T) {
	c := newCluster(t, 1, onSmallDisk(make(map[uint64]*smallDisk)))
	c.put("k", "v")
	n := c.owner()
	err := n.awaited.fits(n.opts.Guard, 1<<60)
	if !errors.Is(err, storage.ErrNoSpace) {
		t.Fatal(err)
	}
	n.fail(err)
	var opened atomic.Int64
	count := func(string) error { opened.Add(1); return nil }
	n.openFault.Store(&count)
	for range 3 {
		if err := n.rejoin(); !errors.Is(err, storage.ErrNoSpace) {
			t.Errorf("without room it comes back: %v", err)
		}
	}
	if times, state := opened.Load(), n.State(); times != 0 || state != replica.Failed {
		t.Errorf("its state was opened %d times, it is %s", times, state)
	}
	if err := n.awaited.fits(n.opts.Guard, 1); err != nil {
		t.Fatal(err)
	}
	n.wantAt(c.put("l", "v"), "l", "v")
}

// admitted offers a snapshot to a node.
func admitted(t *testing.T, n *node, size uint64) (transport.Admission, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	return n.host.Admit(ctx, transport.Snapshot{Shard: 1, Replica: n.id, From: 9, Size: size})
}

// Room that one snapshot was promised is not promised to the next one, and each further
// part of a snapshot is looked at again.
func TestRaftRoomIsPromisedOnce(t *testing.T) {
	disks := make(map[uint64]*smallDisk)
	c := newCluster(t, 1, onSmallDisk(disks))
	c.put("k", "v")
	n := c.owner()
	free := n.opts.Guard.Usage().Free
	third := free / 3
	first, err := admitted(t, n, third)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admitted(t, n, third); !errors.Is(err, storage.ErrNoSpace) {
		t.Errorf("two snapshots are promised the same room: %v", err)
	}
	if err := first.More(1 << 20); err != nil {
		t.Error(err)
	}
	if got, want := n.Status().Snapshot, (replica.Transfer{Bytes: 1 << 20, Size: third}); got != want {
		t.Errorf("the status has %+v, want %+v", got, want)
	}
	disks[n.id].full.Store(true)
	if err := first.More(1 << 20); !errors.Is(err, storage.ErrNoSpace) {
		t.Errorf("more is taken on a full disk: %v", err)
	}
	disks[n.id].full.Store(false)
	first.Done(false)
	if got := n.Status().Snapshot; got != (replica.Transfer{}) {
		t.Errorf("the status has %+v of a snapshot that was given up", got)
	}
	second, err := admitted(t, n, third)
	if err != nil {
		t.Errorf("what was given up keeps its room: %v", err)
	}
	second.Done(true)
	if _, err := admitted(t, n, third); !errors.Is(err, storage.ErrNoSpace) {
		t.Errorf("the state that is yet to be built has lost its room: %v", err)
	}
	n.host.TakenUp(onHost{n.Replica})
	if _, err := admitted(t, n, third); err != nil {
		t.Errorf("what was taken up keeps its room: %v", err)
	}
}

// Snapshots for what is not here, or has stopped, are refused at once.
func TestRaftSnapshotForNoOneIsRefused(t *testing.T) {
	c := newCluster(t, 1)
	n := c.owner()
	for _, s := range []transport.Snapshot{{Shard: 2, Replica: n.id}, {Shard: 1, Replica: n.id + 1}} {
		if _, err := n.host.Admit(t.Context(), s); err == nil {
			t.Errorf("%+v is admitted", s)
		}
	}
	n.fail(errors.New("the disk is broken"))
	if _, err := n.host.Admit(t.Context(), transport.Snapshot{Shard: 1, Replica: n.id}); err == nil {
		t.Error("a failed replica takes a snapshot")
	}
}
