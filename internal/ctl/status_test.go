package ctl

import (
	"encoding/json"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/modelspb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/ctl/survey"
)

// startMasters runs fakes that are the members of one cluster, with ids from 1
// on. The first leads.
func startMasters(t *testing.T, n int) []*fake {
	t.Helper()
	fakes := make([]*fake, n)
	list := &serverpb.ListNodesResponse{Leader: 1, Nodes: make(map[uint64]*modelspb.NodeInfo)}
	for i := range fakes {
		f := startFake(t)
		f.id, f.role, f.cluster, f.members = fmt.Sprint(i+1), "master", "c1", list
		f.put("k", "v")
		f.put("k", "w")
		fakes[i] = f
		f.leader = fakes[0].addr
		list.Nodes[uint64(i+1)] = &modelspb.NodeInfo{NodeId: uint64(i + 1), NodeUrl: fmt.Sprintf("http://10.0.0.1:902%d", i+1),
			Status: follower, Address: f.addr, NodeName: "node" + f.id}
	}
	list.Nodes[1].Status = leader
	return fakes
}

// down makes the cluster believe that a member is where nothing listens.
func down(t *testing.T, f *fake, id uint64) {
	f.members.Nodes[id].Address = closedPort(t)
}

// golden replaces the addresses of fakes by their ids, those where nothing
// listens by DOWN, and makes columns as wide as can be known.
func golden(text string, fakes []*fake) string {
	for _, f := range fakes {
		text = strings.ReplaceAll(text, f.addr, "n"+f.id)
	}
	text = regexp.MustCompile(`127\.0\.0\.1:\d+`).ReplaceAllString(text, "DOWN")
	return regexp.MustCompile(` {2,}`).ReplaceAllString(text, "  ")
}

func expectStatus(t *testing.T, fakes []*fake, addr string, code int, want string) {
	t.Helper()
	got := dkvctl(t, addr, "-status")
	if text := golden(got.stdout, fakes); got.code != code || text != want || (got.stderr == "") != (code == 0) {
		t.Errorf("code %d, stderr %q, stdout\n%s\nwant %d,\n%s", got.code, got.stderr, text, code, want)
	}
}

// One address is enough: every member is asked itself.
func TestStatusAsksEveryMember(t *testing.T) {
	fakes := startMasters(t, 3)
	fakes[2].lag, fakes[2].paused = 1, true
	want := "1  n1  master  ALIVE  leader=self  term=1  commit=2  applied=2  lag=0/0ms\n" +
		"2  n2  master  ALIVE  leader=n1  term=1  commit=2  applied=2  lag=0/0ms\n" +
		"3  n3  master  ALIVE  leader=n1  term=1  commit=2  applied=1  lag=1/0ms  writes paused\n" +
		"3 alive, 3 total\n"
	for _, f := range fakes {
		expectStatus(t, fakes, f.addr, 0, want)
	}
	// The order of -a, and naming a node twice, make no difference.
	expectStatus(t, fakes, fakes[2].addr+","+fakes[0].addr+","+fakes[2].addr, 0, want)
}

// The nodes of a registry are members of each other as masters are: one address is
// enough to list them all, dead ones too, and a cluster beside them is another one.
func TestStatusOfARegistry(t *testing.T) {
	fakes := startMasters(t, 3)
	for _, f := range fakes {
		f.role, f.cluster = "discovery", "r1"
	}
	down(t, fakes[0], 2)
	want := "1  n1  discovery  ALIVE  leader=self  term=1  commit=2  applied=2  lag=0/0ms\n" +
		"2  DOWN  discovery  UNREACHABLE  http://10.0.0.1:9022  dial tcp DOWN: connect: connection refused\n" +
		"3  n3  discovery  ALIVE  leader=n1  term=1  commit=2  applied=2  lag=0/0ms\n"
	expectStatus(t, fakes, fakes[0].addr, 0, want+"2 alive, 3 total\n")

	alone := startFake(t) // with the id of a member, and no cluster
	alone.put("k", "v")
	got := dkvctl(t, alone.addr+","+fakes[2].addr, "-status")
	if text := strings.ReplaceAll(golden(got.stdout, fakes), alone.addr, "alone"); got.code != 0 || !strings.HasSuffix(text, "3 alive, 4 total\n") || strings.Count(text, "discovery") != 3 {
		t.Errorf("code %d,\n%s", got.code, text)
	}
}

