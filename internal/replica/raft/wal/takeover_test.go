package wal

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
	"github.com/lni/dragonboat/v4/statemachine"

	"github.com/dkvdb/dkv/internal/testkit"
)

// counter is a state machine that keeps nothing but how far it is. It outlasts its host.
type counter struct{ applied uint64 }

func (c *counter) Open(<-chan struct{}) (uint64, error) { return c.applied, nil }
func (c *counter) Update(ents []statemachine.Entry) ([]statemachine.Entry, error) {
	c.applied = ents[len(ents)-1].Index
	return ents, nil
}
func (c *counter) Lookup(any) (any, error)       { return c.applied, nil }
func (c *counter) Sync() error                   { return nil }
func (c *counter) PrepareSnapshot() (any, error) { return c.applied, nil }
func (c *counter) SaveSnapshot(any, io.Writer, <-chan struct{}) error {
	return nil
}
func (c *counter) RecoverFromSnapshot(io.Reader, <-chan struct{}) error { return nil }
func (c *counter) Close() error                                         { return nil }

// formerHost runs Dragonboat with the log that earlier releases had, or with ours.
func formerHost(t *testing.T, dir, address string, factory config.LogDBFactory) *dragonboat.NodeHost {
	t.Helper()
	nh, err := dragonboat.NewNodeHost(config.NodeHostConfig{
		NodeHostDir: dir, RTTMillisecond: 5, RaftAddress: address,
		Expert: config.ExpertConfig{LogDB: config.GetTinyMemLogDBConfig(), LogDBFactory: factory},
	})
	if err != nil {
		t.Fatal(err)
	}
	return nh
}

func startShard(t *testing.T, nh *dragonboat.NodeHost, shard uint64, address string, machine *counter) {
	t.Helper()
	c := config.Config{ReplicaID: 1, ShardID: shard, ElectionRTT: 10, HeartbeatRTT: 2, CheckQuorum: true, CompactionOverhead: 5}
	if err := nh.StartOnDiskReplica(map[uint64]string{1: address}, false, func(uint64, uint64) statemachine.IOnDiskStateMachine { return machine }, c); err != nil {
		t.Fatal(err)
	}
}

func propose(t *testing.T, nh *dragonboat.NodeHost, shard uint64, n int) {
	t.Helper()
	for i := range n {
		testkit.Eventually(t, "a proposal is decided", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			_, err := nh.SyncPropose(ctx, nh.GetNoOPSession(shard), bytes.Repeat([]byte{byte(i)}, 300))
			return err == nil
		})
	}
}

// seen is what a log has of a shard, as Dragonboat sees it.
func seen(t *testing.T, l raftio.ILogDB, shard uint64) string {
	t.Helper()
	b, err := l.GetBootstrapInfo(shard, 1)
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.GetSnapshot(shard, 1)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := l.ReadRaftState(shard, 1, s.Index)
	if err != nil {
		t.Fatal(err)
	}
	low, n := max(rs.FirstIndex, s.Index+1), rs.EntryCount
	if rs.FirstIndex <= s.Index && n > 0 {
		n -= s.Index + 1 - rs.FirstIndex
	}
	ents, _, err := l.IterateEntries(nil, 0, shard, 1, low, low+n, 1<<40)
	if err != nil || uint64(len(ents)) != n {
		t.Fatalf("%d of %d entries from %d: %v", len(ents), n, low, err)
	}
	out := fmt.Sprintf("%v %+v snapshot %d of term %d;", b.Addresses, rs.State, s.Index, s.Term)
	for i := range ents {
		out += fmt.Sprintf(" %x", pb.MustMarshal(&ents[i]))
	}
	return out
}

// kept hands the log out that Dragonboat opened.
type kept struct {
	config.LogDBFactory
	log raftio.ILogDB
}

func (k *kept) Create(c config.NodeHostConfig, cb config.LogDBCallback, dirs, wals []string) (l raftio.ILogDB, err error) {
	k.log, err = Open(Options{Dir: filepath.Join(dirs[0], "wal"), Log: slog.New(slog.DiscardHandler)})
	return k.log, err
}
func (k *kept) Name() string { return "sharded-pebble" }

// The log of a node of an earlier release is taken over whole: with and without a snapshot,
// twice, since a crash may come between. Dragonboat continues with it.
func TestTakeOver(t *testing.T) {
	dir, address := t.TempDir(), testkit.Address(t)
	nh := formerHost(t, dir, address, nil)
	var machines [3]counter
	for shard := range uint64(3) {
		startShard(t, nh, shard+1, address, &machines[shard])
		propose(t, nh, shard+1, 20)
	}
	if _, err := nh.SyncRequestSnapshot(testkit.Within(t, time.Minute), 2, dragonboat.SnapshotOption{OverrideCompactionOverhead: true, CompactionOverhead: 3}); err != nil {
		t.Fatal(err)
	}
	propose(t, nh, 2, 5)
	nh.Close()
	homes, err := filepath.Glob(filepath.Join(dir, "*", "*", "logdb-0"))
	if err != nil || len(homes) != 1 {
		t.Fatal(homes, err)
	}
	home := filepath.Dir(homes[0])
	opts := Options{Dir: filepath.Join(home, "wal"), Log: slog.New(slog.DiscardHandler)}
	var first []string
	for range 2 {
		if was, err := TakeOver(opts, home); !was || err != nil {
			t.Fatal(was, err)
		}
		l, err := Open(opts)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for shard := range uint64(3) {
			all = append(all, seen(t, l, shard+1))
		}
		if first == nil {
			first = all
		}
		for i := range all {
			if all[i] != first[i] || len(all[i]) < 5*600 {
				t.Errorf("shard %d: %.200s", i+1, all[i])
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	k := &kept{}
	nh = formerHost(t, dir, address, k)
	defer nh.Close()
	for shard := range uint64(3) {
		startShard(t, nh, shard+1, address, &machines[shard])
		propose(t, nh, shard+1, 3)
	}
	if _, err := os.Stat(homes[0]); err != nil {
		t.Error("the earlier log was changed: ", err)
	}
}
