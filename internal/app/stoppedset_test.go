package app

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// recordAt returns the record of the database in the registry.
func recordAt(t *testing.T, registry *process) *peerpb.Record {
	t.Helper()
	resp, err := peerpb.NewWitnessClient(connect(t, registry.listen)).GetRecord(testkit.Within(t, testkit.Patience), &peerpb.GetRecordRequest{Database: "default"})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetRecord()
}

// TestSetReplacesStoppedMastersUnderARecord: masters of two vBuckets, whose record is in the registry,
// are cut off from each other and stop for two slaves. The slave that does not stand by is the
// founder, so that the record is no fence. What was acknowledged at sync is there.
func TestSetReplacesStoppedMastersUnderARecord(t *testing.T) {
	registry := start(t, "--role", "discovery")
	registry.grpc()
	shared := []string{"--discovery-service.client.discovery-service-addr", registry.listen, "--vbuckets", "2", "--auto-promote-after", "10m", "--auto-rejoin",
		"--repl-ack", "sync", "--repl-ack-timeout", "30s"}
	nodes := mastersWith(t, 3, append(slices.Clone(shared), "--allow-drills")...)
	var slaves []*process
	for range 2 {
		slaves = append(slaves, start(t, append(slices.Clone(shared), "--role", "slave", "--repl-mode", "stream", "--nexus-node-url", "http://"+testkit.Address(t))...))
	}
	for _, p := range slaves {
		p.grpc()
	}
	var written acked
	end := written.writeUntil(t, nodes)
	testkit.Eventually(t, "writes are acknowledged", func() bool { return written.count() > 100 })
	var standby string
	testkit.Eventually(t, "the record names a standby", func() bool {
		if found := recordAt(t, registry).GetStandbys(); len(found) == 1 {
			standby = found[0].GetAddress()
		}
		return standby != ""
	})
	if slaves[0].listen == standby {
		slices.Reverse(slaves)
	}
	apartFrom(t, nodes)
	var said string
	testkit.Eventually(t, "the slaves are promoted", func() bool {
		var err error
		said, err = promoteNode(t, slaves[0], &serverpb.PromoteRequest{With: []string{slaves[1].listen}})
		if err != nil {
			t.Log(err)
		}
		return err == nil
	})
	end()
	if !strings.Contains(said, "have stopped, a majority of the masters") {
		t.Fatal(said)
	}
	if r := recordAt(t, registry); r.GetEra() != 1 || !slices.Contains(r.GetAddresses(), slaves[0].listen) {
		t.Errorf("the record is %v", r)
	}
	clients := make([]serverpb.DKVClient, len(slaves))
	for i, p := range slaves {
		clients[i] = serverpb.NewDKVClient(connect(t, p.listen))
		testkit.Eventually(t, "the new masters accept mutations", func() bool {
			_, err := clients[i].Put(testkit.Within(t, testkit.Patience), &serverpb.PutRequest{Key: fmt.Append(nil, "after-", i), Value: []byte("x")})
			return err == nil
		})
	}
	for _, key := range written.keys {
		resp, err := clients[0].Get(testkit.Within(t, testkit.Patience), &serverpb.GetRequest{Key: []byte(key), ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
		if err != nil || !resp.GetFound() {
			t.Fatalf("%s was acknowledged and is lost: %v, %v", key, resp, err)
		}
	}
	for _, p := range nodes {
		former := serverpb.NewDKVClient(connect(t, p.listen))
		testkit.Eventually(t, "a former master is a slave of the new ones", func() bool {
			resp, err := former.Get(testkit.Within(t, testkit.Patience), &serverpb.GetRequest{Key: []byte("after-1")})
			return err == nil && resp.GetFound()
		})
	}
}