func TestStatusOfMembersThatAreDown(t *testing.T) {
	fakes := startMasters(t, 3)
	down(t, fakes[0], 2)
	want := "1  n1  master  ALIVE  leader=self  term=1  commit=2  applied=2  lag=0/0ms\n" +
		"2  DOWN  master  UNREACHABLE  http://10.0.0.1:9022  dial tcp DOWN: connect: connection refused\n" +
		"3  n3  master  ALIVE  leader=n1  term=1  commit=2  applied=2  lag=0/0ms\n" +
		"2 alive, 3 total\n"
	expectStatus(t, fakes, fakes[2].addr, 0, want)
	// Its address in -a is the same dead node, whatever its host is called.
	dead := fakes[0].members.Nodes[2].Address
	_, port, _ := net.SplitHostPort(dead)
	expectStatus(t, fakes, dead+","+fakes[0].addr, 0, want)
	for _, host := range []string{"localhost", "::ffff:127.0.0.1"} {
		got := dkvctl(t, net.JoinHostPort(host, port)+","+fakes[0].addr, "-status")
		if got.code != exitOK || !strings.HasSuffix(got.stdout, "2 alive, 3 total\n") || !strings.Contains(got.stdout, "UNREACHABLE") {
			t.Errorf("%s: %+v", host, got)
		}
	}
	down(t, fakes[0], 3)
	got := dkvctl(t, fakes[0].addr, "-status")
	if got.code != exitFailed || !strings.HasSuffix(got.stdout, "1 alive, 3 total\n") || got.stderr != "no majority: of 3 voting members 1 are alive\n" {
		t.Errorf("%+v", got)
	}
}

func TestMembersWithoutAVoteDoNotCountForTheMajority(t *testing.T) {
	single := startMasters(t, 3)
	for id := range uint64(2) {
		down(t, single[0], id+2)
		single[0].members.Nodes[id+2].NonVoting = true
	}
	if got := dkvctl(t, single[0].addr, "-status"); got.code != exitOK || !strings.HasSuffix(got.stdout, "1 alive, 3 total\n") {
		t.Errorf("%+v", got)
	}
	fakes := startMasters(t, 5)
	list := fakes[0].members
	list.Nodes[4].NonVoting, list.Nodes[5].NonVoting = true, true
	got := dkvctl(t, fakes[0].addr, "-status")
	if got.code != exitOK || !strings.HasSuffix(got.stdout, "5 alive, 5 total\n") || strings.Count(got.stdout, survey.NoVote) != 2 {
		t.Errorf("%+v", got)
	}
	down(t, fakes[0], 4)
	down(t, fakes[0], 5)
	down(t, fakes[0], 3)
	expectStatus(t, fakes, fakes[0].addr, 0, ""+
		"1  n1  master  ALIVE  leader=self  term=1  commit=2  applied=2  lag=0/0ms\n"+
		"2  n2  master  ALIVE  leader=n1  term=1  commit=2  applied=2  lag=0/0ms\n"+
		"3  DOWN  master  UNREACHABLE  http://10.0.0.1:9023  dial tcp DOWN: connect: connection refused\n"+
		"4  DOWN  master  UNREACHABLE  http://10.0.0.1:9024  no vote  dial tcp DOWN: connect: connection refused\n"+
		"5  DOWN  master  UNREACHABLE  http://10.0.0.1:9025  no vote  dial tcp DOWN: connect: connection refused\n"+
		"2 alive, 5 total\n")
	// The other way round: three of five are alive, one of three votes.
	list.Nodes[4].Address, list.Nodes[5].Address = fakes[3].addr, fakes[4].addr
	down(t, fakes[0], 2)
	if got := dkvctl(t, fakes[0].addr, "-status"); got.code != exitFailed || !strings.HasSuffix(got.stdout, "3 alive, 5 total\n") {
		t.Errorf("%+v", got)
	}
}

