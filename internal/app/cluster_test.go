package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/testkit"
)

// process is a node that runs in this process.
type process struct {
	t      testing.TB
	args   []string
	url    string // where it speaks Raft
	listen string // where it serves gRPC
	ops    string // and HTTP
	folder string
	wrap   func(storage.Engine) storage.Engine
	log    *watchedLog
	cancel context.CancelFunc
	code   chan int
}

// start runs a node until it is stopped, at the latest when the test ends.
func start(t testing.TB, args ...string) *process {
	t.Helper()
	return startWrapped(t, nil, args...)
}

// startWrapped is start with each storage engine wrapped, unless wrap is nil.
func startWrapped(t testing.TB, wrap func(storage.Engine) storage.Engine, args ...string) *process {
	t.Helper()
	p := unstarted(t, args...)
	p.wrap = wrap
	p.begin()
	return p
}

// unstarted is a node that begin starts.
func unstarted(t testing.TB, args ...string) *process {
	t.Helper()
	p := &process{t: t, folder: filepath.Join(t.TempDir(), "db"), listen: testkit.Address(t), ops: testkit.Address(t)}
	p.args = append([]string{"--listen-addr", p.listen, "--http-listen-addr", p.ops, "--db-folder", p.folder}, args...)
	t.Cleanup(func() {
		if p.cancel != nil {
			p.stop()
		}
	})
	return p
}

// begin starts the node, also after a stop.
func (p *process) begin(args ...string) {
	var ctx context.Context
	ctx, p.cancel = context.WithCancel(context.Background())
	log, code := newWatchedLog(), make(chan int, 1)
	p.log, p.code = log, code
	all := append(append([]string{}, p.args...), args...)
	go func() { code <- Main(ctx, Process{Args: all, Stdout: log, Stderr: log, WrapEngine: p.wrap}) }()
}

// stop stops the node, if it runs, and returns its exit code.
func (p *process) stop() int {
	p.cancel()
	code := <-p.code
	p.code <- code
	return code
}

var (
	httpAt = regexp.MustCompile(`msg=serving.* http=(\S+)`)
	grpcAt = regexp.MustCompile(`msg=serving.* grpc=(\S+)`)
)

func (p *process) http() string { return p.log.waitFor(p.t, httpAt) }
func (p *process) grpc() string { return p.log.waitFor(p.t, grpcAt) }

