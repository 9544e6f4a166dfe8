package ctl

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/modelspb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/ctl/survey"
	"github.com/dkvdb/dkv/internal/timing"
)

func members(states ...modelspb.NodeInfo_NodeStatus) *serverpb.ListNodesResponse {
	res := &serverpb.ListNodesResponse{Nodes: make(map[uint64]*modelspb.NodeInfo)}
	for i, s := range states {
		id := uint64(i + 1)
		res.Nodes[id] = &modelspb.NodeInfo{NodeId: id, NodeUrl: "http://10.0.0.1:902" + string(rune('0'+id)), Status: s}
	}
	return res
}

const (
	leader   = modelspb.NodeInfo_LEADER
	follower = modelspb.NodeInfo_FOLLOWER
	offline  = modelspb.NodeInfo_OFFLINE
)

func TestStatusOfOneNode(t *testing.T) {
	f := startFake(t)
	f.put("k", "v")
	expect(t, dkvctl(t, f.addr, "-status"),
		outcome{stdout: "1  " + f.addr + "  none  ALIVE  leader=self  term=1  commit=1  applied=1  lag=0/0ms\n1 alive, 1 total\n"})
	if got := dkvctl(t, f.addr, "-pauseWrites"); got.code != exitOK || !f.paused {
		t.Fatalf("%+v", got)
	}
	if got := dkvctl(t, f.addr, "-status"); !strings.Contains(got.stdout, "writes paused") {
		t.Errorf("%+v does not say that writes are paused", got)
	}
	if got := dkvctl(t, f.addr, "-resumeWrites"); got.code != exitOK || f.paused {
		t.Errorf("%+v", got)
	}
	f.state = "failed"
	got := dkvctl(t, f.addr, "-status")
	if got.code != exitFailed || !strings.Contains(got.stdout, "FAILED") || strings.Contains(got.stdout, "ALIVE") || !strings.HasSuffix(got.stdout, "0 alive, 1 total\n") {
		t.Errorf("a failed node is told as %+v", got)
	}
	down := dkvctl(t, closedPort(t), "-status")
	if down.code != exitFailed || !strings.Contains(down.stdout, "UNREACHABLE") || !strings.HasSuffix(down.stdout, "0 alive, 1 total\n") {
		t.Errorf("a node that is down is told as %+v", down)
	}
}

func TestResetClock(t *testing.T) {
	f := startFake(t)
	for _, args := range [][]string{{"-resetClock"}, {"-resetClock", "2026-05-01T12:00:00Z"}} {
		expect(t, dkvctl(t, f.addr, args...), outcome{stdout: "OK\n"})
	}
	if want := []uint64{0, 1_777_636_800_000}; !slices.Equal(f.clocks, want) {
		t.Errorf("the clock was set to %v, want %v", f.clocks, want)
	}
	if got := dkvctl(t, f.addr, "-resetClock", "yesterday"); got.code != exitUsage || !strings.Contains(got.stderr, "2006-01-02T15:04:05Z") {
		t.Errorf("%+v", got)
	}
}

func TestResync(t *testing.T) {
	f := startFake(t)
	for _, args := range [][]string{{"-resync"}, {"-resync", "-vBucket", "v1", "-force"}} {
		expect(t, dkvctl(t, f.addr, args...), outcome{stdout: "vBucket v1: it goes\nOK\n"})
	}
	expect(t, dkvctl(t, f.addr, "-resync", "-cancel"), outcome{stdout: "vBucket v1: it stays\nOK\n"})
	if want := []string{" false", "v1 true", " canceled"}; !slices.Equal(f.resyncs, want) {
		t.Errorf("%q were ordered, want %q", f.resyncs, want)
	}
}

// -v says what the engines hold in memory, if the node says it.
func TestStatusTellsMemory(t *testing.T) {
	f := startFake(t)
	if got := dkvctl(t, f.addr, "-status", "-v"); strings.Contains(got.stdout, "memtables") {
		t.Errorf("told %q of a node that does not say", got.stdout)
	}
	f.mu.Lock()
	f.memory = [2]uint64{3 << 19, 40 << 20}
	f.mu.Unlock()
	if got := dkvctl(t, f.addr, "-status", "-v"); got.code != exitOK || !strings.Contains(got.stdout, "  memtables=1.5MiB  cache=40.0MiB") {
		t.Errorf("told %q", got.stdout)
	}
	if got := dkvctl(t, f.addr, "-status", "-o", "json"); !strings.Contains(got.stdout, `"memtable_bytes":1572864,"cache_bytes":41943040`) {
		t.Errorf("told %q in JSON", got.stdout)
	}
}

