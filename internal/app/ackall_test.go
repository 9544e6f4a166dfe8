package app

import (
	"fmt"
	"regexp"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestWritesAtLevelAllAreEverywhere: each master and each slave has such a write when it is
// acknowledged. A node that is gone is marked as down, and awaited again once it is back.
func TestWritesAtLevelAllAreEverywhere(t *testing.T) {
	nodes := mastersWith(t, 3, "--disable-discovery-client", "--repl-ack", "semi_sync", "--repl-ack-timeout", "3s")
	for _, n := range nodes {
		n.grpc()
	}
	slave := start(t, "--role", "slave", "--disable-discovery-client", "--repl-mode", "stream", "--repl-master-addr", nodes[0].listen)
	slave.grpc()
	client := serverpb.NewDKVClient(connect(t, nodes[0].listen))
	written := 0
	put := func() ([]byte, error) {
		written++
		key := fmt.Appendf(nil, "key-%d", written)
		resp, err := client.Put(testkit.Within(t, testkit.Patience), &serverpb.PutRequest{Key: key, Value: key, Ack: serverpb.AckLevel_ACK_ALL})
		if err == nil && resp.GetAcked() != serverpb.AckLevel_ACK_ALL {
			t.Fatalf("the write has reached %v", resp.GetAcked())
		}
		return key, err
	}
	on := func(key []byte, nodes ...*process) {
		t.Helper()
		for _, n := range nodes {
			resp, err := serverpb.NewDKVClient(connect(t, n.listen)).Get(testkit.Within(t, testkit.Patience), &serverpb.GetRequest{Key: key})
			if err != nil || !resp.GetFound() {
				t.Fatalf("%s was acknowledged at level all, and %s has it: %v, %v", key, n.listen, resp.GetFound(), err)
			}
		}
	}
	everywhere := append([]*process{slave}, nodes...)
	testkit.Eventually(t, "a write reaches level all", func() bool {
		key, err := put()
		if err == nil {
			on(key, everywhere...)
		}
		return err == nil
	})
	gone := follower(t, nodes)
	others := others(everywhere, gone)
	gone.stop()
	testkit.Eventually(t, "the node that is gone is marked as down", func() bool {
		key, err := put()
		if err == nil {
			on(key, others...)
		} else if status.Code(err) != codes.Unavailable {
			t.Fatal(err)
		}
		return err == nil
	})
	st, err := serverpb.NewDKVNodeClient(connect(t, owner(t, nodes).listen)).GetNodeStatus(testkit.Within(t, testkit.Patience), nil)
	if down := st.GetVBuckets()[0].GetStanding().GetDown(); err != nil || !slices.Contains(down, gone.listen) {
		t.Errorf("the status shows %q as down: %v", down, err)
	}
	gone.begin()
	gone.grpc()
	owner(t, nodes).log.waitFor(t, regexp.MustCompile("(marked as down no longer)"))
	key, err := put()
	if err != nil {
		t.Fatal(err)
	}
	on(key, everywhere...)
}

// others are the nodes but for one.
func others(nodes []*process, but *process) (out []*process) {
	for _, n := range nodes {
		if n != but {
			out = append(out, n)
		}
	}
	return out
}

// owner is the master that owns the log.
func owner(t *testing.T, nodes []*process) (found *process) {
	t.Helper()
	testkit.Eventually(t, "a master owns the log", func() bool {
		for _, n := range nodes {
			st, err := serverpb.NewDKVNodeClient(connect(t, n.listen)).GetNodeStatus(testkit.Within(t, testkit.Patience), nil)
			if err == nil && st.GetVBuckets()[0].GetIsLeader() {
				found = n
				return true
			}
		}
		return false
	})
	return found
}

// follower is a master that does not own the log, other than the one that the slave follows.
func follower(t *testing.T, nodes []*process) *process {
	t.Helper()
	leader := owner(t, nodes)
	for _, n := range nodes[1:] {
		if n != leader {
			return n
		}
	}
	return nil
}
