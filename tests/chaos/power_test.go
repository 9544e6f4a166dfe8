package chaos

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// powerCluster starts a cluster each of whose nodes has a disk of its own.
func powerCluster(t *testing.T, n int, program string, role ...string) *cluster {
	t.Helper()
	c := makeLocalCluster(t, n)
	for _, node := range c.nodes {
		node.disk, node.program, node.role = newDisk(t), program, role
	}
	// Before the disks are unmounted.
	t.Cleanup(c.close)
	c.start(c.nodes...)
	return c
}

// powerCut is the moment at which the power goes. Linux may return from a sync with
// success while ext4 is being shut down, without having written its journal; a machine
// without power returns nothing. So no response counts that arrives during the cut.
type powerCut struct {
	// changes counts the beginnings and the ends of cuts: it is odd during one.
	changes atomic.Uint64
}

// unary is a client's interceptor. Whether a call that met a cut was applied is unknown.
func (p *powerCut) unary(ctx context.Context, method string, req, resp any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	before := p.changes.Load()
	err := invoke(ctx, method, req, resp, conn, opts...)
	if after := p.changes.Load(); after != before || after%2 != 0 {
		return status.Error(codes.Unavailable, "the power was cut meanwhile")
	}
	return err
}

// losePower cuts the power of all nodes at once and restores it: the disks are as the
// last syncs left them. The error is that of a node that does not start from its disk.
func (c *cluster) losePower() error {
	c.t.Helper()
	c.power.changes.Add(1)
	for _, n := range c.nodes {
		n.must(n.disk.losePower())
	}
	for _, n := range c.nodes {
		n.kill()
	}
	c.power.changes.Add(1)
	for _, n := range c.nodes {
		n.must(n.disk.recover())
	}
	for _, n := range c.nodes {
		n.launch()
	}
	var failed []error
	for _, n := range c.nodes {
		failed = append(failed, n.tryAwait())
	}
	return errors.Join(failed...)
}

// TestPowerLoss cuts the power of all nodes at once, during writes.
func TestPowerLoss(t *testing.T) {
	for _, layout := range []struct {
		name string
		n    int
		role []string
	}{
		{"masters", 3, nil},
		{"standalone on RocksDB", 1, []string{"--role", "none"}},
		{"standalone on Badger", 1, []string{"--role", "none", "--db-engine", "badger"}},
	} {
		t.Run(layout.name, func(t *testing.T) {
			t.Parallel()
			rng := newRand(t)
			c := powerCluster(t, layout.n, dkvsrv, layout.role...)
			l := startLoad(c, rng)
			for range rounds(2) {
				l.await(20 + rng.IntN(200))
				if err := c.losePower(); err != nil {
					t.Fatal(err)
				}
				l.await(20)
			}
			l.verdict()
		})
	}
}
