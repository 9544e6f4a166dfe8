package ctl

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/server/servertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a server over a map. Every mutation has an index and is a change.
type fake struct {
	health *health.Server
	serverpb.UnimplementedDKVServer
	serverpb.UnimplementedDKVReplicationServer
	serverpb.UnimplementedDKVBackupRestoreServer
	serverpb.UnimplementedDKVClusterServer
	serverpb.UnimplementedDKVDiscoveryServer
	serverpb.UnimplementedDKVNodeServer

	addr string

	mu      sync.Mutex
	pairs   map[string]*serverpb.KVPair
	changes []*serverpb.ChangeRecord
	index   uint64
	oldest  uint64 // the oldest change that is retained
	history string
	state   string
	id      string
	role    string
	cluster string
	lag     uint64
	memory  [2]uint64                   // of memtables and caches
	arrived [2]uint64                   // of a snapshot: how much, and of how much
	timing  [3]string                   // the node's, the cluster's, and the next one
	leader  string                      // the address of the leader
	members *serverpb.ListNodesResponse // nil: a standalone node
	slaves  []*serverpb.Replica         // that it lists; nil: it does not know that call
	seen    []string                    // methods, in order
	reads   []serverpb.ReadConsistency
	meta    metadata.MD // of the last request
	froms   []uint64    // what GetChanges was asked for
	// fail, if set, may fail a request before it does anything.
	fail func(method string) error
	// onChanges is called after each GetChanges.
	onChanges func()
	watching
	// breakAfter ends an iteration with an error after so many messages.
	breakAfter int
	versions   [2]uint32 // the cluster's, and the one that the node understands
	paths      []string  // of backups, restores, nodes
	paused     bool
	clocks     []uint64
	resyncs    []string
	tasks      []*serverpb.Task          // what the node says that it does
	fault      string                    // what the node says of a fault of a drill
	of         []*serverpb.VBucketStatus // nil: one vBucket, made of the fields above
}

// startFake runs a fake on a free port until the test ends.
func startFake(t *testing.T, opts ...grpc.ServerOption) *fake {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{addr: l.Addr().String(), pairs: make(map[string]*serverpb.KVPair), oldest: 1, history: "h1", state: "serving", id: "1", role: "none", leader: "10.0.0.1:8080"}
	s := grpc.NewServer(append(opts, grpc.ChainUnaryInterceptor(f.unary), grpc.ChainStreamInterceptor(f.stream))...)
	serverpb.RegisterDKVServer(s, f)
	serverpb.RegisterDKVReplicationServer(s, f)
	serverpb.RegisterDKVBackupRestoreServer(s, f)
	serverpb.RegisterDKVClusterServer(s, f)
	serverpb.RegisterDKVDiscoveryServer(s, f)
	serverpb.RegisterDKVNodeServer(s, f)
	f.health = health.NewServer()
	healthpb.RegisterHealthServer(s, f.health)
	servertest.Serve(t, s, l)
	return f
}

func (f *fake) note(ctx context.Context, method string) error {
	f.mu.Lock()
	name := method[strings.LastIndex(method, "/")+1:]
	f.seen = append(f.seen, name)
	f.meta, _ = metadata.FromIncomingContext(ctx)
	fail := f.fail
	f.mu.Unlock()
	if fail != nil {
		return fail(name)
	}
	return nil
}

func (f *fake) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if err := f.note(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	return handle(ctx, req)
}

func (f *fake) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	if err := f.note(ss.Context(), info.FullMethod); err != nil {
		return err
	}
	return handle(srv, ss)
}

// calls is how often a method was called.
func (f *fake) calls(method string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, m := range f.seen {
		if m == method {
			n++
		}
	}
	return n
}

// asked returns how many calls have arrived. One that a command no longer waits for may still
// arrive.
func (f *fake) asked() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.seen)
}

// apply does puts (a nil value deletes) as one change. It needs f.mu.
func (f *fake) apply(trxns ...*serverpb.TrxnRecord) uint64 {
	f.index++
	for _, x := range trxns {
		if x.Type == serverpb.TrxnRecord_Delete {
			delete(f.pairs, string(x.Key))
		} else {
			f.pairs[string(x.Key)] = &serverpb.KVPair{Key: x.Key, Value: x.Value, ExpireTS: x.ExpireTS}
		}
	}
	f.changes = append(f.changes, &serverpb.ChangeRecord{ChangeNumber: f.index, Clock: 1000 * f.index, Trxns: trxns})
	f.news.Raise()
	return f.index
}

func (f *fake) put(key, value string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.apply(putTrxn([]byte(key), []byte(value), 0))
}

func putTrxn(key, value []byte, expireTS uint64) *serverpb.TrxnRecord {
	return &serverpb.TrxnRecord{Type: serverpb.TrxnRecord_Put, Key: key, Value: value, ExpireTS: expireTS}
}

