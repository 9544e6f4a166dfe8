// Package observe looks at a whole cluster at once: it finds all nodes from those that are
// named, asks each for its status and, over HTTP, for its metrics and the description of its
// host, and keeps the answers with the errors of what did not answer. It judges nothing.
package observe

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/modelspb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/clients/go/dkv/admin"
	"github.com/dkvdb/dkv/internal/ctl/nodes"
)

// Want says what is asked for over HTTP, beside the status.
type Want struct{ Metrics, Health, Report bool }

// Node is a node with its answers.
type Node struct {
	// Address is its gRPC address.
	Address string
	// Member is the node as its cluster lists it; nil if it is no member, or only a slave.
	Member *modelspb.NodeInfo
	// MemberOf is the id of the cluster that lists it, and MemberRole the role of that cluster's
	// members: a member that does not answer says neither.
	MemberOf, MemberRole string
	// Status is nil if the node does not answer; then Err says why.
	Status *serverpb.NodeStatusResponse
	Err    error
	// Metrics, Health and Report are nil if they were not asked for, or not answered.
	Metrics *Metrics
	Health  *Health
	Report  *Report
	// HTTPErr is why some of these are missing.
	HTTPErr error
	// Ahead is by how much the node's wall clock is ahead of this machine's, to half of Within.
	Ahead, Within time.Duration
}

// Name is how the node is called in a sentence.
func (n *Node) Name() string {
	if name := cmp.Or(n.Status.GetNodeName(), n.Member.GetNodeName()); name != "" {
		return name + " (" + n.Address + ")"
	}
	return n.Address
}

// Role is none, master, slave or discovery; empty if the node does not answer and is no
// member.
func (n *Node) Role() string {
	if n.Status == nil && n.Member != nil {
		return n.MemberRole
	}
	return n.Status.GetRole()
}

// The roles of nodes.
const (
	Standalone = "none"
	Master     = "master"
	Slave      = "slave"
	Discovery  = "discovery"
)

// Voter reports whether the node has a vote in its cluster.
func (n *Node) Voter() bool { return n.Member != nil && !n.Member.GetNonVoting() }

// Cluster is what was found, at one time.
type Cluster struct {
	At    time.Time
	Nodes []*Node
	// Rows are the registry's; nil if no node of a registry was found.
	Rows []*serverpb.RegionInfo
}

// Take finds the nodes from the addresses of the client and asks all of them.
func Take(ctx context.Context, client *nodes.Client, want Want) *Cluster {
	t := &taking{client: client, want: want, cluster: &Cluster{At: time.Now()}, known: make(map[string]*Node)}
	t.ask(ctx, client.Addrs)
	t.members(ctx)
	t.slaves(ctx)
	if t.registry(ctx) {
		t.slaves(ctx)
	}
	slices.SortStableFunc(t.cluster.Nodes, func(a, b *Node) int {
		return cmp.Or(cmp.Compare(order(a), order(b)), cmp.Compare(a.Name(), b.Name()))
	})
	return t.cluster
}

// order puts masters first, then slaves, then the registry.
func order(n *Node) int {
	return slices.Index([]string{Master, Standalone, Slave, Discovery}, n.Role())
}

type taking struct {
	client  *nodes.Client
	want    Want
	cluster *Cluster
	known   map[string]*Node // by every address by which it was asked
}

// ask asks the nodes at addresses that have not been asked yet, at the same time.
func (t *taking) ask(ctx context.Context, addrs []string) {
	var fresh []*Node
	for _, addr := range addrs {
		if addr == "" || t.known[addr] != nil {
			continue
		}
		n := &Node{Address: addr}
		t.known[addr] = n
		fresh = append(fresh, n)
	}
	var all sync.WaitGroup
	for _, n := range fresh {
		all.Go(func() { t.askOne(ctx, n) })
	}
	all.Wait()
	for _, n := range fresh {
		if same := t.sameAs(n); same != nil {
			t.known[n.Address] = same
			continue
		}
		t.cluster.Nodes = append(t.cluster.Nodes, n)
	}
}

// sameAs returns the node that was asked before under another address; nil for none.
func (t *taking) sameAs(n *Node) *Node {
	if n.Status == nil {
		return nil
	}
	for _, o := range t.cluster.Nodes {
		if o.Status != nil && o.Status.GetAddress() == n.Status.GetAddress() && o.Status.GetNodeName() == n.Status.GetNodeName() &&
			o.Status.GetNodeId() == n.Status.GetNodeId() && o.Status.GetRole() == n.Status.GetRole() {
			return o
		}
	}
	return nil
}

func (t *taking) askOne(ctx context.Context, n *Node) {
	if n.Err = t.client.MayAsk(n.Address); n.Err != nil {
		return
	}
	one := t.client.To(n.Address)
	defer one.Close()
	n.Err = one.Call(ctx, nodes.Reads, func(ctx context.Context, conn grpc.ClientConnInterface) (err error) {
		n.Status, err = admin.NodeStatus(ctx, conn)
		return err
	})
	if n.Err != nil {
		n.Status = nil
		return
	}
	t.askHTTP(ctx, one, n)
}

