package discovery

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/local"
	"github.com/dkvdb/dkv/internal/replica/state"
	"github.com/dkvdb/dkv/internal/server/servertest"
	"github.com/dkvdb/dkv/internal/signal"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/memory"
	"github.com/dkvdb/dkv/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	inactive  = serverpb.RegionStatus_INACTIVE
	leader    = serverpb.RegionStatus_LEADER
	primary   = serverpb.RegionStatus_PRIMARY_FOLLOWER
	secondary = serverpb.RegionStatus_SECONDARY_FOLLOWER
	slave     = serverpb.RegionStatus_ACTIVE_SLAVE
)

// log is one log that several registry nodes share, as the members of a Raft group
// do: one of them owns it.
type log struct {
	local *local.Replica
	// proposals counts what was written, rows the mutations in it.
	proposals, rows atomic.Int64

	mu    sync.Mutex
	owner int // 0 is none
	term  uint64
	addrs map[int]string
	fault error
	// changed is raised when the owner has changed.
	changed signal.Signal
}

func newLog(t testing.TB) *log {
	t.Helper()
	local, err := local.Open(local.Options{Options: state.Options{
		Database: "registry",
		VBucket:  kv.DefaultVBucket,
		Open:     func(string) (storage.Engine, error) { return memory.Open(memory.Options{}) },
		OpenKind: func(_, dir string) (storage.Engine, error) { return memory.Open(memory.Options{Dir: dir}) },
		Log:      slog.New(slog.DiscardHandler),
	}})
	if err != nil {
		t.Fatal(err)
	}
	testkit.Run(t, local.Run)
	t.Cleanup(func() {
		if err := local.Close(); err != nil {
			t.Error(err)
		}
	})
	return &log{local: local, addrs: make(map[int]string)}
}

// elect makes a node the owner; 0 is none.
func (l *log) elect(node int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.owner = node
	l.term++
	l.changed.Raise()
}

// fail makes proposals end in an error; nil is none.
func (l *log) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault = err
}

// copyOf is one node's copy of the log.
type copyOf struct {
	*log
	node int
}

func (c copyOf) Owner() replica.Owner {
	c.mu.Lock()
	defer c.mu.Unlock()
	return replica.Owner{Self: c.owner == c.node, ID: uint64(c.owner), Address: c.addrs[c.owner]}
}

func (c copyOf) Status() replica.Status {
	s := c.local.Status()
	c.mu.Lock()
	defer c.mu.Unlock()
	s.Term = c.term
	return s
}

func (c copyOf) Propose(ctx context.Context, cmd *command.Command) (command.Result, error) {
	if !c.Owner().Self {
		return command.Result{}, kv.Errorf(kv.NotOwner, "not the owner")
	}
	c.mu.Lock()
	fault := c.fault
	c.mu.Unlock()
	if fault != nil {
		return command.Result{}, fault
	}
	c.proposals.Add(1)
	c.log.rows.Add(int64(len(cmd.Mutations)))
	return c.local.Propose(ctx, cmd)
}

func (c copyOf) View(ctx context.Context, opts kv.ReadOptions) (replica.View, kv.ReadInfo, error) {
	if opts.Level == kv.Linearizable && !c.Owner().Self {
		return nil, kv.ReadInfo{}, kv.Errorf(kv.NotOwner, "not the owner")
	}
	return c.local.View(ctx, opts)
}

// newRegistry runs the registry of one node of a log, without a network.
func newRegistry(t testing.TB, l *log, node int, opts Options) *Registry {
	t.Helper()
	opts.Store, opts.Changed = copyOf{l, node}, &l.changed
	r, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	testkit.Run(t, r.Run)
	return r
}

// site is a node of the registry as clients see it.
type site struct {
	serverpb.DKVDiscoveryClient
	*Registry
	witness peerpb.WitnessClient
	addr    string
	stop    func()
}

