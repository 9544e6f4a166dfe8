package ctl

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/ctl/options"
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

// verifierOf compares the contents of fakes without waiting.
func verifierOf(t *testing.T, fakes []*fake) *verifier {
	s, err := newSession(options.DefaultOptions(), nil, streams{})
	if err != nil {
		t.Fatal(err)
	}
	s.Timeout = time.Minute
	var addrs []string
	for _, f := range fakes {
		addrs = append(addrs, f.addr)
	}
	v := newVerifier(s, addrs)
	t.Cleanup(v.close)
	v.wait = func(context.Context, int) error { return nil }
	return v
}

// advance makes a fake hash, at its nth answer, the index that next gives, as
// if every index below had been applied.
func advance(f *fake, next func(n int) int) {
	f.fail = func(method string) error {
		if method == "GetContentHash" {
			n := f.calls(method)
			for f.index < uint64(next(n)) {
				f.put("k", fmt.Sprint(f.index))
			}
		}
		return nil
	}
}

// Nodes that never hash the same index in the same try do so over several, and
// one that stands far behind is waited for.
func TestVerifyUnderLightLoad(t *testing.T) {
	tests := []struct {
		name  string
		nodes []func(n int) int
		index uint64
		tries int
	}{
		{"answers of other tries", []func(int) int{
			func(n int) int { return 10 * n },
			func(n int) int { return 10*n + 10 }}, 20, 2},
		{"one catches up late", []func(int) int{
			func(int) int { return 40 },
			func(int) int { return 40 },
			func(n int) int { return 4 + n }}, 40, 36},
		{"writes that pause", []func(int) int{
			func(n int) int { return min(7*n+3, 200) },
			func(n int) int { return min(7*n+4, 200) },
			func(n int) int { return min(7*n+5, 200) }}, 200, 29},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fakes := startMasters(t, len(tt.nodes))
			for i, f := range fakes {
				advance(f, tt.nodes[i])
			}
			got, err := verifierOf(t, fakes).verify(t.Context(), "default")
			if err != nil || got.Verdict != equalContent || got.Nodes[0].Index != tt.index || fakes[0].calls("GetContentHash") != tt.tries {
				t.Errorf("%+v, %v after %d tries, want index %d after %d", got, err, fakes[0].calls("GetContentHash"), tt.index, tt.tries)
			}
		})
	}
}

func TestVerifyOfNodesThatNeverMeet(t *testing.T) {
	fakes := startMasters(t, 2)
	advance(fakes[0], func(n int) int { return 2*n + 1 })
	advance(fakes[1], func(n int) int { return 2*n + 2 })
	v := verifierOf(t, fakes)
	got, err := v.verify(t.Context(), "default")
	if err != nil || got.Verdict != notComparable || got.Behind != nil ||
		got.sentence() != "not comparable: writes continue; pause them with -pauseWrites (the nodes were never at the same index, last 101, 102)" {
		t.Errorf("%+v, %v: %s", got, err, got.sentence())
	}
	if n := fakes[0].calls("GetContentHash"); n != verifyTries {
		t.Errorf("%d tries", n)
	}
	// One that stands still below the others would not be helped by a pause.
	advance(fakes[1], func(int) int { return 1000 })
	still := startMasters(t, 1)[0]
	for range 3 {
		advance(fakes[0], func(n int) int { return 1000 + n })
		got, err = verifierOf(t, []*fake{fakes[0], still, fakes[1]}).verify(t.Context(), "default")
	}
	if err != nil || got.Verdict != notComparable || !strings.Contains(got.sentence(), ", and "+still.addr+", "+fakes[1].addr+" made no progress") {
		t.Errorf("%+v, %v: %s", got, err, got.sentence())
	}
	still.history = "h0"
	got, err = verifierOf(t, []*fake{fakes[1], still}).verify(t.Context(), "default")
	if err != nil || got.Verdict != notComparable || !strings.Contains(got.sentence(), still.addr) {
		t.Errorf("%+v, %v: %s", got, err, got.sentence())
	}
}

func TestVerdictOfTwoHistories(t *testing.T) {
	v := verdict{Verdict: notComparable, Nodes: []content{{Index: 3, Address: "a:1", History: "x"}, {Index: 4, Address: "b:1", History: "y"}}}
	if s := v.sentence(); s != "not comparable: a:1 and b:1 hold different histories, as after a restore" {
		t.Errorf("sentence is %q", s)
	}
}

func TestVerifyStopsWhenInterrupted(t *testing.T) {
	fakes := startMasters(t, 2)
	fakes[1].put("k", "x")
	v := verifierOf(t, fakes)
	ctx, interrupt := context.WithCancel(t.Context())
	v.wait = func(ctx context.Context, try int) error {
		if try == 3 {
			interrupt()
		}
		return ctx.Err()
	}
	if _, err := v.verify(ctx, "default"); !errors.Is(err, context.Canceled) || fakes[0].calls("GetContentHash") != 3 {
		t.Errorf("%v after %d tries", err, fakes[0].calls("GetContentHash"))
	}
}

// The waits grow, and together leave a node half a minute to catch up.
func TestWaitsOfVerify(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := waitToVerify(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("a wait that is interrupted ends with %v", err)
	}
	var mean time.Duration
	for try := 1; try < verifyTries; try++ {
		mean += min(verifyPause*time.Duration(try), maxVerifyPause)
	}
	if mean < 25*time.Second || mean > 45*time.Second {
		t.Errorf("all waits together take %s", mean)
	}
}