func (t *taking) askHTTP(ctx context.Context, one *nodes.Client, n *Node) {
	addr := n.Status.GetHttpAddress()
	if addr == "" {
		return
	}
	get := func(wanted bool, path string, into any) bool {
		if !wanted || n.HTTPErr != nil {
			return false
		}
		n.HTTPErr = one.GetJSON(ctx, addr, path, into)
		return n.HTTPErr == nil
	}
	var metrics Metrics
	if get(t.want.Metrics, "/metrics/json?name="+strings.Join(Names(), "&name="), &metrics) {
		n.Metrics = &metrics
	}
	var health Health
	if get(t.want.Health, "/health", &health) {
		n.Health = &health
	}
	var report Report
	before := time.Now()
	if get(t.want.Report, "/admin/node", &report) {
		n.Report = &report
		n.Within = time.Since(before)
		n.Ahead = report.Host.Time.Sub(before.Add(n.Within / 2))
	}
}

// members asks the members of the clusters of the nodes that answer.
func (t *taking) members(ctx context.Context) {
	for _, n := range slices.Clone(t.cluster.Nodes) {
		if n.Status == nil || n.Member != nil || n.Role() != Master && n.Role() != Discovery {
			continue
		}
		var list *serverpb.ListNodesResponse
		if t.call(ctx, n.Address, func(ctx context.Context, conn grpc.ClientConnInterface) (err error) {
			list, err = admin.ListNodes(ctx, conn)
			return err
		}) != nil {
			continue
		}
		for _, m := range list.GetNodes() {
			t.ask(ctx, []string{m.GetAddress()})
			t.setMember(n, m)
		}
	}
}

// setMember notes that a node is a member, as another one lists it. One whose address is not
// known has a row, too.
func (t *taking) setMember(by *Node, m *modelspb.NodeInfo) {
	if m.GetStatus() == modelspb.NodeInfo_SLAVE {
		return
	}
	n := t.known[m.GetAddress()]
	if n == nil {
		addr := strings.TrimPrefix(strings.TrimPrefix(m.GetNodeUrl(), "https://"), "http://")
		if t.known[addr] != nil {
			return
		}
		n = &Node{Address: addr, Err: errUnknown}
		t.known[addr] = n
		t.cluster.Nodes = append(t.cluster.Nodes, n)
	}
	if cluster := by.Status.GetClusterId(); n.Status == nil || n.Status.GetClusterId() == cluster {
		n.Member, n.MemberOf, n.MemberRole = m, cluster, by.Role()
	}
}

// slaves asks the slaves that follow the nodes that answer.
func (t *taking) slaves(ctx context.Context) {
	for _, n := range slices.Clone(t.cluster.Nodes) {
		if n.Status == nil || n.Role() == Discovery {
			continue
		}
		var replicas []*serverpb.Replica
		if t.call(ctx, n.Address, func(ctx context.Context, conn grpc.ClientConnInterface) (err error) {
			replicas, err = admin.Replicas(ctx, conn, "")
			return err
		}) != nil {
			continue
		}
		for _, r := range replicas {
			t.ask(ctx, []string{hostPort(r)})
		}
	}
}

// registry reads the rows of the registry from the first of its nodes that answers: one that
// was found, or that a node's configuration names. It reports whether it asked further nodes.
func (t *taking) registry(ctx context.Context) bool {
	before := len(t.cluster.Nodes)
	t.ask(ctx, t.registryAddresses())
	t.members(ctx)
	for _, n := range t.cluster.Nodes {
		if n.Role() != Discovery || n.Status == nil || t.cluster.Rows != nil {
			continue
		}
		_ = t.call(ctx, n.Address, func(ctx context.Context, conn grpc.ClientConnInterface) (err error) { // the next one may answer
			t.cluster.Rows, err = admin.ClusterInfo(ctx, conn, admin.Filter{})
			return err
		})
	}
	var listed []string
	for _, r := range t.cluster.Rows {
		if t.ours(r.GetDatabase()) {
			listed = append(listed, r.GetNodeAddress())
		}
	}
	t.ask(ctx, listed)
	return len(t.cluster.Nodes) > before
}

// ours reports whether a node that answers serves a database: a registry has others, too.
func (t *taking) ours(database string) bool {
	return slices.ContainsFunc(t.cluster.Nodes, func(n *Node) bool {
		return n.Status != nil && n.Role() != Discovery && n.Status.GetDatabase() == database
	})
}

func (t *taking) registryAddresses() []string {
	var out []string
	for _, n := range t.cluster.Nodes {
		if n.Report != nil && n.Report.UsesRegistry() {
			out = append(out, n.Report.RegistryAddresses()...)
		}
	}
	return out
}

func (t *taking) call(ctx context.Context, addr string, request func(context.Context, grpc.ClientConnInterface) error) error {
	one := t.client.To(addr)
	defer one.Close()
	return one.Call(ctx, nodes.Reads, request)
}