// newSite runs a node of a log's registry and serves it.
func newSite(t testing.TB, l *log, node int, opts Options) *site {
	t.Helper()
	pool := peer.NewPool(peer.Options{MaxMessageSize: 16 << 20})
	t.Cleanup(func() { pool.Close() })
	opts.Pool = pool
	s := &site{Registry: newRegistry(t, l, node, opts)}
	srv := servertest.Start(t, servertest.Options{
		Register: func(r grpc.ServiceRegistrar) {
			serverpb.RegisterDKVDiscoveryServer(r, s.Registry)
			peerpb.RegisterWitnessServer(r, s.Witness())
		},
		Drain: 50 * time.Millisecond,
	})
	s.addr, s.stop = srv.Addr, srv.Stop
	l.mu.Lock()
	l.addrs[node] = s.addr
	l.mu.Unlock()
	conn := servertest.Connect(t, s.addr, grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	s.DKVDiscoveryClient = serverpb.NewDKVDiscoveryClient(conn)
	s.witness = peerpb.NewWitnessClient(conn)
	return s
}

// newSites runs three nodes of one log, of which the first is the owner.
func newSites(t testing.TB) (*log, []*site) {
	t.Helper()
	l := newLog(t)
	sites := make([]*site, 3)
	for i := range sites {
		sites[i] = newSite(t, l, i+1, Options{})
	}
	l.elect(1)
	return l, sites
}

// region is a row, written "database/vBucket/node/dc".
func region(name string, status serverpb.RegionStatus, edit ...func(*serverpb.RegionInfo)) *serverpb.RegionInfo {
	part := strings.Split(name, "/")
	out := &serverpb.RegionInfo{Database: part[0], VBucket: part[1], NodeAddress: part[2], DcID: part[3], Status: status}
	for _, e := range edit {
		e(out)
	}
	return out
}

func term(n uint64) func(*serverpb.RegionInfo) {
	return func(r *serverpb.RegionInfo) { r.Term = n }
}

func cluster(id string) func(*serverpb.RegionInfo) {
	return func(r *serverpb.RegionInfo) { r.ClusterID = id }
}

func history(id string) func(*serverpb.RegionInfo) {
	return func(r *serverpb.RegionInfo) { r.HistoryID = id }
}

// text writes rows as region reads them, with their status.
func text(rows []*serverpb.RegionInfo) []string {
	out := []string{}
	for _, r := range rows {
		out = append(out, fmt.Sprintf("%s/%s/%s/%s %v", r.GetDatabase(), r.GetVBucket(), r.GetNodeAddress(), r.GetDcID(), r.GetStatus()))
	}
	return out
}

type updater interface {
	UpdateStatus(context.Context, *serverpb.UpdateStatusRequest) (*serverpb.Status, error)
}

// send calls a registry's service without a network.
func (r *Registry) send(t testing.TB, rows ...*serverpb.RegionInfo) {
	t.Helper()
	send(t, r, uint64(time.Now().Unix()), rows...)
}

func send(t testing.TB, to updater, stamp uint64, rows ...*serverpb.RegionInfo) {
	t.Helper()
	req := &serverpb.UpdateStatusRequest{RegionInfo: rows[0], More: rows[1:], Timestamp: stamp}
	res, err := to.UpdateStatus(t.Context(), req)
	if err != nil {
		t.Fatal("update:", err)
	}
	if res.GetCode() != 0 || res.GetMessage() != "" {
		t.Errorf("status %v", res)
	}
}

// wantRows compares the rows that are shown.
func (r *Registry) wantRows(t testing.TB, want ...string) {
	t.Helper()
	rows, err := r.Rows(t.Context())
	if err != nil {
		t.Fatal("rows:", err)
	}
	if got := text(rows); !slices.Equal(got, want) {
		t.Errorf("rows %q\nwant %q", got, want)
	}
}

// stored are the rows as the log has them.
func (l *log) stored(t testing.TB) []string {
	t.Helper()
	view, _, err := l.local.View(context.Background(), kv.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	it := view.Iterate(storage.Prefix([]byte(rowPrefix)))
	defer it.Close()
	var rows []*serverpb.RegionInfo
	for it.Next() {
		info, err := decodeRow(it.Pair().Key, it.Pair().Value)
		if err != nil {
			t.Fatal(err)
		}
		if key := keyOf(info); key != leadingKey(key.place) {
			rows = append(rows, info)
		}
	}
	return text(rows)
}

// keys counts what the log has, rows or not.
func (l *log) keys(t testing.TB) (n int) {
	t.Helper()
	view, _, err := l.local.View(context.Background(), kv.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	it := view.Iterate(storage.Range{})
	defer it.Close()
	for it.Next() {
		n++
	}
	return n
}
