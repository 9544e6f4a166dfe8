package app

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestAMasterWithoutTheRegistryStepsAside: what it leads would be out of service, although the others
// have the registry's lease and so keep the standby from taking over.
func TestAMasterWithoutTheRegistryStepsAside(t *testing.T) {
	registry := start(t, "--role", "discovery")
	registry.grpc()
	const n = 3
	urls, cuts, nodes, clients := make([]string, n), make([]func(), n), make([]*process, n), make([]serverpb.DKVClient, n)
	for i := range urls {
		urls[i] = "http://" + testkit.Address(t)
	}
	for i := range nodes {
		var at string
		at, cuts[i] = testkit.ForwardUntil(t, registry.listen)
		nodes[i] = start(t, "--role", "master", "--node-name", fmt.Sprint("n", i+1), "--nexus-node-url", urls[i], "--nexus-cluster-url", strings.Join(urls, ","),
			"--discovery-service.client.discovery-service-addr", at, "--vbuckets", "4", "--auto-promote-after", "6s", "--repl-ack", "sync", "--repl-ack-fallback", "async")
	}
	for i, p := range nodes {
		p.http()
		clients[i] = serverpb.NewDKVClient(connect(t, p.listen))
	}
	leads := func(p *process) int {
		resp, err := serverpb.NewDKVNodeClient(connect(t, p.listen)).GetNodeStatus(testkit.Within(t, testkit.Patience), &emptypb.Empty{})
		if err != nil {
			t.Fatal(err)
		}
		led := 0
		for _, v := range resp.GetVBuckets() {
			if v.GetIsLeader() {
				led++
			}
		}
		return led
	}
	const keys = 32 // in every vBucket
	all := func(at int) bool {
		for i := range keys {
			if _, err := clients[at].Put(testkit.Within(t, time.Second), &serverpb.PutRequest{Key: fmt.Append(nil, "key-", i), Value: []byte("x")}); err != nil {
				t.Log(err)
				return false
			}
		}
		return true
	}
	testkit.Eventually(t, "writes are acknowledged in all vBuckets", func() bool { return all(0) })
	apart := slices.IndexFunc(nodes, func(p *process) bool { return leads(p) > 0 })
	cuts[apart]()
	testkit.Eventually(t, "the master without the registry leads nothing", func() bool { return leads(nodes[apart]) == 0 })
	testkit.Eventually(t, "writes go on in all vBuckets", func() bool { return all((apart + 1) % n) })
}
