package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/clock"
	"github.com/dkvdb/dkv/internal/cluster/bootstrap"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/server/servertest"
	"github.com/dkvdb/dkv/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// long bounds what must happen; it only passes in a test that fails.
const long = testkit.Patience

const deployment = 0xd1ce

var terms = bootstrap.Terms{ClusterName: "c1", Database: "db", VBuckets: 2, Version: "v1.2.3"}

// rig is a cluster: fake logs, and real Clusters of its members that reach each
// other by gRPC.
type rig struct {
	t      *testing.T
	groups []*group

	mu    sync.Mutex
	nodes map[uint64]*node
	// starting is called for each node that starts.
	starting func(*node)
}

// node is a member of a rig.
type node struct {
	serverpb.UnimplementedDKVNodeServer
	*Cluster
	rig    *rig
	id     uint64
	rafts  []*fakeRaft
	server *servertest.Server
	// clock, log and aside are what its Cluster has; starting may set them.
	clock *clock.Clock
	log   *slog.Logger
	aside func() bool

	mu sync.Mutex
	// end is where the node's logs ended when it was started; 0 is far enough.
	end kv.Index
	// lag is how far the node says that it is behind, and state what its replicas do.
	lag   kv.Index
	state replica.State
	// asked is called for each question about its status.
	asked func()
	// refusal is what it answers instead.
	refusal error
	// cluster is what it calls its cluster.
	cluster string
}

// newRig makes a cluster of n members, of which the first leads all vBuckets.
func newRig(t *testing.T, n, vBuckets int, changes ...func(*rig)) *rig {
	t.Helper()
	r := &rig{t: t, nodes: make(map[uint64]*node), starting: func(*node) {}}
	for _, change := range changes {
		change(r)
	}
	for i := range vBuckets {
		r.groups = append(r.groups, newGroup("b"+strconv.Itoa(i)))
	}
	for i, url := range reserve(t, n) {
		id, address := uint64(i)+1, url[len("http://"):]
		for _, g := range r.groups {
			g.peers[id], g.leader = replica.Peer{ID: id, Address: address, Voting: true}, 1
		}
		if err := r.start(r.identity(bootstrap.Options{Dir: t.TempDir(), URL: url}, id)); err != nil {
			t.Fatal(err)
		}
	}
	for _, g := range r.groups {
		g.done()
	}
	return r
}

// identity starts a disk, which becomes that of a replica of the rig.
func (r *rig) identity(o bootstrap.Options, replica uint64) *bootstrap.Identity {
	r.t.Helper()
	o.Terms = terms
	id, err := bootstrap.Enter(r.t.Context(), o)
	if err != nil {
		r.t.Fatal(err)
	}
	id.Deployment, id.Replica, id.Members, id.Founder = deployment, replica, nil, false
	return id
}

