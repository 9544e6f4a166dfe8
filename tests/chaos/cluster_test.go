package chaos

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/internal/testkit/process"
)

// lease is the default of lease-duration.
const lease = 400 * time.Millisecond

// cluster is a group of masters.
type cluster struct {
	t       *testing.T
	dir     string
	clients *place
	nodes   []*node
	urls    []string
	// registry and slaves are empty unless a test adds them.
	registry []*node
	slaves   []*node
	made     int // nodes of all roles
	stopped  sync.Once
	power    powerCut
	security *security
}

// node is a member. Its addresses and folder outlive its process.
type node struct {
	c                *cluster
	number           int      // from 1
	role             []string // the arguments of its role; nil means a member
	args             []string // more than others are given
	program          string   // that it runs
	env              []string // besides the process's own
	flags            []string // besides those of all
	disk             *disk    // that its data is on; nil is the host's
	place            *place
	ip               string
	url              string // of Raft
	addr             string // of gRPC
	conn             *grpc.ClientConn
	*process.Process        // nil while it is down
	http             string // as the process said last
}

// newCluster starts n masters.
func newCluster(t *testing.T, n int) *cluster {
	t.Helper()
	c := makeLocalCluster(t, n)
	c.start(c.nodes...)
	return c
}

// makeLocalCluster makes n masters on the loopback address of this process.
func makeLocalCluster(t *testing.T, n int) *cluster {
	t.Helper()
	clients, err := newPlace(false)
	if err != nil {
		t.Fatal(err)
	}
	places := make([]*place, n)
	for i := range places {
		if places[i], err = newPlace(false); err != nil {
			t.Fatal(err)
		}
	}
	host, err := testkit.Host()
	if err != nil {
		t.Fatal(err)
	}
	return makeCluster(t, clients, places, func(int) string { return host })
}

// newNetworkedCluster starts n masters on networks of their own.
func newNetworkedCluster(t *testing.T, n int) *cluster {
	t.Helper()
	clients, places, err := networks(n)
	if err != nil {
		testkit.SkipFault(t, "partition", err)
	}
	c := makeCluster(t, clients, places, nodeIP)
	c.start(c.nodes...)
	return c
}

func makeCluster(t *testing.T, clients *place, places []*place, ip func(int) string) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir(), clients: clients}
	c.security = newSecurity(t, c.dir)
	t.Cleanup(c.close)
	for i, p := range places {
		n := c.node(p, ip(i))
		c.nodes = append(c.nodes, n)
		raft, err := p.freeAddr(n.ip)
		if err != nil {
			t.Fatal(err)
		}
		n.url = "http://" + raft
		c.urls = append(c.urls, n.url)
	}
	return c
}

// node makes a node with an address, which does not run.
func (c *cluster) node(p *place, ip string, role ...string) *node {
	c.t.Helper()
	c.made++
	n := &node{c: c, number: c.made, role: role, program: dkvsrv, place: p, ip: ip}
	var err error
	if n.addr, err = p.freeAddr(n.ip); err != nil {
		c.t.Fatal(err)
	}
	if n.conn, err = c.connect(n.addr); err != nil {
		c.t.Fatal(err)
	}
	return n
}

// all are the nodes of all roles.
func (c *cluster) all() []*node {
	return slices.Concat(c.nodes, c.slaves, c.registry)
}

// connect opens a connection that reconnects soon after its node is back.
func (c *cluster) connect(addr string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+addr, append(c.security.dialOptions(),
		grpc.WithUnaryInterceptor(c.power.unary),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return c.clients.dial(ctx, "tcp", addr) }),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, Jitter: 0.2, MaxDelay: 200 * time.Millisecond},
			MinConnectTimeout: time.Second,
		}))...)
}

func (c *cluster) close() {
	c.stopped.Do(func() {
		for _, n := range c.all() {
			n.kill()
			if n.conn != nil {
				_ = n.conn.Close()
			}
		}
		c.keepLogs()
		for _, n := range c.all() {
			n.place.close()
		}
		c.clients.close()
	})
}