func (f *fake) Put(_ context.Context, r *serverpb.PutRequest) (*serverpb.PutResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(r.GetKey()) == 0 {
		return nil, status.Error(codes.InvalidArgument, "the key is empty; not applied")
	}
	return &serverpb.PutResponse{Index: f.apply(putTrxn(r.Key, r.Value, r.ExpireTS))}, nil
}

func (f *fake) MultiPut(_ context.Context, r *serverpb.MultiPutRequest) (*serverpb.PutResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var trxns []*serverpb.TrxnRecord
	for _, p := range r.GetPutRequest() {
		trxns = append(trxns, putTrxn(p.Key, p.Value, p.ExpireTS))
	}
	return &serverpb.PutResponse{Index: f.apply(trxns...)}, nil
}

func (f *fake) Delete(_ context.Context, r *serverpb.DeleteRequest) (*serverpb.DeleteResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &serverpb.DeleteResponse{Index: f.apply(&serverpb.TrxnRecord{Type: serverpb.TrxnRecord_Delete, Key: r.Key})}, nil
}

func (f *fake) Get(_ context.Context, r *serverpb.GetRequest) (*serverpb.GetResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads = append(f.reads, r.GetReadConsistency())
	p := f.pairs[string(r.GetKey())]
	return &serverpb.GetResponse{Found: p != nil, Value: p.GetValue(), ExpireTS: p.GetExpireTS(), Index: f.index}, nil
}

func (f *fake) MultiGet(_ context.Context, r *serverpb.MultiGetRequest) (*serverpb.MultiGetResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	res := &serverpb.MultiGetResponse{Index: f.index}
	for _, k := range r.GetKeys() {
		if p := f.pairs[string(k)]; p != nil {
			res.KeyValues = append(res.KeyValues, p)
		}
	}
	return res, nil
}

func (f *fake) CompareAndSet(_ context.Context, r *serverpb.CompareAndSetRequest) (*serverpb.CompareAndSetResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !bytes.Equal(f.pairs[string(r.GetKey())].GetValue(), r.GetOldValue()) {
		return &serverpb.CompareAndSetResponse{Index: f.index}, nil
	}
	return &serverpb.CompareAndSetResponse{Updated: true, Index: f.apply(putTrxn(r.Key, r.NewValue, r.ExpireTS))}, nil
}

func (f *fake) Increment(_ context.Context, r *serverpb.IncrementRequest) (*serverpb.IncrementResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var n int64
	if v := f.pairs[string(r.GetKey())].GetValue(); len(v) == 8 {
		n = int64(binary.BigEndian.Uint64(v))
	}
	n += r.GetDelta()
	return &serverpb.IncrementResponse{Value: n, Index: f.apply(putTrxn(r.Key, binary.BigEndian.AppendUint64(nil, uint64(n)), 0))}, nil
}

// selected returns the pairs that an iteration is to bring.
func (f *fake) selected(r *serverpb.IterateRequest) []*serverpb.KVPair {
	keys := slices.Sorted(maps.Keys(f.pairs))
	if r.GetReverse() {
		slices.Reverse(keys)
	}
	var pairs []*serverpb.KVPair
	for _, k := range keys {
		start := string(r.GetStartKey())
		if !strings.HasPrefix(k, string(r.GetKeyPrefix())) || start != "" && (k < start) != r.GetReverse() && k != start {
			continue
		}
		if r.GetLimit() > 0 && uint64(len(pairs)) == r.GetLimit() {
			break
		}
		p := &serverpb.KVPair{Key: f.pairs[k].Key, ExpireTS: f.pairs[k].ExpireTS}
		if !r.GetKeysOnly() {
			p.Value = f.pairs[k].Value
		}
		pairs = append(pairs, p)
	}
	return pairs
}

// Iterate sends two pairs a message, so that small tests have several.
func (f *fake) Iterate(r *serverpb.IterateRequest, stream grpc.ServerStreamingServer[serverpb.IterateResponse]) error {
	f.mu.Lock()
	pairs := f.selected(r)
	f.reads = append(f.reads, r.GetReadConsistency())
	breakAfter := f.breakAfter
	f.mu.Unlock()
	if !r.GetBatched() {
		return status.Error(codes.Internal, "the test expects batches")
	}
	for n := 1; len(pairs) > 0; n++ {
		size := min(2, len(pairs))
		if err := stream.Send(&serverpb.IterateResponse{Pairs: pairs[:size]}); err != nil {
			return err
		}
		pairs = pairs[size:]
		if n == breakAfter {
			return status.Error(codes.Unavailable, "going down")
		}
	}
	return nil
}

