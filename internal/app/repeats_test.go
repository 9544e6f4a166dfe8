package app

import (
	"slices"
	"testing"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestRepeatsOverTwoPromotions: what was asked of a promoted master at once, and is repeated after
// the promotion of a slave that has followed that master by changes, is applied once.
func TestRepeatsOverTwoPromotions(t *testing.T) {
	twoLogs := []string{"--vbuckets", "2"} // a slave of them becomes a master that keeps logs by Raft
	nodes := mastersWith(t, 1, append(slices.Clone(twoLogs), "--disable-discovery-client")...)
	var slaves []*process
	for range 2 {
		p := slaveOf(t, nodes, append(slices.Clone(twoLogs), "--nexus-node-url", "http://"+testkit.Address(t))...)
		slaves, nodes = append(slaves, p), append(nodes, p)
	}
	// A connection of its own has no pause behind it when the node begins to serve in its new role.
	client := func(p *process) serverpb.DKVClient { return serverpb.NewDKVClient(connect(t, p.listen)) }
	has := func(p *process, key string) {
		t.Helper()
		testkit.Eventually(t, "a slave has "+key, func() bool {
			resp, err := client(p).Get(testkit.Within(t, testkit.Patience), &serverpb.GetRequest{Key: []byte(key)})
			return err == nil && resp.GetFound()
		})
	}
	increment := func(p *process, id *serverpb.RequestID) (counter int64) {
		t.Helper()
		testkit.Eventually(t, "an increment is answered", func() bool {
			resp, err := client(p).Increment(testkit.Within(t, testkit.Patience), &serverpb.IncrementRequest{Key: []byte("n"), Delta: 1, RequestId: id})
			counter = resp.GetValue()
			return err == nil
		})
		return counter
	}
	promote := func(p *process) {
		t.Helper()
		testkit.Eventually(t, "a slave is promoted", func() bool {
			_, err := promoteNode(t, p, &serverpb.PromoteRequest{Planned: true})
			return err == nil
		})
	}

	if _, err := client(nodes[0]).Put(testkit.Within(t, testkit.Patience), &serverpb.PutRequest{Key: []byte("before"), Value: []byte("1")}); err != nil {
		t.Fatal(err)
	}
	for _, p := range slaves {
		has(p, "before")
	}
	promote(slaves[0])
	if got := increment(slaves[0], &serverpb.RequestID{ClientId: 7, Sequence: 1}); got != 1 {
		t.Fatalf("the counter is %d at first", got)
	}
	has(slaves[1], "n")
	promote(slaves[1])
	if got := increment(slaves[1], &serverpb.RequestID{ClientId: 7, Sequence: 1, Repeat: true}); got != 1 {
		t.Errorf("the counter is %d after a repeat", got)
	}
}
