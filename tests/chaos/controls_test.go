package chaos

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestBatteryCanFail produces two errors with a real cluster and expects the checks to
// find them: a stale read, by recording a sequential read of a follower that is cut off
// as a linearizable one, and a lost write, by recording one that never was made.
func TestBatteryCanFail(t *testing.T) {
	t.Parallel()
	c := newNetworkedCluster(t, 3)
	h := newHistory()
	l := &load{t: t, c: c, history: h, keys: newKeys(), ledger: make(map[string]written)}
	leader := c.leader()
	follower := c.others(leader)[0]
	put := func(v string) uint64 {
		t.Helper()
		call := h.now()
		index := leader.put("k", v, 0)
		h.add(0, input{kind: opPut, key: "k", value: v}, call, output{}, h.now())
		return index
	}
	get := func(within time.Duration, level serverpb.ReadConsistency) (*serverpb.GetResponse, error) {
		ctx, cancel := context.WithTimeout(context.Background(), within)
		defer cancel()
		return follower.kv().Get(ctx, &serverpb.GetRequest{Key: []byte("k"), ReadConsistency: level})
	}
	follower.awaitIndex(put("old"))
	if resp, err := get(testkit.Patience, serverpb.ReadConsistency_SEQUENTIAL); err != nil || string(resp.GetValue()) != "old" {
		t.Fatalf("a follower that has applied the write: %v, %v", resp, err)
	}
	follower.cut(allRules(follower))
	l.ledger["k"] = written{value: "new", index: put("new")}
	if result, _ := h.check(checkLimit); result != porcupine.Ok {
		t.Fatalf("before the stale read: %s", result)
	}
	if _, err := get(time.Second, serverpb.ReadConsistency_LINEARIZABLE); status.Code(err) != codes.Unavailable && status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a linearizable read of a follower that is cut off: %v", err)
	}
	call := h.now()
	resp, err := get(testkit.Patience, serverpb.ReadConsistency_SEQUENTIAL)
	if err != nil {
		t.Fatal(err)
	}
	h.add(1, input{kind: opGet, key: "k"}, call, output{value: string(resp.GetValue())}, h.now())
	if result, _ := h.check(checkLimit); result != porcupine.Illegal {
		t.Errorf("with a read of %q after %q was written: %s", resp.GetValue(), "new", result)
	}
	follower.heal()
	follower.rejoin()
	if lost := len(l.lost()); lost != 0 {
		t.Errorf("%d lost of what is there", lost)
	}
	l.ledger["never"] = written{value: "v", index: 1}
	if lost := len(l.lost()); lost != 1 {
		t.Errorf("%d lost, with one that never was", lost)
	}
}

// The tests below run the checks against nodes with a fault, and expect it to be found.

// TestUnsyncedWritesAreFound cuts the power of nodes that acknowledge writes that are not
// on disk.
func TestUnsyncedWritesAreFound(t *testing.T) {
	t.Parallel()
	canInject(t, "sync that does nothing", unsynced)
	c := powerCluster(t, 3, unsynced)
	// Make the present writes durable: without them no node would start, which would prove
	// little about writes.
	for _, n := range c.nodes {
		n.must(n.disk.flush())
	}
	l := startLoad(c, newRand(t))
	l.await(100)
	if err := c.losePower(); err != nil {
		t.Logf("found: a node does not start: %v", err)
		return
	}
	l.mustFind("acknowledged writes are lost")
}

// TestSplitBatchIsFound has a node that writes change records after the data, and dies
// between the two writes. The batch has a key that is acknowledged in any case.
func TestSplitBatchIsFound(t *testing.T) {
	t.Parallel()
	c := makeLocalCluster(t, 3)
	faulty := c.nodes[1]
	faulty.program = splitBatches
	c.start(c.nodes...)
	l := startLoad(c, newRand(t))
	index := c.nodes[0].put(crashKey, "v", 0)
	l.mu.Lock()
	l.ledger[crashKey] = written{value: "v", index: index}
	l.mu.Unlock()
	faulty.Wait()
	faulty.kill()
	c.start(faulty)
	l.await(20)
	l.mustFind(fmt.Sprintf("node %d has %s", faulty.number, crashKey), "in its changes at []")
}

// TestLocalClockIsFound has nodes that compare and set by their own clocks, and one key
// that is set when it has expired by all clocks but that of node 1.
func TestLocalClockIsFound(t *testing.T) {
	t.Parallel()
	const skew = 20 * time.Second
	c := makeLocalCluster(t, 3)
	for i, n := range c.nodes {
		n.program, n.env = localClock, []string{fmt.Sprintf("%s=%v", clockSkew, time.Duration(i)*skew)}
	}
	c.start(c.nodes...)
	l := startLoad(c, newRand(t))
	for n := 0; ; n++ {
		expiry := time.Now().Truncate(time.Second).Add(skew / 2)
		key := fmt.Sprintf("%s%d-control-%d", expiringKeys, expiry.Unix(), n)
		index := c.nodes[0].put(key, "old", expiry.Unix())
		c.nodes[2].awaitIndex(index) // or it may apply both at once, without a look at its clock
		c.nodes[0].awaitIndex(c.nodes[0].compareAndSet(key, "old", "new"))
		if time.Now().Before(expiry) {
			break // node 1 has not seen it expire
		}
	}
	l.mustFind("holds", "keys with hash")
}

// mustFind ends the load, and fails the test unless a check finds an error whose text
// has all of the words.
func (l *load) mustFind(words ...string) {
	l.t.Helper()
	found := l.judge()
	for _, text := range found {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, w) }) {
			l.t.Logf("found: %s, and %d more", text, len(found)-1)
			return
		}
	}
	l.t.Errorf("the battery found %q, and nothing that says %q", found, words)
}

// cannotInject is the exit code of a program that cannot inject its fault on this host.
const cannotInject = 77

// canInject skips the test if a program cannot inject its fault on this host.
func canInject(t *testing.T, fault, program string) {
	t.Helper()
	out, err := exec.Command(program, "--version").CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == cannotInject {
		testkit.SkipFault(t, fault, errors.New(strings.TrimSpace(string(out))))
	}
	if err != nil {
		t.Fatalf("%s --version: %v: %s", program, err, out)
	}
}
