package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// apartFrom has no two of some masters reach each other by Raft, until the test ends or they are
// opened again.
func apartFrom(t *testing.T, nodes []*process) {
	t.Helper()
	agree := func(p *process) bool {
		client := serverpb.NewDKVNodeClient(connect(t, p.listen))
		answer, err := client.InjectFault(t.Context(), &serverpb.InjectFaultRequest{Kind: "partition", Millis: 60_000, Check: true})
		if err == nil {
			_, err = answer.Recv()
		}
		return err == nil
	}
	testkit.Eventually(t, "all masters are cut off from each other", func() bool {
		// Meanwhile the faults of an attempt that failed are forgotten by the others.
		testkit.Eventually(t, "all masters agree", func() bool { return !slices.ContainsFunc(nodes, func(p *process) bool { return !agree(p) }) })
		ctx, end := context.WithCancel(t.Context())
		begun := make(chan bool, len(nodes))
		for _, p := range nodes {
			conn := connect(t, p.listen)
			go func() {
				steps, err := serverpb.NewDKVNodeClient(conn).InjectFault(ctx, &serverpb.InjectFaultRequest{Kind: "partition", Millis: 60_000})
				if err == nil {
					_, err = steps.Recv()
				}
				begun <- err == nil
			}()
		}
		all := true
		for range nodes { // a node does not agree to it once it has seen the fault of another one
			all = <-begun && all
		}
		if all {
			t.Cleanup(end)
			return true
		}
		end()
		return false
	})
}

// acked are the keys whose writes were acknowledged.
type acked struct {
	mu   sync.Mutex
	keys []string
}

// writeUntil writes to the nodes, with several writers, until the result is called. Each
// rests between two writes, so that nodes without a majority are not asked without end.
func (a *acked) writeUntil(t *testing.T, nodes []*process) (end func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for i, p := range nodes {
		client := serverpb.NewDKVClient(connect(t, p.listen))
		writers.Go(func() {
			pace := time.NewTicker(2 * time.Millisecond)
			defer pace.Stop()
			for n := 0; ctx.Err() == nil; n++ {
				<-pace.C
				key := fmt.Sprintf("key-%d-%d", i, n)
				limited, done := context.WithTimeout(ctx, testkit.Patience)
				if _, err := client.Put(limited, &serverpb.PutRequest{Key: []byte(key), Value: []byte(key)}); err == nil {
					a.mu.Lock()
					a.keys = append(a.keys, key)
					a.mu.Unlock()
				}
				done()
			}
		})
	}
	return func() { cancel(); writers.Wait() }
}

func (a *acked) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.keys)
}

