package systems

import (
	"context"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/ctl/bench"
	"github.com/dkvdb/dkv/internal/refserver"
	"github.com/dkvdb/dkv/tools/bench/table"
)

// asEcho makes the test's program the reference server.
const asEcho = "BENCH_TEST_ECHO"

func TestMain(m *testing.M) {
	if os.Getenv(asEcho) != "" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		os.Exit(refserver.Main(ctx, os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// startEchoes runs echoes as if they were a cluster: each of them takes writes, and the
// first counts as the leader.
func startEchoes(t *testing.T, n int) *System {
	t.Helper()
	t.Setenv(asEcho, "1")
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s, err := start(t.Context(), &System{Name: table.Echo, program: program, kind: echo{}}, t.TempDir(), n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestLoadIsMeasuredOnTheProcesses(t *testing.T) {
	s := startEchoes(t, 3)
	for _, c := range []struct {
		leader         bool
		workers, conns int
	}{{true, 1, 1}, {true, 256, connections}, {false, 1, 3}, {false, 256, connections}} {
		target, closeTarget, err := s.Target(t.Context(), c.leader, c.workers)
		if err != nil {
			t.Fatal(err)
		}
		if len(target.Conns) != c.conns || target.Processes.Len() != 3 {
			t.Errorf("%+v: %d connections, %d processes", c, len(target.Conns), target.Processes.Len())
		}
		load := bench.DefaultConfig()
		load.Operation, load.Workers, load.Count, load.Warmup = bench.Put, 4, 2000, 0
		result, err := bench.Run(t.Context(), load, target, bench.Progress{})
		if err != nil || result.Failed > 0 || result.Server == nil || result.Server.Processes != 3 {
			t.Errorf("%+v, %v", result, err)
		}
		closeTarget()
	}
}

func TestCloseEndsTheProcesses(t *testing.T) {
	s := startEchoes(t, 2)
	pids := s.PIDs()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
			t.Errorf("process %d: %v", pid, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Errorf("the second time: %v", err)
	}
}

func TestFailoverKillsTheLeaderAndBringsItBack(t *testing.T) {
	s := startEchoes(t, 3)
	before := s.PIDs()
	took, err := s.Failover(t.Context())
	if err != nil || took <= 0 || took > healthyWithin {
		t.Fatalf("%v, %v", took, err)
	}
	after := s.PIDs()
	if before[0] == after[0] || !slices.Equal(before[1:], after[1:]) {
		t.Errorf("processes were %v and are %v", before, after)
	}
}

func TestProgramThatEndsIsAnError(t *testing.T) {
	s := &System{Name: table.Echo, program: "false", kind: echo{}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := start(ctx, s, t.TempDir(), 1); err == nil || !strings.Contains(err.Error(), "does not serve writes") {
		t.Errorf("%v", err)
	}
}

func TestCommandLines(t *testing.T) {
	nodes := []*Node{{Addr: "a:1", peer: "a:2", http: "a:3", name: "n1", dir: "d1"}, {Addr: "b:1", peer: "b:2", http: "b:3", name: "n2", dir: "d2"}}
	for _, c := range []struct {
		kind kind
		want string
	}{
		{members{8}, "--listen-addr b:1 --http-listen-addr b:3 --disable-discovery-client --config d2.yaml --role master --vbuckets 8 --nexus-node-url http://b:2 --nexus-cluster-url http://a:2,http://b:2"},
		{standalone{}, "--node-name n2 --db-folder d2 --listen-addr b:1"},
		{etcdKind{}, "--listen-client-urls http://b:1 --advertise-client-urls http://b:1 --listen-peer-urls http://b:2 --initial-advertise-peer-urls http://b:2 --initial-cluster n1=http://a:2,n2=http://b:2"},
		{echo{}, "echo b:1"},
	} {
		if got := strings.Join(c.kind.args(nodes[1], nodes), " "); !strings.Contains(got, c.want) {
			t.Errorf("%T: %s", c.kind, got)
		}
	}
}