// Slaves and standalone nodes named by -a stand behind the members, and their
// health does not hide that of the members.
func TestStatusOfMoreThanTheMembers(t *testing.T) {
	fakes := startMasters(t, 3)
	slave := startFake(t)
	slave.id, slave.role, slave.cluster, slave.state = "1", "slave", "c1", "serving"
	alone := startFake(t)
	alone.cluster, alone.id = "c2", "1"
	all := append(slices.Clone(fakes), slave)
	got := dkvctl(t, slave.addr+","+fakes[1].addr, "-status")
	if got.code != exitOK || !strings.HasSuffix(got.stdout, "4 alive, 4 total\n") {
		t.Fatalf("%+v", got)
	}
	rows := strings.Split(got.stdout, "\n")
	if !strings.Contains(rows[0], "master") || !strings.Contains(rows[3], slave.addr) {
		t.Errorf("the slave does not stand last:\n%s", golden(got.stdout, all))
	}
	// A dead slave, or any address that is no member's, is told and no reason to
	// doubt the cluster.
	got = dkvctl(t, strings.Join([]string{fakes[1].addr, closedPort(t), closedPort(t), closedPort(t)}, ","), "-status")
	if got.code != exitOK || !strings.HasSuffix(got.stdout, "3 alive, 6 total\n") {
		t.Errorf("%+v", got)
	}
	down(t, fakes[0], 1)
	down(t, fakes[0], 3)
	got = dkvctl(t, strings.Join([]string{slave.addr, fakes[1].addr, alone.addr}, ","), "-status")
	if got.code != exitFailed || !strings.HasSuffix(got.stdout, "3 alive, 5 total\n") {
		t.Errorf("a cluster without a majority is hidden by other nodes: %+v", got)
	}
}

// Nodes that stand alone list themselves; -a makes a group of them.
func TestStatusOfStandaloneNodes(t *testing.T) {
	var addrs []string
	for i := range 2 {
		f := startMasters(t, 1)[0]
		f.role, f.cluster = "none", fmt.Sprint("c", i)
		f.members.Nodes[1].Address = ""
		addrs = append(addrs, f.addr)
	}
	for _, tt := range []struct {
		addrs []string
		code  int
		tail  string
	}{
		{addrs, 0, "2 alive, 2 total\n"},
		{append(addrs[:1:1], closedPort(t)), 1, "1 alive, 2 total\n"},
		{append(addrs[:2:2], closedPort(t)), 0, "2 alive, 3 total\n"},
		{append(addrs[:1:1], closedPort(t), closedPort(t)), 1, "1 alive, 3 total\n"},
	} {
		got := dkvctl(t, strings.Join(tt.addrs, ","), "-status")
		if got.code != tt.code || !strings.HasSuffix(got.stdout, tt.tail) {
			t.Errorf("%+v, want %d, %s", got, tt.code, tt.tail)
		}
	}
}

// A master and the one that it has replaced stand alone with the same id, in the same cluster.
func TestStatusOfAReplacedMaster(t *testing.T) {
	var addrs []string
	for _, state := range []string{"failed", "serving"} {
		f := startMasters(t, 1)[0]
		f.role, f.state = "none", state
		addrs = append(addrs, f.addr)
	}
	for range 2 {
		got := dkvctl(t, strings.Join(addrs, ","), "-status")
		if !strings.HasSuffix(got.stdout, "1 alive, 2 total\n") || !strings.Contains(got.stdout, addrs[0]) || !strings.Contains(got.stdout, addrs[1]) {
			t.Errorf("%+v", got)
		}
		slices.Reverse(addrs)
	}
}

func TestStatusOfTwoClusters(t *testing.T) {
	a, b := startMasters(t, 2), startMasters(t, 2)
	for _, f := range b {
		f.cluster = "c2"
	}
	got := dkvctl(t, b[1].addr+","+a[1].addr, "-status")
	if got.code != exitOK || !strings.HasSuffix(got.stdout, "4 alive, 4 total\n") {
		t.Fatalf("%+v", got)
	}
	down(t, b[0], 1)
	got = dkvctl(t, b[1].addr+","+a[1].addr, "-status")
	if got.code != exitFailed || !strings.HasSuffix(got.stdout, "3 alive, 4 total\n") || got.stderr != "no majority: of 2 voting members 1 are alive\n" {
		t.Errorf("%+v", got)
	}
}

// At a member's address another node may answer: that one is not the member.
func TestStatusOfAnAddressThatChangedHands(t *testing.T) {
	fakes := startMasters(t, 3)
	other := startFake(t)
	other.id, other.role, other.cluster = "3", "master", "c9"
	fakes[0].members.Nodes[3].Address = other.addr
	fakes[0].members.Nodes[2].Address = fakes[0].addr
	got := dkvctl(t, fakes[0].addr, "-status")
	if got.code != exitFailed || strings.Count(got.stdout, "UNREACHABLE") != 2 ||
		!strings.Contains(got.stdout, "its address is that of node 3 node3\n") || !strings.Contains(got.stdout, "its address is that of node 1 node1\n") {
		t.Errorf("%+v", got)
	}
}