// keepLogs keeps each node's log, and shows its end if the test has failed.
func (c *cluster) keepLogs() {
	for _, n := range c.all() {
		raw, err := os.ReadFile(n.logPath())
		if err != nil {
			c.t.Logf("node %d: %v", n.number, err)
			continue
		}
		if c.t.Failed() {
			lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
			c.t.Logf("the end of node %d's log:\n%s", n.number, strings.Join(lines[max(0, len(lines)-40):], "\n"))
		}
		if err := os.WriteFile(filepath.Join(c.t.ArtifactDir(), filepath.Base(n.logPath())), raw, 0o644); err != nil {
			c.t.Log(err)
		}
	}
}

// start starts nodes together and waits until all of them serve.
func (c *cluster) start(nodes ...*node) {
	c.t.Helper()
	for _, n := range nodes {
		n.launch()
	}
	for _, n := range nodes {
		n.await()
	}
}

func (n *node) logPath() string { return filepath.Join(n.c.dir, fmt.Sprintf("node%d.log", n.number)) }

// folder returns the folder of the node's data.
func (n *node) folder() string {
	if n.disk != nil {
		return filepath.Join(n.disk.path, "db")
	}
	return filepath.Join(n.c.dir, fmt.Sprintf("node%d", n.number))
}

// launch starts the node and does not wait.
func (n *node) launch() {
	n.c.t.Helper()
	var err error
	args := []string{
		"--node-name", fmt.Sprintf("node%d", n.number),
		"--db-folder", n.folder(),
		"--listen-addr", n.addr, "--http-listen-addr", net.JoinHostPort(n.ip, "0"),
		"--log-level", *level, "--write-buffer-size", "4MiB", "--block-cache-size", "16MiB",
	}
	args = append(args, n.c.security.nodeFlags()...)
	if n.role != nil {
		args = append(args, n.role...)
	} else {
		args = append(args, "--role", "master",
			"--nexus-cluster-name", "chaos", "--nexus-node-url", n.url, "--nexus-cluster-url", strings.Join(n.c.urls, ","))
	}
	args = append(args, n.flags...)
	switch {
	case n.c.registry == nil:
		args = append(args, "--disable-discovery-client")
	case !slices.Contains(n.c.registry, n):
		var addrs []string
		for _, r := range n.c.registry {
			addrs = append(addrs, r.addr)
		}
		args = append(args, "--discovery-service.client.discovery-service-addr", strings.Join(addrs, ","))
	}
	args = append(args, n.args...)
	n.Process, err = process.Start(process.Options{
		Program: n.program, Args: args, Env: append(process.Environ(), n.env...),
		Dir: n.c.dir, Log: n.logPath(), In: n.place.do,
	})
	if err != nil {
		n.c.t.Fatalf("node %d: %v", n.number, err)
	}
}

// await waits until the node serves.
func (n *node) await() {
	n.c.t.Helper()
	n.must(n.tryAwait())
}

// tryAwait waits until the node serves, or has failed to start.
func (n *node) tryAwait() error {
	at, err := n.Process.Await()
	if err != nil {
		return err
	}
	n.http = at.HTTP
	n.conn.ResetConnectBackoff()
	n.conn.Connect()
	return nil
}

// kill ends the process at once, even one that is paused.
func (n *node) kill() {
	if n.Process != nil {
		n.Process.End(syscall.SIGKILL)
		n.Process = nil
	}
}

// stop ends the process as an operator does.
func (n *node) stop() {
	n.c.t.Helper()
	if code := n.Process.End(syscall.SIGTERM); code != 0 {
		n.c.t.Errorf("node %d, told to stop, exited with %d", n.number, code)
	}
	n.Process = nil
}

