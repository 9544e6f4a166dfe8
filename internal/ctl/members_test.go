package ctl

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/modelspb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/ctl/nodes"
	"github.com/dkvdb/dkv/internal/ctl/options"
	"github.com/dkvdb/dkv/internal/ctl/progress"
	"github.com/dkvdb/dkv/internal/kv"
)

func TestChangesOfTheCluster(t *testing.T) {
	tests := []struct {
		line string
		sent string
	}{
		{"-addNode http://h:1", "add http://h:1"},
		{"-addNode http://h:1 -nonVoting", "add without a vote http://h:1"},
		{"--nonVoting add-node http://h:1", "add without a vote http://h:1"},
		{"-removeNode http://h:1", "remove http://h:1"},
		{"-removeNode http://h:1 -force", "remove by force http://h:1"},
		{"-force -removeNode http://h:1", "remove by force http://h:1"},
		{"-removeNode http://h:1 -force=false", "remove http://h:1"},
		{"-transferLeader", "transfer  to "},
		{"-transferLeader http://h:2", "transfer  to http://h:2"},
		{"transfer-leader http://h:2 -vBucket 7", "transfer 7 to http://h:2"},
		{"-stepDown", "step down"},
		{"-snapshot", "snapshot of all"},
		{"-snapshot -vBucket 1", "snapshot of 1"},
		{"-setTiming wan", "timing raft-rtt=100ms,raft-election-rtt=50,raft-heartbeat-rtt=5,lease-duration=2s"},
		{"set-timing lan,lease-duration=300ms", "timing raft-rtt=50ms,raft-election-rtt=20,raft-heartbeat-rtt=2,lease-duration=300ms"},
	}
	for _, tt := range tests {
		f := startFake(t)
		expect(t, dkvctl(t, f.addr, strings.Fields(tt.line)...), outcome{stdout: "OK\n"})
		expect(t, dkvctl(t, f.addr, append(strings.Fields(tt.line), "-o", "json")...), outcome{stdout: `{"status":"OK"}` + "\n"})
		if !slices.Equal(f.paths, []string{tt.sent, tt.sent}) {
			t.Errorf("%s sends %q, want %q", tt.line, f.paths, tt.sent)
		}
	}
	for _, line := range []string{"-addNode http://h:1 -force", "-stepDown -force", "-removeNode http://h:1 -nonVoting", "-stepDown -vBucket 1", "-listNodes -progress 1s", "-setTiming wan -v"} {
		expect(t, dkvctl(t, "", strings.Fields(line)...), outcome{code: exitUsage, stderr: "has no meaning for"})
	}
}

func TestChangesOfTheClusterThatFail(t *testing.T) {
	tests := []struct {
		args   []string
		err    error
		stderr string
	}{
		{[]string{"-removeNode", "http://h:1"}, status.Error(codes.FailedPrecondition, "2 of 3 would be left with 1 up; not applied"),
			"FailedPrecondition: 2 of 3 would be left with 1 up; not applied\n"},
		{[]string{"-transferLeader"}, status.Error(codes.Unavailable, "no leader"), "no leader; outcome unknown"},
		{[]string{"-stepDown"}, status.Error(codes.Unimplemented, "method StepDown"), "does not serve this request"},
		{[]string{"-addNode", "http://h:1"}, status.Error(codes.FailedPrecondition, "http://h:1 does not answer; not applied"),
			"FailedPrecondition: http://h:1 does not answer; not applied\n"},
		{[]string{"-addNode", "http://h:1"}, said(codes.Unavailable, "leader lost (outcome unknown)", kv.ReasonUnknown),
			"leader lost (outcome unknown); -listNodes shows how far it is, and the same -addNode continues\n"},
	}
	for _, tt := range tests {
		f := startFake(t)
		f.fail = func(string) error { return tt.err }
		expect(t, dkvctl(t, f.addr, tt.args...), outcome{code: 1, stderr: tt.stderr})
	}
}

// What changes members or leaders of many vBuckets is given the time for it.
func TestTimeLimitsOfClusterCommands(t *testing.T) {
	want := map[string]time.Duration{"addNode": 10 * time.Minute, "snapshot": 10 * time.Minute, "removeNode": time.Minute,
		"transferLeader": time.Minute, "stepDown": time.Minute, "listNodes": 5 * time.Second, "status": 5 * time.Second}
	for _, c := range options.Commands() {
		if d, ok := want[c.Name]; ok && c.Timeout != d {
			t.Errorf("-%s may take %s, want %s", c.Name, c.Timeout, d)
		}
	}
	for name, text := range map[string]string{"addNode": "take up to 10m,", "stepDown": "take up to 1m,"} {
		if got := dkvctl(t, "", "help", name); !strings.Contains(got.stdout, text) {
			t.Errorf("the help of -%s does not tell %q: %s", name, text, got.stdout)
		}
	}
	if got := dkvctl(t, "", "help", "get"); strings.Contains(got.stdout, "take up to") {
		t.Errorf("the help of -get mentions a long time limit: %s", got.stdout)
	}
	for _, of := range [][2]string{{"addNode", "-progress"}, {"addNode", "-nonVoting"}, {"removeNode", "-force"}, {"transferLeader", "-vBucket"}} {
		name, option := of[0], of[1]
		if got := dkvctl(t, "", "help", name); !strings.Contains(got.stdout, "\n  "+option+" ") && !strings.Contains(got.stdout, "\n  "+option+"\n") {
			t.Errorf("the help of -%s does not mention %s: %s", name, option, got.stdout)
		}
	}
}