func (f *fake) GetChanges(_ context.Context, r *serverpb.GetChangesRequest) (*serverpb.GetChangesResponse, error) {
	f.mu.Lock()
	if f.onChanges != nil {
		defer f.onChanges()
	}
	defer f.mu.Unlock()
	f.froms = append(f.froms, r.GetFromChangeNumber())
	if r.GetFromChangeNumber() < f.oldest {
		return nil, status.Errorf(codes.OutOfRange, "the oldest retained change is %d", f.oldest)
	}
	res := &serverpb.GetChangesResponse{MasterChangeNumber: f.index, HistoryId: f.history}
	for _, c := range f.changes {
		if c.ChangeNumber >= r.GetFromChangeNumber() && len(res.Changes) < 2 {
			res.Changes = append(res.Changes, c)
		}
	}
	res.NumberOfChanges = uint32(len(res.Changes))
	return res, nil
}

func (f *fake) path(p string) (*serverpb.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.paths = append(f.paths, p)
	if p == "/etc" {
		return nil, status.Error(codes.InvalidArgument, "/etc is outside of backup-dir; not applied")
	}
	return &serverpb.Status{}, nil
}

func (f *fake) Backup(_ context.Context, r *serverpb.BackupRequest) (*serverpb.Status, error) {
	st, err := f.path(r.GetBackupPath())
	if r.GetBackupPath() == "old" {
		st.Message = "the backup is of a state\nof yesterday"
	}
	return st, err
}

func (f *fake) Restore(_ context.Context, r *serverpb.RestoreRequest) (*serverpb.Status, error) {
	switch {
	case r.GetForce():
		return f.path("by force " + r.GetRestorePath())
	case !r.GetOwn():
		return f.path("of any database " + r.GetRestorePath())
	}
	return f.path(r.GetRestorePath())
}

func (f *fake) AddNode(_ context.Context, r *serverpb.AddNodeRequest) (*serverpb.Status, error) {
	if r.GetNonVoting() {
		return f.path("add without a vote " + r.GetNodeUrl())
	}
	return f.path("add " + r.GetNodeUrl())
}

func (f *fake) RemoveNode(_ context.Context, r *serverpb.RemoveNodeRequest) (*serverpb.Status, error) {
	if r.GetForce() {
		return f.path("remove by force " + r.GetNodeUrl())
	}
	return f.path("remove " + r.GetNodeUrl())
}

func (f *fake) TransferLeader(_ context.Context, r *serverpb.TransferLeaderRequest) (*serverpb.Status, error) {
	return f.path("transfer " + r.GetVBucket() + " to " + r.GetNodeUrl())
}

func (f *fake) StepDown(context.Context, *emptypb.Empty) (*serverpb.Status, error) {
	return f.path("step down")
}

func (f *fake) Snapshot(_ context.Context, r *serverpb.SnapshotRequest) (*serverpb.Status, error) {
	return f.path("snapshot of " + cmp.Or(r.GetVBucket(), "all"))
}

func (f *fake) ListNodes(context.Context, *emptypb.Empty) (*serverpb.ListNodesResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.members == nil {
		return nil, status.Error(codes.FailedPrecondition, "this node stands alone")
	}
	return f.members, nil
}

func (f *fake) GetClusterInfo(_ context.Context, r *serverpb.GetClusterInfoRequest) (*serverpb.GetClusterInfoResponse, error) {
	master := "10.0.0.1:8080"
	all := []*serverpb.RegionInfo{
		{DcID: "east", Database: "orders", VBucket: "0", NodeAddress: "10.0.0.1:8080", Status: serverpb.RegionStatus_LEADER},
		{DcID: "west", Database: "orders", VBucket: "0", NodeAddress: "10.1.0.1:8080", Status: serverpb.RegionStatus_ACTIVE_SLAVE,
			MasterHost: &master},
	}
	res := &serverpb.GetClusterInfoResponse{}
	for _, info := range all {
		if r.DcID == nil || r.GetDcID() == info.DcID {
			res.RegionInfos = append(res.RegionInfos, info)
		}
	}
	return res, nil
}

func (f *fake) ReleaseDatabase(_ context.Context, r *serverpb.ReleaseDatabaseRequest) (*serverpb.Status, error) {
	if r.GetDatabase() != "orders" {
		return nil, status.Errorf(codes.NotFound, "no cluster holds database %q", r.GetDatabase())
	}
	return &serverpb.Status{Message: "it was held by cluster c"}, nil
}

func (f *fake) GetNodeStatus(context.Context, *emptypb.Empty) (*serverpb.NodeStatusResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &serverpb.NodeStatusResponse{NodeId: f.id, NodeName: "node" + f.id, Role: f.role, Address: f.addr, Fault: f.fault, Version: "test", ClusterId: f.cluster,
		Timing: f.timing[0], ClusterTiming: f.timing[1], NextTiming: f.timing[2],
		MemtableBytes: f.memory[0], CacheBytes: f.memory[1], Tasks: f.tasks,
		ClusterVersion: f.versions[0], Understands: f.versions[1], VBuckets: f.vBuckets()}, nil
}