// Without the list of members a majority cannot be judged.
func TestStatusWithoutTheListOfMembers(t *testing.T) {
	fakes := startMasters(t, 3)
	fail := func(method string) error {
		if method == "ListNodes" {
			return status.Error(codes.Unavailable, "starting")
		}
		return nil
	}
	fakes[0].fail = fail
	got := dkvctl(t, fakes[0].addr, "-status")
	if got.code != exitFailed || !strings.HasSuffix(got.stdout, "1 alive, 1 total\n") ||
		!strings.HasPrefix(got.stderr, "the members of the cluster are not known: ") || !strings.Contains(got.stderr, "starting") {
		t.Errorf("%+v", got)
	}
	fakes[0].members = nil
	fakes[0].fail = nil // it answers that it stands alone, as one that was removed may
	for _, command := range []string{"-status", "-verify"} {
		got := dkvctl(t, fakes[0].addr, command)
		if got.code != exitFailed || !strings.HasPrefix(got.stderr, "the members of the cluster are not known: FailedPrecondition: ") {
			t.Errorf("%s: %+v", command, got)
		}
	}
	fakes[0].members, fakes[0].fail = fakes[1].members, fail
	// Another member of -a may know.
	if got := dkvctl(t, fakes[0].addr+","+fakes[1].addr, "-status"); got.code != exitOK || !strings.HasSuffix(got.stdout, "3 alive, 3 total\n") {
		t.Errorf("%+v", got)
	}
	// A leader knows best: what it tells counts.
	fakes[0].fail = nil
	fakes[1].members = members(offline, follower, offline)
	if got := dkvctl(t, fakes[1].addr+","+fakes[0].addr, "-status"); got.code != exitOK || !strings.HasSuffix(got.stdout, "3 alive, 3 total\n") {
		t.Errorf("%+v", got)
	}
}

func TestStatusOfMembersAsJSON(t *testing.T) {
	fakes := startMasters(t, 3)
	fakes[0].members.Nodes[3].NonVoting = true
	down(t, fakes[0], 2)
	got := dkvctl(t, fakes[2].addr, "-status", "-o", "json")
	var doc struct {
		Alive, Total int
		Nodes        []survey.Row
	}
	if err := json.Unmarshal([]byte(got.stdout), &doc); err != nil || len(doc.Nodes) != 3 || doc.Alive != 2 || doc.Total != 3 {
		t.Fatalf("%+v, %v", got, err)
	}
	n := doc.Nodes
	if n[0].ID != "1" || n[0].URL != "http://10.0.0.1:9021" || n[0].Cluster != "c1" || !n[0].VBuckets[0].IsLeader || n[0].Name != "node1" {
		t.Errorf("node 1 is %+v", n[0])
	}
	if n[1].ID != "2" || n[1].Health != "UNREACHABLE" || n[1].Name != "node2" || n[1].URL != "http://10.0.0.1:9022" || n[1].VBuckets != nil {
		t.Errorf("node 2 is %+v", n[1])
	}
	if !n[2].NonVoting || n[2].VBuckets[0].Leader != fakes[0].addr || n[2].Address != fakes[2].addr {
		t.Errorf("node 3 is %+v", n[2])
	}
}

// A cluster whose addresses are not known yet is told as it sees itself.
func TestStatusFallsBackToTheList(t *testing.T) {
	fakes := startMasters(t, 1)
	fakes[0].id, fakes[0].members = "2", members(leader, follower, offline, follower)
	fakes[0].leader = ""
	fakes[0].members.Nodes[4].NonVoting = true
	expectStatus(t, fakes, fakes[0].addr, 0, ""+
		"1  http://10.0.0.1:9021  master  ALIVE  leader=self  as its cluster sees it: its address is not known\n"+
		"2  n2  master  ALIVE  leader=-  term=1  commit=2  applied=2  lag=0/0ms\n"+
		"3  http://10.0.0.1:9023  master  OFFLINE\n"+
		"4  http://10.0.0.1:9024  master  ALIVE  no vote  as its cluster sees it: its address is not known\n"+
		"3 alive, 4 total\n")
}
