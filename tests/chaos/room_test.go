package chaos

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

const (
	bigValues = 40
	bigValue  = 1 << 20
)

// putBig writes values that do not compress.
func (n *node) putBig(rng *rand.Rand, from, to int) {
	n.c.t.Helper()
	value := make([]byte, bigValue)
	for i := from; i < to; i++ {
		for j := range value {
			value[j] = byte(rng.Uint32())
		}
		ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
		_, err := n.kv().Put(ctx, &serverpb.PutRequest{Key: fmt.Appendf(nil, "big%d", i), Value: value}, grpc.WaitForReady(true))
		cancel()
		n.must(err)
	}
}

// fill leaves only this much space on the disk, until the returned function is called.
func (d *disk) fill(t *testing.T, leave uint64) (free func()) {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(d.path, &st); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(d.path, "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, int64(st.Bavail*uint64(st.Bsize)-leave)); err != nil {
		testkit.SkipFault(t, "disk full", err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
}

// health returns the node's health; empty while it does not answer.
func (n *node) health() string {
	resp, err := n.get("/health")
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return string(text)
}

// TestSnapshotWaitsForDisk restarts a master with a small disk after the others have
// truncated their logs, so that it needs a snapshot that does not fit. It stays up, says
// how much space it needs, and follows when there is space; the others serve meanwhile.
func TestSnapshotWaitsForDisk(t *testing.T) {
	t.Parallel()
	rng := newRand(t)
	c := makeLocalCluster(t, 3)
	small := c.nodes[2]
	small.disk = newDisk(t)
	t.Cleanup(c.close) // before the disk is unmounted
	for _, n := range c.nodes {
		n.flags = []string{"--nexus-snapshot-count", "20", "--nexus-snapshot-catchup-entries", "2"}
	}
	c.start(c.nodes...)
	c.leader().putBig(rng, 0, 1)
	testkit.Eventually(t, "the small one has the first value", func() bool { return small.standing().GetAppliedIndex() > 0 })
	small.kill()
	leaderOf(c.others(small)).putBig(rng, 1, bigValues)

	free := small.disk.fill(t, bigValues*bigValue)
	small.launch()
	small.await()
	testkit.Eventually(t, "its health says what it needs", func() bool { return strings.Contains(small.health(), "does not fit") })
	t.Logf("health: %s", small.health())
	leaderOf(c.others(small)).putBig(rng, 0, 1)
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	if _, err := small.kv().Get(ctx, &serverpb.GetRequest{Key: []byte("big0")}); err != nil {
		t.Errorf("what it has cannot be read: %v", err)
	}
	raw, err := os.ReadFile(small.logPath())
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(raw), "this replica cannot catch up"); n != 1 {
		t.Errorf("the log says %d times that it cannot catch up", n)
	}
	free()
	if found := c.checkReplicas(); len(found) > 0 {
		t.Error(strings.Join(found, "\n"))
	}
	testkit.Eventually(t, "its health is in order", func() bool { return !strings.Contains(small.health(), "does not fit") })
	small.stop()
}