// connect returns a connection to the node's services.
func connect(t testing.TB, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// masters starts a cluster.
func masters(t *testing.T, n int) []*process {
	t.Helper()
	return mastersWith(t, n, "--disable-discovery-client")
}

// mastersWith starts a cluster whose nodes have further arguments.
func mastersWith(t *testing.T, n int, args ...string) []*process {
	t.Helper()
	urls := make([]string, n)
	for i := range urls {
		urls[i] = "http://" + testkit.Address(t)
	}
	out := make([]*process, n)
	for i := range out {
		out[i] = start(t, append([]string{"--role", "master", "--node-name", fmt.Sprint("n", i+1),
			"--nexus-node-url", urls[i], "--nexus-cluster-url", strings.Join(urls, ",")}, args...)...)
		out[i].url = urls[i]
	}
	for _, p := range out {
		p.http()
	}
	return out
}

// ask returns the body that a path of a node's HTTP server answers with any status.
func ask(t *testing.T, address, path string) string {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	resp, err := client.Get("http://" + address + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// health has the fields of GET /health that tests compare.
type health struct {
	Status   string
	Reasons  []string
	VBuckets []struct {
		Leader   string
		IsLeader bool `json:"is_leader"`
		State    string
	}
}

func healthOf(t *testing.T, address string) (h health) {
	t.Helper()
	if err := json.Unmarshal([]byte(ask(t, address, "/health")), &h); err != nil {
		t.Fatal(err)
	}
	return h
}

// statusDocument has the fields of GET /admin/cluster/status that tests compare.
type statusDocument struct {
	Leader   string
	LeaderID string `json:"leader_id"`
	VBuckets []struct {
		Members []struct {
			ID, State string
			Healthy   bool
			Commit    *uint64 `json:"commit_index"`
			Applied   *uint64 `json:"applied_index"`
		}
	}
}

// TestADeadMemberShows: if a member does not answer, the others are degraded, name it and
// say what to do. They count the vBuckets that lack it at once, with a leader or without,
// and their status shows the leader and how far each member is.
func TestADeadMemberShows(t *testing.T) {
	nodes := masters(t, 3)
	conn := connect(t, nodes[0].grpc())
	if _, err := serverpb.NewDKVClient(conn).Put(testkit.Within(t, testkit.Patience), &serverpb.PutRequest{Key: []byte("k"), Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
	for _, p := range nodes {
		testkit.Eventually(t, "all are healthy", func() bool { return healthOf(t, p.http()).Status == "healthy" })
	}
	status := func(p *process) (s statusDocument) {
		if err := json.Unmarshal([]byte(ask(t, p.http(), "/admin/cluster/status")), &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	testkit.Eventually(t, "each node knows the leader and how far all are", func() bool {
		for _, p := range nodes {
			s := status(p)
			if s.Leader == "" || s.LeaderID == "" || len(s.VBuckets) != 1 {
				return false
			}
			for _, m := range s.VBuckets[0].Members {
				if leads := m.State == "LEADER"; !m.Healthy || m.Applied == nil || *m.Applied == 0 || m.Commit == nil || leads != (m.ID == s.LeaderID) {
					return false
				}
			}
		}
		return true
	})

	nodes[2].stop()
	under := func(p *process) bool {
		return strings.Contains(ask(t, p.http(), "/metrics"), "\ndkv_under_replicated_vbuckets{database=\"default\"} 1\n")
	}
	want := fmt.Sprintf("member 3 (n3) at %s does not answer: start it, or remove it if it is gone for good (dkvctl -removeNode %s)", nodes[2].url, nodes[2].url)
	for _, p := range nodes[:2] {
		testkit.Eventually(t, "it is degraded, and says why", func() bool {
			h := healthOf(t, p.http())
			return h.Status == "degraded" && len(h.Reasons) == 1 && h.Reasons[0] == want
		})
		s := status(p)
		if m := s.VBuckets[0].Members[2]; m.Healthy || m.State != "OFFLINE" || m.Applied != nil {
			t.Errorf("the dead member is shown as %+v", m)
		}
	}
	testkit.Eventually(t, "both that are left count the vBucket", func() bool { return under(nodes[0]) && under(nodes[1]) })
	nodes[1].stop()
	testkit.Eventually(t, "the one that is left counts it, though no one leads", func() bool { return under(nodes[0]) })
}

// TestARemovedNodeSaysSo: it names no leader, says when it was removed and what to do,
// and refuses to start again from the same folder.
func TestARemovedNodeSaysSo(t *testing.T) {
	nodes := masters(t, 3)
	gone := nodes[2]
	at := gone.http()
	members := serverpb.NewDKVClusterClient(connect(t, nodes[0].grpc()))
	testkit.Eventually(t, "it is removed", func() bool { // the members have to have met
		_, err := members.RemoveNode(testkit.Within(t, testkit.Patience), &serverpb.RemoveNodeRequest{NodeUrl: gone.url})
		return err == nil
	})
	say := regexp.MustCompile(`^this node was removed from its cluster \(noticed at 20[0-9TZ:-]+\) and serves nothing any more\. To let it come back: ` +
		`stop it, move its folder ` + regexp.QuoteMeta(gone.folder) + ` away, start it with --nexus-join, and at a member run dkvctl -addNode ` + regexp.QuoteMeta(gone.url) + `$`)
	testkit.Eventually(t, "it says that it was removed", func() bool {
		h := healthOf(t, at)
		return h.Status == "unhealthy" && len(h.Reasons) == 1 && say.MatchString(h.Reasons[0])
	})
	if v := healthOf(t, at).VBuckets[0]; v.Leader != "" || v.IsLeader || v.State != "removed" {
		t.Errorf("it is shown as %+v", v)
	}
	wantShown(t, gone, "a removed node", shown{health: "unhealthy", state: "removed", said: "removed", member: "removed", rejects: true}, "was removed")
	list, err := serverpb.NewDKVClusterClient(connect(t, gone.grpc())).ListNodes(testkit.Within(t, testkit.Patience), nil)
	if err != nil || len(list.GetNodes()) == 0 || !strings.Contains(list.GetStatus().GetMessage(), "was removed from the cluster") {
		t.Errorf("asked for the members it says %v, %v", list, err)
	}
	testkit.Eventually(t, "the others are well without it", func() bool { return healthOf(t, nodes[0].http()).Status == "healthy" })
	gone.stop()
	for _, args := range [][]string{nil, {"--nexus-join"}} {
		gone.begin(args...)
		if code := <-gone.code; code != exitError {
			t.Errorf("%q: exit code %d", args, code)
		}
		gone.code <- exitError
		text := gone.log.String()
		for _, want := range []string{"was removed from its cluster", "replica 3", "move its folder " + gone.folder + " away", "--nexus-join", "dkvctl -addNode " + gone.url} {
			if !strings.Contains(text, want) {
				t.Errorf("%q: no %q in the log:\n%s", args, want, text)
			}
		}
	}
}

// TestANodeThatWaitsSaysForWhat: a node that is to be added answers at once, over gRPC
// and over HTTP, what has to be done; once it is added it serves at the same address.
func TestANodeThatWaitsSaysForWhat(t *testing.T) {
	t.Run("without drills", func(t *testing.T) { testWaiting(t) })
	t.Run("with drills", func(t *testing.T) { testWaiting(t, "--allow-drills") })
}

func testWaiting(t *testing.T, args ...string) {
	member := masters(t, 1)[0]
	url := "http://" + testkit.Address(t)
	p := start(t, append(args, "--role", "master", "--disable-discovery-client", "--nexus-node-url", url, "--nexus-join")...)
	p.log.waitFor(t, regexp.MustCompile("(waiting to be added)"))
	want := "this node waits to be added to a cluster; on any of its members run: dkvctl -addNode " + url
	conn := connect(t, p.listen)
	kv := serverpb.NewDKVClient(conn)
	testkit.Eventually(t, "it answers what it waits for", func() bool {
		_, err := kv.Get(testkit.Within(t, testkit.Patience), &serverpb.GetRequest{Key: []byte("k")})
		return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), want+" (not applied)")
	})
	if _, err := serverpb.NewDKVNodeClient(conn).GetNodeStatus(testkit.Within(t, testkit.Patience), nil); !strings.Contains(fmt.Sprint(err), want) {
		t.Errorf("asked for its status it says %v", err)
	}
	check, err := healthpb.NewHealthClient(conn).Check(testkit.Within(t, testkit.Patience), &healthpb.HealthCheckRequest{})
	if err != nil || check.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("asked for its health it says %v, %v", check, err)
	}
	if h := healthOf(t, p.ops); h.Status != "unhealthy" || len(h.Reasons) != 1 || h.Reasons[0] != want {
		t.Errorf("its health is %+v", h)
	}
	if probes := ask(t, p.ops, "/readyz?verbose"); answers(t, p.ops, "/health/quick") || !strings.Contains(probes, "[-]grpc failed: "+want) || !strings.Contains(probes, "[-]storage failed: "+want) {
		t.Errorf("its probes say %s", probes)
	}
	members := serverpb.NewDKVClusterClient(connect(t, member.grpc()))
	if _, err := members.AddNode(testkit.Within(t, testkit.Patience), &serverpb.AddNodeRequest{NodeUrl: url}); err != nil {
		t.Fatal(err)
	}
	if at := p.grpc(); at != p.listen {
		t.Errorf("it serves at %s", at)
	}
	if _, err := kv.Get(testkit.Within(t, testkit.Patience), &serverpb.GetRequest{Key: []byte("k")}, grpc.WaitForReady(true)); err != nil {
		t.Error(err)
	}
}
