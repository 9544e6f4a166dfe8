// Package mastertest starts the services of masters for tests: one node over a replica in
// memory, and clusters in which the test decides who owns a vBucket. It imports neither
// package master nor replication, so that the tests of both can use it: each registers the
// services that it tests.
package mastertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/clock"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/local"
	"github.com/dkvdb/dkv/internal/replica/state"
	"github.com/dkvdb/dkv/internal/route"
	"github.com/dkvdb/dkv/internal/server/servertest"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/memory"
	"github.com/dkvdb/dkv/internal/testkit"
)

// Node is one node as clients see it: services over gRPC, over a replica in memory.
type Node struct {
	T *testing.T
	serverpb.DKVClient
	Ops         serverpb.DKVNodeClient
	Replication serverpb.DKVReplicationClient
	Backups     serverpb.DKVBackupRestoreClient
	Cluster     serverpb.DKVClusterClient

	Conn     *grpc.ClientConn
	Local    *local.Replica
	Keyspace *route.Keyspace
	Root     string // backup-dir
	now      atomic.Int64
	fault    atomic.Pointer[error]
}

// Epoch is the nodes' wall clock at their start, in epoch seconds.
const Epoch = 2_000_000_000

// Sleep moves the node's clock.
func (r *Node) Sleep(seconds int64) { r.now.Add(seconds * 1000) }

// FailWrites makes storage fail from now on.
func (r *Node) FailWrites(err error) { r.fault.Store(&err) }

// New starts a node. services makes what it serves, before its server starts; change, if it
// is not nil, changes the options of its replica.
func New(t testing.TB, services func(*Node) func(grpc.ServiceRegistrar), change func(*local.Options)) *Node {
	t.Helper()
	r := &Node{Root: filepath.Join(t.TempDir(), "backups")}
	r.T, _ = t.(*testing.T)
	r.now.Store(Epoch * 1000)
	opts := r.options()
	if change != nil {
		change(&opts)
	}
	var err error
	if r.Local, err = local.Open(opts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Local.Close(); err != nil {
			t.Error(err)
		}
	})
	testkit.Run(t, r.Local.Run)
	r.Keyspace = route.NewKeyspace(route.VBucket{Name: "default", Replica: r.Local})
	register := services(r)
	listener := bufconn.Listen(1 << 20)
	servertest.Start(t, servertest.Options{Listener: listener, Register: register, Drain: time.Minute})
	r.connect(t, func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) })
	return r
}

// options are those of the replica, on the node's clock and with its faults.
func (r *Node) options() local.Options {
	onSync := func() error {
		if err := r.fault.Load(); err != nil {
			return *err
		}
		return nil
	}
	return local.Options{Options: state.Options{
		Database: "db",
		VBucket:  "default",
		Open: func(string) (storage.Engine, error) {
			return memory.Open(memory.Options{OnSync: onSync})
		},
		OpenKind: func(_, dir string) (storage.Engine, error) { return memory.Open(memory.Options{Dir: dir}) },
		Log:      slog.New(slog.DiscardHandler),
		Clock: clock.New(clock.Options{
			Wall:    func() time.Time { return time.UnixMilli(r.now.Load()) },
			Elapsed: func() time.Duration { return time.Duration(r.now.Load()) * time.Millisecond },
		}),
	}}
}

func (r *Node) connect(t testing.TB, dial func(context.Context, string) (net.Conn, error)) {
	t.Helper()
	r.Conn = servertest.Connect(t, "bufconn", grpc.WithContextDialer(dial))
	r.DKVClient = serverpb.NewDKVClient(r.Conn)
	r.Ops = serverpb.NewDKVNodeClient(r.Conn)
	r.Replication = serverpb.NewDKVReplicationClient(r.Conn)
	r.Backups = serverpb.NewDKVBackupRestoreClient(r.Conn)
	r.Cluster = serverpb.NewDKVClusterClient(r.Conn)
}

// MustPut sets a key and returns the index.
func (r *Node) MustPut(key, value string, expireTS ...uint64) kv.Index {
	r.T.Helper()
	req := &serverpb.PutRequest{Key: []byte(key), Value: []byte(value)}
	if len(expireTS) > 0 {
		req.ExpireTS = expireTS[0]
	}
	resp, err := r.Put(r.T.Context(), req)
	if err != nil {
		r.T.Fatal("put:", err)
	}
	if resp.GetStatus() == nil || resp.GetStatus().GetCode() != 0 || resp.GetStatus().GetMessage() != "" {
		r.T.Errorf("status %v", resp.GetStatus())
	}
	return resp.GetIndex()
}

// MustGet reads a key.
func (r *Node) MustGet(key string) *serverpb.GetResponse {
	r.T.Helper()
	resp, err := r.Get(r.T.Context(), &serverpb.GetRequest{Key: []byte(key)})
	if err != nil {
		r.T.Fatal("get:", err)
	}
	return resp
}

// WantValue checks the value of a key.
func (r *Node) WantValue(key, want string) {
	r.T.Helper()
	if got := r.MustGet(key); !got.GetFound() || string(got.GetValue()) != want {
		r.T.Errorf("%s is %q (found: %v), want %q", key, got.GetValue(), got.GetFound(), want)
	}
}

// WantAbsent checks that a key does not exist.
func (r *Node) WantAbsent(key string) {
	r.T.Helper()
	if got := r.MustGet(key); got.GetFound() || len(got.GetValue()) != 0 {
		r.T.Errorf("%s is %q (found: %v), want nothing", key, got.GetValue(), got.GetFound())
	}
}

// Messages runs an iteration to its end.
func (r *Node) Messages(req *serverpb.IterateRequest) ([]*serverpb.IterateResponse, error) {
	r.T.Helper()
	stream, err := r.Iterate(r.T.Context(), req)
	if err != nil {
		r.T.Fatal(err)
	}
	var out []*serverpb.IterateResponse
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		out = append(out, m)
	}
}

// Pairs lists an iteration as key=value, however it was batched.
func (r *Node) Pairs(req *serverpb.IterateRequest) []string {
	r.T.Helper()
	ms, err := r.Messages(req)
	if err != nil {
		r.T.Fatal("iterate:", err)
	}
	out := []string{}
	for _, m := range ms {
		if len(m.GetKey()) > 0 {
			out = append(out, fmt.Sprintf("%s=%s", m.GetKey(), m.GetValue()))
		}
		for _, p := range m.GetPairs() {
			out = append(out, fmt.Sprintf("%s=%s", p.GetKey(), p.GetValue()))
		}
	}
	return out
}

// WantPairs checks what an iteration returns, as key=value.
func (r *Node) WantPairs(req *serverpb.IterateRequest, want ...string) {
	r.T.Helper()
	if got := r.Pairs(req); !slices.Equal(got, want) {
		r.T.Errorf("iterate %v: %q, want %q", req, got, want)
	}
}

// MustBackup writes a backup to a path below Root.
func (r *Node) MustBackup(path string) {
	r.T.Helper()
	if s, err := r.Backups.Backup(r.T.Context(), &serverpb.BackupRequest{BackupPath: path}); err != nil || s.GetCode() != 0 {
		r.T.Fatalf("backup: %v, %v", s, err)
	}
}

// MustRestore restores the backup at a path below Root.
func (r *Node) MustRestore(path string) {
	r.T.Helper()
	if s, err := r.Backups.Restore(r.T.Context(), &serverpb.RestoreRequest{RestorePath: path}); err != nil || s.GetCode() != 0 {
		r.T.Fatalf("restore: %v, %v", s, err)
	}
}
