package chaos

import (
	"errors"
	"testing"
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

// losePower cuts the power of all nodes at once and restores it: the disks are as the
// last syncs left them. The error is that of a node that does not start from its disk.
func (c *cluster) losePower() error {
	c.t.Helper()
	for _, n := range c.nodes {
		n.must(n.disk.losePower())
	}
	for _, n := range c.nodes {
		n.kill()
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
