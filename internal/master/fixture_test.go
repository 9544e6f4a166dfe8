package master

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

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/clock"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/server/servertest"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/memory"
	"github.com/dkvdb/dkv/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var limits = Limits{Key: 64, Value: 1024, Batch: 4096, Response: 8192}

// rig is a node as clients see it: all services over gRPC, over a replica in
// memory.
type rig struct {
	t *testing.T
	serverpb.DKVClient
	node        serverpb.DKVNodeClient
	replication serverpb.DKVReplicationClient
	backups     serverpb.DKVBackupRestoreClient
	cluster     serverpb.DKVClusterClient
	discovery   serverpb.DKVDiscoveryNodeClient

	conn    *grpc.ClientConn
	local   *replica.Local
	service *Replication // behind replication
	root    string       // backup-dir
	now     atomic.Int64
	fault   atomic.Pointer[error]
}

// epoch is the rigs' wall clock at their start, in epoch seconds.
const epoch = 2_000_000_000

func (r *rig) sleep(seconds int64) { r.now.Add(seconds * 1000) }

// failWrites makes storage fail from here on.
func (r *rig) failWrites(err error) { r.fault.Store(&err) }

type change func(*replica.LocalOptions, *Limits)

func newRig(t testing.TB, changes ...change) *rig {
	t.Helper()
	r := &rig{root: filepath.Join(t.TempDir(), "backups")}
	r.t, _ = t.(*testing.T)
	r.now.Store(epoch * 1000)
	log := slog.New(slog.DiscardHandler)
	onSync := func() error {
		if err := r.fault.Load(); err != nil {
			return *err
		}
		return nil
	}
	opts := replica.LocalOptions{StateOptions: replica.StateOptions{
		Database: "db",
		VBucket:  "default",
		Open: func(string) (storage.Engine, error) {
			return memory.Open(memory.Options{OnSync: onSync})
		},
		OpenKind: func(_, dir string) (storage.Engine, error) { return memory.Open(memory.Options{Dir: dir}) },
		Log:      log,
		Clock: clock.New(clock.Options{
			Wall:    func() time.Time { return time.UnixMilli(r.now.Load()) },
			Elapsed: func() time.Duration { return time.Duration(r.now.Load()) * time.Millisecond },
		}),
	}}
	limits := limits
	for _, c := range changes {
		c(&opts, &limits)
	}
	var err error
	if r.local, err = replica.OpenLocal(opts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.local.Close(); err != nil {
			t.Error(err)
		}
	})
	testkit.Run(t, r.local.Run)
	keyspace := NewKeyspace(VBucket{Name: "default", Replica: r.local})
	r.service = NewReplication(keyspace, nil)
	t.Cleanup(r.service.Close)
	listener := bufconn.Listen(1 << 20)
	servertest.Start(t, servertest.Options{
		Listener: listener,
		Register: func(s grpc.ServiceRegistrar) {
			serverpb.RegisterDKVServer(s, NewKV(keyspace, limits, nil))
			serverpb.RegisterDKVReplicationServer(s, r.service)
			serverpb.RegisterDKVBackupRestoreServer(s, NewBackup(keyspace, r.root, nil))
			node := NewNode(keyspace, info, nil)
			serverpb.RegisterDKVNodeServer(s, node)
			serverpb.RegisterDKVClusterServer(s, node)
			serverpb.RegisterDKVDiscoveryNodeServer(s, node)
		},
		Drain: time.Minute,
	})
	r.connect(t, func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) })
	return r
}

func (r *rig) connect(t testing.TB, dial func(context.Context, string) (net.Conn, error)) {
	t.Helper()
	r.conn = servertest.Connect(t, "bufconn", grpc.WithContextDialer(dial))
	r.DKVClient = serverpb.NewDKVClient(r.conn)
	r.node = serverpb.NewDKVNodeClient(r.conn)
	r.replication = serverpb.NewDKVReplicationClient(r.conn)
	r.backups = serverpb.NewDKVBackupRestoreClient(r.conn)
	r.cluster = serverpb.NewDKVClusterClient(r.conn)
	r.discovery = serverpb.NewDKVDiscoveryNodeClient(r.conn)
}

var info = NodeInfo{
	ID: "n1", Name: "node-1", Version: "v1.2.3", Role: "none", Engine: "memory", DC: "dc1", Database: "db",
	Address: "10.0.0.1:8080", HTTPAddress: "10.0.0.1:8081", Started: time.Now(),
}

// put sets a key and returns the index.
func (r *rig) put(key, value string, expireTS ...uint64) kv.Index {
	r.t.Helper()
	req := &serverpb.PutRequest{Key: []byte(key), Value: []byte(value)}
	if len(expireTS) > 0 {
		req.ExpireTS = expireTS[0]
	}
	resp, err := r.Put(r.t.Context(), req)
	if err != nil {
		r.t.Fatal("put:", err)
	}
	if resp.GetStatus() == nil || resp.GetStatus().GetCode() != 0 || resp.GetStatus().GetMessage() != "" {
		r.t.Errorf("status %v", resp.GetStatus())
	}
	return resp.GetIndex()
}

func (r *rig) get(key string) *serverpb.GetResponse {
	r.t.Helper()
	resp, err := r.Get(r.t.Context(), &serverpb.GetRequest{Key: []byte(key)})
	if err != nil {
		r.t.Fatal("get:", err)
	}
	return resp
}

func (r *rig) wantValue(key, want string) {
	r.t.Helper()
	if got := r.get(key); !got.GetFound() || string(got.GetValue()) != want {
		r.t.Errorf("%s is %q (found: %v), want %q", key, got.GetValue(), got.GetFound(), want)
	}
}

func (r *rig) wantAbsent(key string) {
	r.t.Helper()
	if got := r.get(key); got.GetFound() || len(got.GetValue()) != 0 {
		r.t.Errorf("%s is %q (found: %v), want nothing", key, got.GetValue(), got.GetFound())
	}
}

// wantStatus checks what a client is told: code and text are part of the
// contract with those who read them.
func wantStatus(t *testing.T, err error, code codes.Code, text string) {
	t.Helper()
	if got := status.Convert(err); got.Code() != code || got.Message() != text {
		t.Errorf("%v %q\nwant %v %q", got.Code(), got.Message(), code, text)
	}
}

// messages runs an iteration to its end.
func (r *rig) messages(req *serverpb.IterateRequest) ([]*serverpb.IterateResponse, error) {
	r.t.Helper()
	stream, err := r.Iterate(r.t.Context(), req)
	if err != nil {
		r.t.Fatal(err)
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

// pairs lists an iteration as key=value, however it was batched.
func (r *rig) pairs(req *serverpb.IterateRequest) []string {
	r.t.Helper()
	ms, err := r.messages(req)
	if err != nil {
		r.t.Fatal("iterate:", err)
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

func (r *rig) wantPairs(req *serverpb.IterateRequest, want ...string) {
	r.t.Helper()
	if got := r.pairs(req); !slices.Equal(got, want) {
		r.t.Errorf("iterate %v: %q, want %q", req, got, want)
	}
}