// promoteNode promotes a slave, and returns what it said.
func promoteNode(t *testing.T, p *process, r *serverpb.PromoteRequest) (said string, err error) {
	t.Helper()
	steps, err := serverpb.NewDKVNodeClient(connect(t, p.listen)).Promote(testkit.Within(t, 2*testkit.Patience), r)
	for err == nil {
		var step *serverpb.PromoteProgress
		if step, err = steps.Recv(); err == nil {
			said += step.GetText() + "\n"
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return said, err
}

// slaveOf starts a slave of some masters, and waits until it follows them.
func slaveOf(t *testing.T, nodes []*process, args ...string) *process {
	t.Helper()
	var addresses []string
	for _, p := range nodes {
		addresses = append(addresses, p.listen)
	}
	slave := start(t, append([]string{"--role", "slave", "--disable-discovery-client", "--repl-mode", "stream", "--repl-master-addr", strings.Join(addresses, ",")}, args...)...)
	slave.grpc()
	return slave
}

func stopAt(t *testing.T, p *process, r *peerpb.StopDatabaseRequest) (*peerpb.StopDatabaseResponse, error) {
	t.Helper()
	r.Database = "default"
	return peerpb.NewStandbyClient(connect(t, p.listen)).StopDatabase(testkit.Within(t, testkit.Patience), r)
}

// TestMastersThatCannotElectAreStopped: masters that do not reach each other have no owner that
// could be sealed. They stop for a promotion without force, which loses nothing, and become slaves.
func TestMastersThatCannotElectAreStopped(t *testing.T) {
	for name, gone := range map[string]int{"all answer": 0, "one is gone": 1} {
		t.Run(name, func(t *testing.T) { promoteByStops(t, gone) })
	}
}

// promoteByStops promotes a slave while its masters are cut off from each other, and some are gone.
func promoteByStops(t *testing.T, gone int) {
	nodes := mastersWith(t, 3, "--disable-discovery-client", "--allow-drills", "--auto-rejoin")
	slave := slaveOf(t, nodes)
	var written acked
	end := written.writeUntil(t, nodes)
	testkit.Eventually(t, "writes are acknowledged", func() bool { return written.count() > 200 })
	apartFrom(t, nodes)
	for _, p := range nodes[len(nodes)-gone:] {
		p.stop()
	}
	said, err := promoteNode(t, slave, &serverpb.PromoteRequest{})
	end()
	if err != nil || !strings.Contains(said, "have stopped, a majority of the masters") {
		t.Fatalf("%v: %s", err, said)
	}
	client := serverpb.NewDKVClient(connect(t, slave.listen))
	testkit.Eventually(t, "the new master accepts a mutation", func() bool {
		_, err := client.Put(testkit.Within(t, testkit.Patience), &serverpb.PutRequest{Key: []byte("after"), Value: []byte("x")})
		return err == nil
	})
	for _, key := range written.keys {
		resp, err := client.Get(testkit.Within(t, testkit.Patience), &serverpb.GetRequest{Key: []byte(key), ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
		if err != nil || !resp.GetFound() {
			t.Fatalf("%s was acknowledged and is lost: %v, %v", key, resp, err)
		}
	}
	nodes[0].stop()
	for _, p := range append(nodes[len(nodes)-gone:], nodes[0]) {
		p.begin()
	}
	for _, p := range nodes {
		former := serverpb.NewDKVClient(connect(t, p.listen))
		testkit.Eventually(t, "a former master is a slave of the new one", func() bool {
			resp, err := former.Get(testkit.Within(t, testkit.Patience), &serverpb.GetRequest{Key: []byte("after")})
			return err == nil && resp.GetFound()
		})
	}
}

// TestStoppedMastersStayStopped: over restarts, until their promotion is given up or an operator
// ends that.
func TestStoppedMastersStayStopped(t *testing.T) {
	nodes := mastersWith(t, 3, "--disable-discovery-client")
	client := serverpb.NewDKVClient(connect(t, nodes[0].listen))
	put := func(key string) error {
		_, err := client.Put(testkit.Within(t, testkit.Patience), &serverpb.PutRequest{Key: []byte(key), Value: []byte(key)})
		return err
	}
	testkit.Eventually(t, "a write is acknowledged", func() bool { return put("before") == nil })
	for _, p := range nodes[:2] {
		member := serverpb.NewDKVClient(connect(t, p.listen))
		testkit.Eventually(t, "the master has the write", func() bool {
			resp, err := member.Get(testkit.Within(t, testkit.Patience), &serverpb.GetRequest{Key: []byte("before")})
			return err == nil && resp.GetFound()
		})
	}
	var tokens []string
	for _, p := range nodes[:2] {
		resp, err := stopAt(t, p, &peerpb.StopDatabaseRequest{Promotion: "p"})
		if v := resp.GetVBuckets(); err != nil || len(v) != 1 || len(v[0].GetVoters()) != 1 || len(v[0].GetVoters()[0].GetReplicas()) != 3 || v[0].GetEnd() == 0 || v[0].GetTerm() == 0 || v[0].GetDigest() == 0 {
			t.Fatal(resp, err)
		}
		tokens = append(tokens, resp.GetToken())
	}
	for i, p := range nodes[:2] {
		p.stop()
		p.begin()
		testkit.Eventually(t, "it is stopped still", func() bool {
			resp, err := stopAt(t, p, &peerpb.StopDatabaseRequest{Promotion: "p"})
			return err == nil && resp.GetToken() == tokens[i]
		})
	}
	if err := put("meanwhile"); err == nil || !strings.Contains(err.Error(), "has stopped this master") {
		t.Errorf("a stopped master accepts mutations: %v", err)
	}
	if _, err := stopAt(t, nodes[0], &peerpb.StopDatabaseRequest{Promotion: "q"}); err == nil || !strings.Contains(err.Error(), "another promotion has stopped") {
		t.Errorf("it stops for another promotion: %v", err)
	}
	if _, err := promoteNode(t, nodes[0], &serverpb.PromoteRequest{Abandon: true}); err == nil || !strings.Contains(err.Error(), "may still decide") {
		t.Errorf("its founder may count on it: %v", err)
	}
	if said, err := promoteNode(t, nodes[0], &serverpb.PromoteRequest{Abandon: true, Force: true}); err != nil || !strings.Contains(said, "takes part in its logs again") {
		t.Errorf("%v: %s", err, said)
	}
	if _, err := stopAt(t, nodes[1], &peerpb.StopDatabaseRequest{Promotion: "p", Resume: true}); err != nil {
		t.Error(err)
	}
	testkit.Eventually(t, "they accept mutations again", func() bool { return put("again") == nil })
	if _, err := stopAt(t, nodes[0], &peerpb.StopDatabaseRequest{Promotion: "p"}); err == nil || !strings.Contains(err.Error(), "was ended here") {
		t.Errorf("a late order stops it again: %v", err)
	}
}

// TestSealedMasterAndItsSlaveHaveOneLastChange: the master that is sealed says which change is its
// last, and the slave that follows it has that one.
func TestSealedMasterAndItsSlaveHaveOneLastChange(t *testing.T) {
	master := start(t, "--disable-discovery-client")
	client := serverpb.NewDKVClient(connect(t, master.grpc()))
	slave := slaveOf(t, []*process{master})
	for _, value := range []string{"1", "2"} {
		if _, err := client.Put(testkit.Within(t, testkit.Patience), &serverpb.PutRequest{Key: []byte("k"), Value: []byte(value)}); err != nil {
			t.Fatal(err)
		}
	}
	sealed, err := peerpb.NewStandbyClient(connect(t, master.listen)).SealDatabase(testkit.Within(t, testkit.Patience), &peerpb.SealDatabaseRequest{Database: "default", Promotion: "p"})
	if v := sealed.GetVBuckets(); err != nil || len(v) != 1 || v[0].GetDigest() == 0 {
		t.Fatal(sealed, err)
	}
	copies := peerpb.NewStandbyClient(connect(t, slave.listen))
	testkit.Eventually(t, "the slave is there", func() bool {
		found, err := copies.SealCopies(testkit.Within(t, testkit.Patience), &peerpb.SealCopiesRequest{Database: "default"})
		return err == nil && found.GetCopies()[0].GetIndex() >= sealed.GetVBuckets()[0].GetIndex() &&
			found.GetCopies()[0].GetDigest() == sealed.GetVBuckets()[0].GetDigest()
	})
}