// pause stops the process, resume lets it continue.
func (n *node) pause()  { n.must(n.Process.Signal(syscall.SIGSTOP)) }
func (n *node) resume() { n.must(n.Process.Signal(syscall.SIGCONT)) }

func (n *node) must(err error) {
	n.c.t.Helper()
	if err != nil {
		n.c.t.Fatalf("node %d: %v", n.number, err)
	}
}

func (n *node) kv() serverpb.DKVClient           { return serverpb.NewDKVClient(n.conn) }
func (n *node) admin() serverpb.DKVClusterClient { return serverpb.NewDKVClusterClient(n.conn) }

// standing returns the node's status of its vBucket; nil if it does not answer.
func (n *node) standing() *serverpb.VBucketStatus {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	resp, err := serverpb.NewDKVNodeClient(n.conn).GetNodeStatus(ctx, &emptypb.Empty{}, grpc.WaitForReady(true))
	if err != nil || len(resp.GetVBuckets()) != 1 {
		return nil
	}
	return resp.GetVBuckets()[0]
}

// leader returns the master that leads, waiting for one.
func (c *cluster) leader() *node {
	c.t.Helper()
	return leaderOf(c.nodes)
}

// leaderOf returns the one of several nodes that leads them, waiting for it.
func leaderOf(nodes []*node) *node {
	t := nodes[0].c.t
	t.Helper()
	var leader *node
	testkit.Eventually(t, "a node leads", func() bool {
		leader = nil
		term := uint64(0)
		for _, n := range nodes {
			if n.Process == nil {
				continue
			}
			if s := n.standing(); s.GetIsLeader() && s.GetTerm() > term {
				leader, term = n, s.GetTerm()
			}
		}
		return leader != nil
	})
	return leader
}

// others returns the nodes but one.
func (c *cluster) others(not *node) (out []*node) {
	for _, n := range c.nodes {
		if n != not {
			out = append(out, n)
		}
	}
	return out
}

// readsByPath sums the linearizable reads of a node by how they were answered,
// since its process started.
func (n *node) readsByPath() (map[string]float64, error) {
	resp, err := n.get("/metrics")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		return nil, err
	}
	out := make(map[string]float64)
	for _, m := range families["dkv_lease_reads_total"].GetMetric() {
		for _, l := range m.GetLabel() {
			if l.GetName() == "path" {
				out[l.GetValue()] += m.GetCounter().GetValue()
			}
		}
	}
	return out, nil
}

// checkReplicas waits until all members and slaves are at one index, and returns how
// their contents differ there. No client may write meanwhile.
func (c *cluster) checkReplicas() (found []string) {
	c.t.Helper()
	nodes := slices.Concat(c.nodes, c.slaves)
	var hashes []*serverpb.ContentHashResponse
	testkit.Eventually(c.t, "all nodes stand at one index", func() bool {
		hashes = hashes[:0]
		for _, n := range nodes {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			h, err := serverpb.NewDKVNodeClient(n.conn).GetContentHash(ctx, &serverpb.ContentHashRequest{}, grpc.WaitForReady(true))
			cancel()
			if err != nil {
				c.t.Logf("node %d: %v", n.number, err)
				return false
			}
			hashes = append(hashes, h)
		}
		for _, h := range hashes {
			if h.GetIndex() != hashes[0].GetIndex() {
				return false
			}
		}
		return true
	})
	for i, h := range hashes {
		if !bytes.Equal(h.GetHash(), hashes[0].GetHash()) || h.GetKeys() != hashes[0].GetKeys() {
			found = append(found, fmt.Sprintf("node %d holds %d keys with hash %x at index %d, node 1 %d with %x",
				nodes[i].number, h.GetKeys(), h.GetHash(), h.GetIndex(), hashes[0].GetKeys(), hashes[0].GetHash()))
		}
	}
	c.t.Logf("%d nodes at index %d: %d keys, hash %x", len(hashes), hashes[0].GetIndex(), hashes[0].GetKeys(), hashes[0].GetHash())
	return found
}
