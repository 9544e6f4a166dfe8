package app

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// standbyRig is a node whose writes wait for a slave, and that slave.
type standbyRig struct {
	t            *testing.T
	owner, slave *process
	client       serverpb.DKVClient
	written      int
}

func newStandbyRig(t *testing.T, args ...string) *standbyRig {
	t.Helper()
	owner := start(t, append([]string{"--disable-discovery-client", "--repl-ack", "sync", "--repl-ack-timeout", "300ms"}, args...)...)
	slave := start(t, "--role", "slave", "--disable-discovery-client", "--repl-mode", "stream", "--repl-master-addr", owner.listen)
	owner.grpc()
	return &standbyRig{t: t, owner: owner, slave: slave, client: serverpb.NewDKVClient(connect(t, owner.listen))}
}

// put writes another key, and returns it with the answer.
func (r *standbyRig) put(ack serverpb.AckLevel) ([]byte, *serverpb.PutResponse, error) {
	r.written++
	key := fmt.Appendf(nil, "key-%d", r.written)
	resp, err := r.client.Put(testkit.Within(r.t, testkit.Patience), &serverpb.PutRequest{Key: key, Value: key, Ack: ack})
	return key, resp, err
}

// eventually writes until an answer has that level, and returns its key.
func (r *standbyRig) eventually(level serverpb.AckLevel) (key []byte) {
	r.t.Helper()
	testkit.Eventually(r.t, "a write reaches "+level.String(), func() bool {
		var resp *serverpb.PutResponse
		var err error
		key, resp, err = r.put(serverpb.AckLevel_ACK_DEFAULT)
		return err == nil && resp.GetAcked() == level && resp.GetHistory() != ""
	})
	return key
}

// onTheSlave checks that the slave has a key already.
func (r *standbyRig) onTheSlave(key []byte) {
	r.t.Helper()
	resp, err := serverpb.NewDKVClient(connect(r.t, r.slave.grpc())).Get(testkit.Within(r.t, testkit.Patience), &serverpb.GetRequest{Key: key})
	if err != nil || !resp.GetFound() {
		r.t.Fatalf("%s was acknowledged at sync, and the slave has it: %v, %v", key, resp.GetFound(), err)
	}
}

// TestSyncWritesAreOnTheSlave when they are acknowledged, and after its restart without the
// master. Without the slave the master accepts no writes and shows no unconfirmed ones.
func TestSyncWritesAreOnTheSlave(t *testing.T) {
	r := newStandbyRig(t, "--role", "master", "--nexus-node-url", "http://"+testkit.Address(t))
	last := r.eventually(serverpb.AckLevel_ACK_SYNC)
	r.onTheSlave(last)
	for range 20 {
		key, resp, err := r.put(serverpb.AckLevel_ACK_DEFAULT)
		if err != nil || resp.GetAcked() != serverpb.AckLevel_ACK_SYNC {
			t.Fatal(resp, err)
		}
		r.onTheSlave(key)
		last = key
	}
	r.slave.stop()
	unconfirmed, _, err := r.put(serverpb.AckLevel_ACK_DEFAULT)
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "applied here, not confirmed") || !strings.Contains(err.Error(), "outcome unknown") {
		t.Errorf("the first write without the slave: %v", err)
	}
	read := func(level serverpb.ReadConsistency) error {
		_, err := r.client.Get(testkit.Within(t, testkit.Patience), &serverpb.GetRequest{Key: unconfirmed, ReadConsistency: level})
		return err
	}
	if err := read(serverpb.ReadConsistency_LINEARIZABLE); status.Code(err) != codes.Unavailable {
		t.Errorf("a linearizable read shows what is not confirmed: %v", err)
	}
	if err := read(serverpb.ReadConsistency_SEQUENTIAL); err != nil {
		t.Error(err)
	}
	testkit.Eventually(t, "writes are refused", func() bool {
		_, _, err := r.put(serverpb.AckLevel_ACK_DEFAULT)
		return err != nil && strings.Contains(err.Error(), "not applied")
	})
	r.owner.stop()
	r.slave.begin()
	r.onTheSlave(last)
	r.owner.begin()
	r.owner.grpc()
	r.onTheSlave(r.eventually(serverpb.AckLevel_ACK_SYNC))
}

// TestFallbackToAsync: without the slave a standalone node acknowledges writes, but not those
// that ask for a level themselves, until the slave is back.
func TestFallbackToAsync(t *testing.T) {
	r := newStandbyRig(t, "--repl-ack-fallback", "async")
	r.onTheSlave(r.eventually(serverpb.AckLevel_ACK_SYNC))
	r.shows(`dkv_standbys{database="default",phase="standing",vbucket="default"} 1`)
	st, err := serverpb.NewDKVNodeClient(connect(t, r.owner.grpc())).GetNodeStatus(testkit.Within(t, testkit.Patience), nil)
	if set := st.GetVBuckets()[0].GetStanding(); err != nil || set.GetLevel() != "sync" || len(set.GetSlaves()) != 1 ||
		set.GetSlaves()[0].GetAddress() != r.slave.listen || set.GetSlaves()[0].GetPhase() != "standing" || !set.GetSlaves()[0].GetConnected() {
		t.Errorf("the status shows %v, %v", set, err)
	}
	r.slave.stop()
	if _, resp, err := r.put(serverpb.AckLevel_ACK_DEFAULT); err != nil || resp.GetAcked() != serverpb.AckLevel_ACK_ASYNC {
		t.Errorf("%v, %v", resp, err)
	}
	if _, _, err := r.put(serverpb.AckLevel_ACK_SEMI_SYNC); status.Code(err) != codes.Unavailable {
		t.Errorf("a request for semi_sync fell back: %v", err)
	}
	r.shows(`dkv_standbys{database="default",phase="standing",vbucket="default"} 0`)
	r.slave.begin()
	r.onTheSlave(r.eventually(serverpb.AckLevel_ACK_SYNC))
	r.shows(`dkv_slave_link_unsynced_changes{database="default",slave="` + r.slave.listen + `",vbucket="default"} 0`)
}

// shows waits for a line of the owner's metrics.
func (r *standbyRig) shows(line string) {
	r.t.Helper()
	testkit.Eventually(r.t, "the metrics have "+line, func() bool {
		return strings.Contains(ask(r.t, r.owner.http(), "/metrics"), line+"\n")
	})
}
