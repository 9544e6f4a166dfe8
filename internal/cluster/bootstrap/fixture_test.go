package bootstrap

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/durable"
	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/internal/timing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// long bounds what must happen; it only passes in a test that fails.
const long = testkit.Patience

var testPace = pace{
	waiting: 20 * time.Millisecond, joining: 20 * time.Millisecond,
	patience: 200 * time.Millisecond, look: 10 * time.Millisecond,
	retry: 5 * time.Millisecond, retryMax: 20 * time.Millisecond,
	// A node that waited for silent connections would wait for longer than a test does.
	silence: time.Hour,
}

var testTerms = Terms{ClusterName: "c1", Database: "db", VBuckets: 4, VBucket: "main", Version: "v1.2.3", Format: 2, Timing: timing.Setting{Current: timing.LAN}}

// reserve returns n URLs that no one else uses, in order.
func reserve(t *testing.T, n int) []string {
	t.Helper()
	var urls []string
	for range n {
		urls = append(urls, FormatURL(testkit.Address(t)))
	}
	slices.Sort(urls)
	return urls
}

// node is a node under test.
type node struct {
	Options
	write func(string, []byte) error
	pace  pace
	text  *testkit.Log
}

func newNode(t *testing.T, url string, peers ...string) *node {
	t.Helper()
	n := &node{write: durable.WriteFile, pace: testPace, text: new(testkit.Log)}
	n.Options = Options{
		Dir: filepath.Join(t.TempDir(), "nexus"), URL: url, Peers: slices.Clone(peers), Terms: testTerms,
		RaftData: func() (bool, error) { return false, nil },
		Log:      n.text.Logger(slog.LevelDebug),
	}
	return n
}

func (n *node) enter(ctx context.Context) (*Identity, error) {
	return enter(ctx, n.Options, n.pace, n.write)
}

// result is what Enter returned.
type result struct {
	id  *Identity
	err error
}

// start runs Enter on its own.
func (n *node) start(ctx context.Context) <-chan result {
	out := make(chan result, 1)
	go func() {
		id, err := n.enter(ctx)
		out <- result{id, err}
	}()
	return out
}

// wipe takes the node's disk away.
func (n *node) wipe(t *testing.T) {
	t.Helper()
	if err := os.RemoveAll(n.Dir); err != nil {
		t.Fatal(err)
	}
}

func (n *node) stored(t *testing.T) record {
	t.Helper()
	rec, ok, err := file{n.Dir, n.write}.load()
	if err != nil || !ok {
		t.Fatalf("identity file: there %v, %v", ok, err)
	}
	return rec
}

func get(t *testing.T, c <-chan result) (*Identity, error) {
	t.Helper()
	select {
	case r := <-c:
		return r.id, r.err
	case <-time.After(long):
		t.Fatal("Enter does not return")
		return nil, nil
	}
}

func must(t *testing.T, c <-chan result) *Identity {
	t.Helper()
	id, err := get(t, c)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// waits returns the Hello of the node that waits at url, once it does.
func waits(t *testing.T, url string) Hello {
	t.Helper()
	var h Hello
	testkit.Eventually(t, url+" waits", func() bool {
		var err error
		h, err = testClient(t).Probe(t.Context(), url)
		return err == nil
	})
	return h
}

func testClient(*testing.T) *Client {
	return NewClient(nil, nil)
}

// mustBeFree fails unless a url's port can be listened on at once.
func mustBeFree(t *testing.T, url string) {
	t.Helper()
	l, err := net.Listen("tcp", hostPort(url))
	if err != nil {
		t.Fatalf("the port is not free: %v", err)
	}
	l.Close()
}

// serve runs f on each connection to url until the test ends.
func serve(t *testing.T, url string, f func(net.Conn)) (stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", hostPort(url))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				f(conn)
			})
		}
	})
	stop = sync.OnceFunc(func() {
		l.Close()
		wg.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// likeRaft answers as a Raft port does to what it does not know: it hangs up.
func likeRaft(conn net.Conn) {
	var b [2]byte
	_, _ = conn.Read(b[:])
}

// cancelled is a context with a function that ends it and does not wait.
func cancelled(t *testing.T) (context.Context, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return ctx, cancel
}

const joining = peerpb.HelloResponse_JOINING

// invitationTo is a right invitation to join.
func invitationTo(i *invitee, replica uint64) *peerpb.Invitation {
	return &peerpb.Invitation{
		Protocol: protocol, Uuid: i.self.UUID, Url: i.self.URL, ClusterName: i.terms.ClusterName, Database: i.terms.Database,
		VBuckets: uint32(i.terms.VBuckets), Version: i.terms.Version, Deployment: 77, Replica: replica, Join: true,
	}
}