// start runs a member, which says in all vBuckets how it is reached.
func (r *rig) start(id *bootstrap.Identity) error {
	n := &node{rig: r, id: id.Replica, asked: func() {}, cluster: fmt.Sprintf("%016x", id.Deployment)}
	n.log = slog.New(slog.DiscardHandler)
	r.starting(n)
	pool := peer.NewPool(peer.Options{MaxMessageSize: 1 << 20})
	var logs []Log
	for _, g := range r.groups {
		raft := &fakeRaft{group: g, self: id.Replica, end: n.end}
		n.rafts = append(n.rafts, raft)
		logs = append(logs, Log{VBucket: g.name, Raft: raft})
	}
	n.Cluster = New(Options{Identity: id, Logs: logs, Pool: pool, Terms: terms, Clock: n.clock, Log: n.log, Aside: n.aside})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := grpc.NewServer(grpc.UnaryInterceptor(withCodes))
	serverpb.RegisterDKVClusterServer(server, n.Cluster)
	serverpb.RegisterDKVNodeServer(server, n)
	peerpb.RegisterMembersServer(server, n.Cluster)
	healthpb.RegisterHealthServer(server, health.NewServer())
	r.t.Cleanup(func() { _ = pool.Close() })
	n.server = servertest.Serve(r.t, server, listener)
	for _, g := range r.groups {
		g.set(func() {
			g.records[id.Replica] = replica.Member{
				Name: "n" + strconv.FormatUint(id.Replica, 10), Address: n.server.Addr, RaftAddress: id.Address(), UUID: id.UUID,
			}
		})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.nodes[id.Replica] = n
	return nil
}

func (r *rig) node(id uint64) *node {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.nodes[id]
}

// url is a member's Raft url.
func (r *rig) url(id uint64) string { return r.node(id).self.URL }

// stop makes members unreachable.
func (r *rig) stop(ids ...uint64) {
	for _, id := range ids {
		r.node(id).server.Stop()
	}
}

// expect fails unless a vBucket has seen just these changes.
func (r *rig) expect(vBucket int, want ...string) {
	r.t.Helper()
	if got := r.groups[vBucket].done(); !slices.Equal(got, want) {
		r.t.Errorf("%s has seen %q, not %q", r.groups[vBucket].name, got, want)
	}
}

// ledTerm is the term of the current leader.
const ledTerm = 7

// GetNodeStatus implements DKVNode.
func (n *node) GetNodeStatus(context.Context, *emptypb.Empty) (*serverpb.NodeStatusResponse, error) {
	n.mu.Lock()
	lag, state, asked, refusal, cluster := n.lag, n.state, n.asked, n.refusal, n.cluster
	n.mu.Unlock()
	asked()
	if refusal != nil {
		return nil, refusal
	}
	out := &serverpb.NodeStatusResponse{NodeId: strconv.FormatUint(n.id, 10), ClusterId: cluster}
	for _, g := range n.rig.groups {
		g.set(func() {
			out.VBuckets = append(out.VBuckets, &serverpb.VBucketStatus{
				VBucket: g.name, State: string(state), AppliedIndex: g.applied - lag, IsLeader: g.leader == n.id, Term: ledTerm,
			})
		})
	}
	return out, nil
}

// say changes what the node says of itself.
func (n *node) say(f func(*node)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f(n)
}

// withCodes gives errors the codes that the real servers give them.
func withCodes(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	resp, err := handler(ctx, req)
	if err == nil || status.Code(err) == codes.Unimplemented {
		return resp, err
	}
	known := &kv.Error{Outcome: kv.Unknown}
	errors.As(err, &known)
	code, is := map[kv.Kind]codes.Code{
		kv.Invalid: codes.InvalidArgument, kv.Precondition: codes.FailedPrecondition, kv.NotFound: codes.NotFound,
		kv.Unavailable: codes.Unavailable,
	}[known.Kind]
	if !is {
		code = codes.Internal
	}
	st, err := status.New(code, err.Error()).WithDetails(&errdetails.ErrorInfo{Domain: kv.ErrorDomain, Reason: known.Reason()})
	if err != nil {
		return nil, err
	}
	return nil, st.Err()
}

// reserve returns n urls that no one else uses, in the order of bootstrap's lists.
func reserve(t *testing.T, n int) []string {
	t.Helper()
	var urls []string
	for range n {
		urls = append(urls, bootstrap.FormatURL(testkit.Address(t)))
	}
	slices.Sort(urls)
	return urls
}

// waiting is a node that waits on its Raft port.
type waiting struct {
	bootstrap.Options
	cancel context.CancelFunc
	done   chan struct{}
	id     *bootstrap.Identity
	err    error
}

// joiner is a node that waits to be added, which change may alter first. Once it
// is invited it starts as a member.
func (r *rig) joiner(change func(*bootstrap.Options)) *waiting {
	r.t.Helper()
	w := &waiting{Options: r.joinOptions(reserve(r.t, 1)[0])}
	if change != nil {
		change(&w.Options)
	}
	r.enter(w)
	return w
}

// joinOptions are those of a node that waits at a url to be added.
func (r *rig) joinOptions(url string) bootstrap.Options {
	return bootstrap.Options{Dir: r.t.TempDir(), URL: url, Join: true, Terms: terms}
}

// enter starts a node and returns when it waits, or has been invited already.
func (r *rig) enter(w *waiting) {
	r.t.Helper()
	var ctx context.Context
	ctx, w.cancel = context.WithCancel(context.Background())
	w.done = make(chan struct{})
	go func() {
		defer close(w.done)
		if w.id, w.err = bootstrap.Enter(ctx, w.Options); w.err == nil {
			w.err = r.start(w.id)
		}
	}()
	stop := func() { w.cancel(); <-w.done }
	r.t.Cleanup(stop)
	client := bootstrap.NewClient(nil, nil)
	testkit.Eventually(r.t, "the node waits on its port", func() bool {
		select {
		case <-w.done:
			return true
		default:
			_, err := client.Probe(r.t.Context(), w.URL)
			return err == nil
		}
	})
}

// reservation is the record of a node that was given a replica id.
func (w *waiting) reservation(t *testing.T) replica.Member {
	t.Helper()
	hello, err := bootstrap.NewClient(nil, nil).Probe(t.Context(), w.URL)
	if err != nil {
		t.Fatal(err)
	}
	return replica.Member{RaftAddress: w.URL[len("http://"):], UUID: hello.UUID}
}

// stop ends the waiting.
func (w *waiting) stop() { w.cancel(); <-w.done }

// expectOutcome fails unless an error says, to programs and to people, what became
// of the change.
func expectOutcome(t *testing.T, err error, outcome kv.Outcome) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if got := kv.OutcomeOf(err); got != outcome || strings.Count(err.Error(), "("+outcome.String()+")") != 1 {
		t.Errorf("an error of which %v was expected is %v: %v", outcome, got, err)
	}
}

// expectError fails unless an error is of a kind and says all of the words.
func expectError(t *testing.T, err error, kind kv.Kind, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, where %q was expected", words)
	}
	if got := kv.KindOf(err); got != kind {
		t.Errorf("kind %v, not %v: %v", got, kind, err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error does not say %q: %v", w, err)
		}
	}
}

// errCut is the error with which a test interrupts a change.
var errCut = errors.New("cut short")