// -v says which timing nodes run with, by the names of profiles if it has one.
func TestStatusTellsTiming(t *testing.T) {
	f := startFake(t)
	other := timing.LAN
	other.Lease = 300 * time.Millisecond
	for want, texts := range map[string][3]string{
		"":                            {},
		"  timing=lan  cluster=-\n":   {timing.LAN.Text()},
		"  timing=lan  cluster=lan\n": {timing.LAN.Text(), timing.LAN.Text()},
		"  timing=wan  cluster=lan  changing to wan\n":      {timing.WAN.Text(), timing.LAN.Text(), timing.WAN.Text()},
		"  timing=" + other.Text() + "  cluster=of-later\n": {other.Text(), "of-later"},
	} {
		f.mu.Lock()
		f.timing = texts
		f.mu.Unlock()
		if got := dkvctl(t, f.addr, "-status", "-v"); got.code != exitOK || !strings.Contains(got.stdout, want) {
			t.Errorf("told %q, want %q", got.stdout, want)
		}
		if got := dkvctl(t, f.addr, "-status"); strings.Contains(got.stdout, "timing") {
			t.Errorf("told %q without being asked", got.stdout)
		}
	}
	if got := dkvctl(t, f.addr, "-setTiming", "mars"); got.code != exitUsage || !strings.Contains(got.stderr, "is not lan, wan or KEY=VALUE") {
		t.Errorf("%+v", got)
	}
}

func TestStatusNeedsAMajority(t *testing.T) {
	tests := []struct {
		name    string
		members *serverpb.ListNodesResponse
		live    int // fakes that are asked
		dead    int // addresses that do not answer
		tail    string
		code    int
	}{
		{"two of three addresses", nil, 2, 1, "2 alive, 3 total\n", 0},
		{"one of three addresses", nil, 1, 2, "1 alive, 3 total\n", 1},
		{"half is no majority", nil, 1, 1, "1 alive, 2 total\n", 1},
		{"members that -a does not name", members(leader, follower, follower), 1, 0, "3 alive, 3 total\n", 0},
		{"one of them offline", members(leader, follower, offline), 1, 0, "2 alive, 3 total\n", 0},
		{"two of them offline", members(leader, offline, offline), 1, 0, "1 alive, 3 total\n", 1},
		{"a dead member counts once", members(leader, follower, offline), 2, 1, "2 alive, 3 total\n", 0},
		{"two dead, one of them named", members(leader, offline, offline), 1, 1, "1 alive, 3 total\n", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var addrs []string
			for i := range tt.live {
				f := startFake(t)
				f.id, f.members = string(rune('1'+i)), tt.members
				addrs = append(addrs, f.addr)
			}
			for range tt.dead {
				addrs = append(addrs, closedPort(t))
			}
			got := dkvctl(t, strings.Join(addrs, ","), "-status")
			if got.code != tt.code || !strings.HasSuffix(got.stdout, tt.tail) {
				t.Errorf("code %d, stdout %s", got.code, got.stdout)
			}
			var doc struct {
				Alive, Total int
				Nodes        []survey.Row
			}
			if err := json.Unmarshal([]byte(dkvctl(t, strings.Join(addrs, ","), "-status", "-o", "json").stdout), &doc); err != nil || len(doc.Nodes) != doc.Total {
				t.Errorf("json is %+v, %v", doc, err)
			}
		})
	}
}

func TestNodeWithoutAStatusIsAlive(t *testing.T) {
	f := startFake(t)
	f.fail = func(string) error { return status.Error(codes.Unimplemented, "unknown service") }
	got := dkvctl(t, f.addr, "-status")
	if got.code != exitOK || !strings.Contains(got.stdout, "ALIVE") || !strings.Contains(got.stdout, "not with a status") {
		t.Errorf("%+v", got)
	}
}