func TestListNodesTellsWhatIsKnown(t *testing.T) {
	f := startFake(t)
	f.members = members(leader, follower, follower, follower)
	for id, m := range f.members.Nodes {
		m.NodeUrl = "http://h:902" + string(rune('0'+id))
	}
	n1, n3, n4 := f.members.Nodes[1], f.members.Nodes[3], f.members.Nodes[4]
	n1.Address, n1.HttpAddress, n1.NodeName, n1.DcID = "h:9081", "h:8081", "east-1", "east"
	n3.NonVoting = true
	n4.Address, n4.NodeName, n4.NonVoting = "h:9084", "east-4", true
	expect(t, dkvctl(t, f.addr, "-listNodes"), outcome{stdout: "" +
		"1  http://h:9021  LEADER    h:9081  east-1\n" +
		"2  http://h:9022  FOLLOWER  -       -\n" +
		"3  http://h:9023  FOLLOWER  -       -       no vote\n" +
		"4  http://h:9024  FOLLOWER  h:9084  east-4  no vote\n"})
	expect(t, dkvctl(t, f.addr, "-listNodes", "-o", "json"), outcome{stdout: "" +
		`{"id":1,"url":"http://h:9021","status":"LEADER","address":"h:9081","http_address":"h:8081","node_name":"east-1","dc_id":"east"}` + "\n" +
		`{"id":2,"url":"http://h:9022","status":"FOLLOWER"}` + "\n" +
		`{"id":3,"url":"http://h:9023","status":"FOLLOWER","non_voting":true}` + "\n" +
		`{"id":4,"url":"http://h:9024","status":"FOLLOWER","address":"h:9084","node_name":"east-4","non_voting":true}` + "\n"})
}

// TestListOfARemovedNode: it counts only if no other node has one, and is shown with a warning.
func TestListOfARemovedNode(t *testing.T) {
	gone, member := startFake(t), startFake(t)
	gone.members, member.members = members(leader, follower, follower), members(leader, follower)
	gone.members.Status = &serverpb.Status{Message: "this node was removed"}
	want := dkvctl(t, member.addr, "-listNodes").stdout
	expect(t, dkvctl(t, gone.addr+","+member.addr, "-listNodes"), outcome{stdout: want})
	for _, addrs := range []string{gone.addr, gone.addr + "," + closedPort(t)} {
		got := dkvctl(t, addrs, "-listNodes")
		if got.code != exitOK || strings.Count(got.stdout, "\n") != 3 || got.stderr != "warning: this node was removed\n" {
			t.Errorf("%s: %+v", addrs, got)
		}
	}
}

// joiner is a fake that adds a node in as many steps as ListNodes is called,
// and answers -addNode when the steps are over.
func joiner(t *testing.T, steps ...func(*fake)) *fake {
	f := startFake(t)
	done := make(chan struct{})
	f.members = members(leader)
	listed := 0
	f.fail = func(method string) error {
		switch method {
		case "AddNode":
			<-done
		case "ListNodes":
			f.mu.Lock()
			defer f.mu.Unlock()
			if listed < len(steps) {
				steps[listed](f)
			} else if listed == len(steps)+1 {
				close(done)
			}
			listed++
		}
		return nil
	}
	return f
}

