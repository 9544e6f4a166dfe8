package ctl

import (
	"context"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
)

func TestVerifyTakesAllMembers(t *testing.T) {
	fakes := startMasters(t, 3)
	for _, f := range fakes {
		got := dkvctl(t, f.addr, "-verify")
		if got.code != exitOK || !strings.HasSuffix(got.stdout, "equal: 3 nodes at index 2\n") || strings.Count(got.stdout, "index=2") != 3 {
			t.Errorf("%+v", got)
		}
	}
	// Several addresses are those to compare, and no others.
	if got := dkvctl(t, fakes[0].addr+","+fakes[2].addr, "-verify"); got.code != exitOK || !strings.Contains(got.stdout, "equal: 2 nodes") {
		t.Errorf("%+v", got)
	}
	fakes[1].pairs["k"].Value = []byte("else")
	got := dkvctl(t, fakes[0].addr, "-verify")
	if got.code != exitFailed || !strings.HasSuffix(got.stderr, "vBucket default: different at the same index: "+fakes[1].addr+"\n") {
		t.Errorf("%+v does not name %s", got, fakes[1].addr)
	}
}

// The node that -a names is asked at that address: the one that its
// cluster knows may lead nowhere from here.
func TestVerifyAsksTheNamedNodeAtItsName(t *testing.T) {
	fakes := startMasters(t, 2)
	down(t, fakes[0], 1)
	if got := dkvctl(t, fakes[0].addr, "-verify"); got.code != exitOK || !strings.Contains(got.stdout, "equal: 2 nodes") {
		t.Errorf("%+v", got)
	}
}

// TestVerifyEndsInItsTime: -timeout bounds the comparison of all vBuckets together, and not that of each.
func TestVerifyEndsInItsTime(t *testing.T) {
	f := startFake(t)
	for _, name := range []string{"0", "1", "2", "3"} {
		f.of = append(f.of, &serverpb.VBucketStatus{VBucket: name, State: "serving"})
	}
	const each = 400 * time.Millisecond
	f.fail = func(method string) error {
		if method == "GetContentHash" {
			time.Sleep(each)
		}
		return nil
	}
	began := time.Now()
	got := dkvctl(t, f.addr, "-verify", "-timeout", "600ms", "-quiet")
	if took := time.Since(began); got.code != exitFailed || !strings.Contains(got.stderr, "not all was compared within -timeout: 600ms, after 1 of 4 vBuckets") || took > 4*each {
		t.Errorf("after %s: %+v", took, got)
	}
	if got := dkvctl(t, f.addr, "-verify", "-quiet"); got.code != exitOK {
		t.Errorf("without -timeout: %+v", got)
	}
}

func TestVerifyNeedsAllMembers(t *testing.T) {
	fakes := startMasters(t, 3)
	down(t, fakes[0], 3)
	expect(t, dkvctl(t, fakes[0].addr, "-verify"), outcome{code: 1,
		stderr: "not all 3 members and slaves can be compared: cannot reach " + fakes[0].members.Nodes[3].Address})
	fakes[0].members.Nodes[3].Address = ""
	expect(t, dkvctl(t, fakes[0].addr, "-verify"), outcome{code: 1,
		stderr: "the address of member 3 (http://10.0.0.1:9023) is not known: name the nodes to compare by -a\n"})
	fakes[0].fail = func(method string) error {
		if method == "ListNodes" {
			return status.Error(codes.Unavailable, "starting")
		}
		return nil
	}
	expect(t, dkvctl(t, fakes[0].addr, "-verify"), outcome{code: 1, stderr: "the members of the cluster are not known: "})
}

func (f *fake) GetReplicas(ctx context.Context, r *serverpb.GetReplicasRequest) (*serverpb.GetReplicasResponse, error) {
	if f.slaves == nil {
		return f.UnimplementedDKVReplicationServer.GetReplicas(ctx, r)
	}
	return &serverpb.GetReplicasResponse{Replicas: f.slaves}, nil
}

// startSlave runs a fake that follows the first of a cluster's, which lists it.
func startSlave(t *testing.T, fakes []*fake) *fake {
	t.Helper()
	f := startFake(t)
	f.id, f.role, f.cluster, f.leader = "", "slave", "c1", fakes[0].addr
	f.put("k", "v")
	f.put("k", "w")
	host, port, _ := net.SplitHostPort(f.addr)
	number, _ := strconv.Atoi(port)
	fakes[0].slaves = append(fakes[0].slaves, &serverpb.Replica{Hostname: host, Port: uint32(number)})
	return f
}

// One address of a slave is enough, too: it is compared with what its leader lists.
func TestVerifyFromASlave(t *testing.T) {
	fakes := startMasters(t, 2)
	slave := startSlave(t, fakes)
	startSlave(t, fakes)
	_, port, _ := net.SplitHostPort(slave.addr)
	for _, addr := range []string{slave.addr, "localhost:" + port} {
		if got := dkvctl(t, addr, "-verify"); got.code != exitOK || !strings.HasSuffix(got.stdout, "equal: 4 nodes at index 2\n") || strings.Count(got.stdout, "index=2") != 4 {
			t.Errorf("%+v", got)
		}
	}
	slave.pairs["k"].Value = []byte("else")
	if got := dkvctl(t, slave.addr, "-verify"); got.code != exitFailed || !strings.Contains(got.stderr, "different at the same index: "+slave.addr) {
		t.Errorf("%+v", got)
	}
}

// A slave that is compared with nothing is no success.
func TestVerifyFromASlaveWithoutAMaster(t *testing.T) {
	fakes := startMasters(t, 1)
	slave := startSlave(t, fakes)
	const instead = "name a master, or several nodes to compare, by -a\n"
	slave.leader = ""
	expect(t, dkvctl(t, slave.addr, "-verify"), outcome{code: exitFailed, stderr: slave.addr + " is a slave that knows no leader now: " + instead})
	slave.leader = closedPort(t)
	got := dkvctl(t, slave.addr, "-verify")
	if want := slave.addr + " is a slave, and the nodes of its leader " + slave.leader + " are not known: cannot reach " + slave.leader; got.code != exitFailed || !strings.HasPrefix(got.stderr, want) || !strings.HasSuffix(got.stderr, instead) {
		t.Errorf("%+v", got)
	}
	slave.leader = slave.addr
	expect(t, dkvctl(t, slave.addr, "-verify"), outcome{code: exitFailed, stderr: "it is a slave too; " + instead})
}