func TestListNodesAndClusterInfo(t *testing.T) {
	f := startFake(t)
	f.members = members(follower, leader, offline)
	expect(t, dkvctl(t, f.addr, "-listNodes"), outcome{stdout: "1  http://10.0.0.1:9021  FOLLOWER\n2  http://10.0.0.1:9022  LEADER\n3  http://10.0.0.1:9023  OFFLINE\n"})
	expect(t, dkvctl(t, f.addr, "-listNodes", "-o", "json"), outcome{stdout: `{"id":1,"url":"http://10.0.0.1:9021","status":"FOLLOWER"}` + "\n" +
		`{"id":2,"url":"http://10.0.0.1:9022","status":"LEADER"}` + "\n" + `{"id":3,"url":"http://10.0.0.1:9023","status":"OFFLINE"}` + "\n"})
	expect(t, dkvctl(t, f.addr, "-clusterInfo", "west"),
		outcome{stdout: "west  orders  0  10.1.0.1:8080  ACTIVE_SLAVE  master=10.0.0.1:8080  http=-  nexus=-\n"})
	if got := dkvctl(t, f.addr, "-clusterInfo"); strings.Count(got.stdout, "\n") != 2 {
		t.Errorf("%+v", got)
	}
}

func TestReleaseDatabase(t *testing.T) {
	f := startFake(t)
	expect(t, dkvctl(t, f.addr, "-releaseDatabase", "orders"), outcome{stdout: "OK\n"})
	if got := dkvctl(t, f.addr, "-releaseDatabase", "others"); got.code != exitFailed || !strings.Contains(got.stderr, `no cluster holds database "others"`) {
		t.Errorf("%+v", got)
	}
}

func TestVerify(t *testing.T) {
	twins := func(t *testing.T, n int) ([]*fake, string) {
		var fakes []*fake
		var addrs []string
		for range n {
			f := startFake(t)
			f.put("a", "1")
			f.put("b", "2")
			fakes, addrs = append(fakes, f), append(addrs, f.addr)
		}
		return fakes, strings.Join(addrs, ",")
	}
	t.Run("equal", func(t *testing.T) {
		_, addrs := twins(t, 3)
		got := dkvctl(t, addrs, "-verify")
		if got.code != exitOK || !strings.HasSuffix(got.stdout, "equal: 3 nodes at index 2\n") || strings.Count(got.stdout, "index=2  keys=2  hash=") != 3 {
			t.Errorf("%+v", got)
		}
	})
	t.Run("alone", func(t *testing.T) {
		_, addrs := twins(t, 1)
		if got := dkvctl(t, addrs, "-verify"); got.code != exitOK || !strings.Contains(got.stdout, "nothing to compare") {
			t.Errorf("%+v", got)
		}
	})
	t.Run("different", func(t *testing.T) {
		fakes, addrs := twins(t, 3)
		fakes[1].pairs["b"].Value = []byte("3")
		got := dkvctl(t, addrs, "-verify")
		if got.code != exitFailed || !strings.Contains(got.stderr, "different at the same index: "+fakes[1].addr+"\n") {
			t.Errorf("%+v does not name %s", got, fakes[1].addr)
		}
	})
	t.Run("another history", func(t *testing.T) {
		fakes, addrs := twins(t, 3)
		fakes[2].history = "h2"
		if got := dkvctl(t, addrs, "-verify", "-o", "json"); got.code != exitFailed || !strings.Contains(got.stdout, `"verdict":"different"`) {
			t.Errorf("%+v", got)
		}
	})
	t.Run("one lags and catches up", func(t *testing.T) {
		fakes, addrs := twins(t, 2)
		fakes[0].put("c", "3")
		fakes[1].fail = func(method string) error {
			if method == "GetContentHash" && fakes[1].calls(method) == 2 {
				fakes[1].put("c", "3")
			}
			return nil
		}
		got := dkvctl(t, addrs, "-verify")
		if got.code != exitOK || !strings.Contains(got.stdout, "equal: 2 nodes at index 3") {
			t.Errorf("%+v", got)
		}
	})
	t.Run("a node that is down", func(t *testing.T) {
		_, addrs := twins(t, 1)
		expect(t, dkvctl(t, addrs+","+closedPort(t), "-verify"), outcome{code: 1, stderr: "cannot reach"})
	})
}