func TestAddNodeTellsItsProgressOnStderr(t *testing.T) {
	joining := startFake(t)
	for range 7 {
		joining.put("k", "v")
	}
	joining.lag = 2
	node := &modelspb.NodeInfo{NodeId: 4, NodeUrl: "http://h:9024", NonVoting: true}
	become := func(change func(*modelspb.NodeInfo)) func(*fake) {
		return func(f *fake) {
			next := &modelspb.NodeInfo{NodeId: 4, NodeUrl: node.NodeUrl, NonVoting: node.NonVoting, Address: node.Address}
			change(next)
			node = next
			f.members = &serverpb.ListNodesResponse{Nodes: map[uint64]*modelspb.NodeInfo{4: node}}
		}
	}
	receive := func(bytes, size uint64) func(*fake) {
		return func(*fake) {
			joining.mu.Lock()
			defer joining.mu.Unlock()
			joining.arrived = [2]uint64{bytes, size}
		}
	}
	f := joiner(t,
		func(*fake) {},
		become(func(*modelspb.NodeInfo) {}),
		become(func(n *modelspb.NodeInfo) { n.Address = joining.addr }),
		become(func(*modelspb.NodeInfo) {}), // nothing new
		receive(3<<20, 12<<20),
		receive(0, 0),
		become(func(n *modelspb.NodeInfo) { n.Address = closedPort(t) }),
		become(func(n *modelspb.NodeInfo) { n.NonVoting = false }),
	)
	got := dkvctl(t, f.addr, "-addNode", "http://h:9024/", "-progress", "1ms")
	want := "http://h:9024/ is not a member yet\n" +
		"http://h:9024/ is member 4, no vote: it is catching up\n" +
		"http://h:9024/ is member 4, no vote: it has applied 5, 2 behind\n" +
		"http://h:9024/ is member 4, no vote: it receives a snapshot, 3.0 MiB of about 12.0 MiB\n" +
		"http://h:9024/ is member 4, no vote: it has applied 5, 2 behind\n" +
		"http://h:9024/ is member 4, no vote: it does not answer at DOWN\n" +
		"http://h:9024/ is member 4 and votes\n"
	want = strings.Replace(want, "DOWN", node.Address, 1)
	if got.code != exitOK || got.stdout != "OK\n" || got.stderr != want {
		t.Errorf("code %d, stdout %q, stderr\n%s\nwant\n%s", got.code, got.stdout, got.stderr, want)
	}
}

// TestWhenProgressIsShown: as one line of a terminal, as lines elsewhere, and as documents or
// not at all for scripts.
func TestWhenProgressIsShown(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	tests := []struct {
		stderr io.Writer
		line   string
		shows  bool
		style  progress.Style
		every  time.Duration
	}{
		{terminal, "", true, progress.Rewritten, time.Second},
		{terminal, "-progress 2s", true, progress.Rewritten, 2 * time.Second},
		{terminal, "-progress 0", false, 0, 0},
		{terminal, "-q", false, 0, 0},
		{terminal, "-o json", false, 0, 0},
		{terminal, "-progress 2s -o json", true, progress.Documents, 2 * time.Second},
		{file, "", true, progress.Lines, logEvery},
		{file, "-progress 2s", true, progress.Lines, 2 * time.Second},
		{&bytes.Buffer{}, "", true, progress.Lines, logEvery},
		{&bytes.Buffer{}, "-quiet -progress 2s", false, 0, 0},
	}
	for _, tt := range tests {
		inv, err := options.Parse(append([]string{"-addNode", "http://h:1"}, strings.Fields(tt.line)...))
		if err != nil {
			t.Fatal(err)
		}
		s := &session{Client: &nodes.Client{Options: inv.Options}, streams: streams{stderr: tt.stderr, env: func(string) (string, bool) { return "xterm", true }}}
		if r, shows := s.reporter(); shows != tt.shows || shows && (r.Style != tt.style || r.Every != tt.every) {
			t.Errorf("%q with %T: %v, %+v", tt.line, tt.stderr, shows, r)
		}
		s.streams.env = func(string) (string, bool) { return "dumb", true }
		if r, shows := s.reporter(); shows && r.Style == progress.Rewritten {
			t.Errorf("%q on a dumb terminal: %+v", tt.line, r)
		}
	}
}

// A token is not sent unencrypted to an address that a server named.
func TestTokenDoesNotGoToMembersUnencrypted(t *testing.T) {
	f := startFake(t)
	f.role, f.cluster = "master", "c1"
	f.members = members(leader, follower, follower)
	for _, m := range f.members.Nodes {
		m.Address = "192.0.2.1:9081"
	}
	env := map[string]string{"DKVCTL_TOKEN": "secret"}
	got := runMain(t.Context(), "", env, "-a", f.addr, "-status", "-timeout", "2s")
	if got.code != exitOK || strings.Count(got.stdout, "the token would go there unencrypted") != 2 || !strings.HasSuffix(got.stdout, "3 alive, 3 total\n") {
		t.Errorf("%+v", got)
	}
	expect(t, runMain(t.Context(), "", env, "-a", f.addr, "-verify"), outcome{code: 2, stderr: "192.0.2.1:9081 unencrypted"})
}

// A session made from another one shares its options and no connection.
func TestSessionsOfTheirOwn(t *testing.T) {
	f := startFake(t)
	s, err := newSession(options.DefaultOptions(), nil, streams{})
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			one := s.to(f.addr)
			defer one.Close()
			one.Timeout = time.Minute
			if _, err := one.NodeStatus(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if s.Addrs[0] != options.DefaultAddr || s.Timeout != 0 {
		t.Errorf("the session has become %+v", s.Options)
	}
}