// InjectFault gives the fake a fault in the middle of which it goes away.
func (f *fake) InjectFault(_ *serverpb.InjectFaultRequest, stream grpc.ServerStreamingServer[serverpb.FaultState]) error {
	if err := stream.Send(&serverpb.FaultState{State: "active", Text: "this node hears and says nothing"}); err != nil {
		return err
	}
	return status.Error(codes.Unavailable, "the process was killed")
}

func (f *fake) setPaused(paused bool) (*serverpb.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.paused = paused
	return &serverpb.Status{}, nil
}

func (f *fake) PauseWrites(context.Context, *emptypb.Empty) (*serverpb.Status, error) {
	return f.setPaused(true)
}

func (f *fake) ResumeWrites(context.Context, *emptypb.Empty) (*serverpb.Status, error) {
	return f.setPaused(false)
}

func (f *fake) SetClock(_ context.Context, r *serverpb.SetClockRequest) (*serverpb.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.clocks = append(f.clocks, r.GetClockMillis())
	return &serverpb.Status{}, nil
}

func (f *fake) Resync(_ context.Context, r *serverpb.ResyncRequest) (*serverpb.ResyncResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.resyncs = append(f.resyncs, fmt.Sprint(r.GetVBucket(), " ", r.GetForce()))
	return &serverpb.ResyncResponse{Orders: []*serverpb.ResyncOrder{{VBucket: "v1", What: "it goes"}}}, nil
}

func (f *fake) CancelResync(_ context.Context, r *serverpb.CancelResyncRequest) (*serverpb.ResyncResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.resyncs = append(f.resyncs, r.GetVBucket()+" canceled")
	return &serverpb.ResyncResponse{Orders: []*serverpb.ResyncOrder{{VBucket: "v1", What: "it stays"}}}, nil
}

func (f *fake) SetTiming(_ context.Context, r *serverpb.SetTimingRequest) (*serverpb.Status, error) {
	return f.path("timing " + r.GetTiming())
}

func (f *fake) SetLogLevel(_ context.Context, r *serverpb.SetLogLevelRequest) (*serverpb.LogLevels, error) {
	if r.GetComponent() == "raft" {
		return nil, status.Error(codes.InvalidArgument, `there is no component "raft"`)
	}
	_, err := f.path("level " + r.GetLevel() + " of " + r.GetComponent())
	return &serverpb.LogLevels{Level: "INFO", Components: map[string]string{"server": "WARN", "replica/raft": "DEBUG"}}, err
}

func (f *fake) FinishUpgrade(context.Context, *serverpb.FinishUpgradeRequest) (*serverpb.Status, error) {
	return f.path("finish")
}

func (f *fake) GetContentHash(context.Context, *serverpb.ContentHashRequest) (*serverpb.ContentHashResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := sha256.New()
	for _, k := range slices.Sorted(maps.Keys(f.pairs)) {
		h.Write([]byte(k + "\x00" + string(f.pairs[k].Value) + "\x00"))
	}
	return &serverpb.ContentHashResponse{Index: f.index, Hash: h.Sum(nil), Keys: uint64(len(f.pairs)), HistoryId: f.history}, nil
}

// outcome is what a run of dkvctl left behind.
type outcome struct {
	code           int
	stdout, stderr string
}

// dkvctl runs the program against addr (none if it is empty).
func dkvctl(t *testing.T, addr string, args ...string) outcome {
	t.Helper()
	if addr != "" {
		args = append([]string{"-a", addr}, args...)
	}
	return runMain(t.Context(), "", nil, args...)
}

func runMain(ctx context.Context, stdin string, env map[string]string, args ...string) outcome {
	var stdout, stderr bytes.Buffer
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	code := Main(ctx, args, lookup, strings.NewReader(stdin), &stdout, &stderr)
	return outcome{code, stdout.String(), stderr.String()}
}

// expect compares an outcome; stderr has to contain want.stderr and, if that
// is empty, to be empty.
func expect(t *testing.T, got outcome, want outcome) {
	t.Helper()
	if got.code != want.code || got.stdout != want.stdout ||
		(want.stderr == "") != (got.stderr == "") || !strings.Contains(got.stderr, want.stderr) {
		t.Errorf("code %d, stdout %q, stderr %q\nwant %d, %q, %q", got.code, got.stdout, got.stderr, want.code, want.stdout, want.stderr)
	}
	if strings.Count(got.stderr, "\n") > 1 {
		t.Errorf("stderr has more than one line: %q", got.stderr)
	}
}
