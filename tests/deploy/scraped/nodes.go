// Package scraped has nodes for tests, and a Prometheus that scrapes them.
package scraped

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/internal/testkit/process"
)

// Node is a node of a test, which can be ended and started again.
type Node struct {
	// Process is the running one, and Options are what the next one is started with.
	*process.Process
	Options process.Options
	// GRPC and HTTP are its addresses.
	GRPC, HTTP string
}

// NewNode returns a node without a role that keeps its data in a folder of its own.
func NewNode(dir, name, grpc, http string, args ...string) *Node {
	return &Node{GRPC: grpc, HTTP: http, Options: process.Options{
		Program: "dkvsrv", Dir: dir, Log: filepath.Join(dir, name+".log"), Env: process.Environ(),
		Args: append([]string{"--node-name", name, "--db-folder", filepath.Join(dir, name), "--listen-addr", grpc, "--http-listen-addr", http}, args...),
	}}
}

// Start starts the node, without waiting for it, with variables added to its environment.
func (n *Node) Start(t testing.TB, env ...string) {
	t.Helper()
	o := n.Options
	o.Env = append(slices.Clone(o.Env), env...)
	p, err := process.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	n.Process = p
	t.Cleanup(p.Kill)
}

// Await waits until the node serves.
func (n *Node) Await(t testing.TB) {
	t.Helper()
	if _, err := n.Process.Await(); err != nil {
		t.Fatal(err)
	}
}

// Cluster is nodes by role.
type Cluster map[string][]*Node

// StartCluster starts a registry, three masters and a slave, with arguments of all.
func StartCluster(t testing.TB, args ...string) Cluster {
	t.Helper()
	dir := t.TempDir()
	addresses, err := testkit.Addresses(14)
	if err != nil {
		t.Fatal(err)
	}
	next := func() string { a := addresses[0]; addresses = addresses[1:]; return a }
	out := make(Cluster)
	start := func(role string, of ...string) *Node {
		n := NewNode(dir, fmt.Sprintf("%s%d", role, len(out[role])+1), next(), next(), append(append(of, "--role", role), args...)...)
		n.Start(t)
		out[role] = append(out[role], n)
		return n
	}
	urls := []string{"http://" + next(), "http://" + next(), "http://" + next(), "http://" + next()}
	registry := start("discovery", "--nexus-node-url", urls[3], "--nexus-cluster-url", urls[3])
	for _, u := range urls[:3] {
		start("master", "--nexus-node-url", u, "--nexus-cluster-url", strings.Join(urls[:3], ","),
			"--discovery-service.client.discovery-service-addr", registry.GRPC)
	}
	start("slave", "--discovery-service.client.discovery-service-addr", registry.GRPC)
	for _, of := range out {
		for _, n := range of {
			n.Await(t)
		}
	}
	return out
}

// Forever calls f at a moderate pace until the test ends.
func Forever(t testing.TB, f func(ctx context.Context, i int)) {
	t.Cleanup(testkit.Run(t, func(ctx context.Context) error {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				f(ctx, i)
			}
		}
	}))
}

// Dial connects to a node until the test ends.
func Dial(t testing.TB, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}
