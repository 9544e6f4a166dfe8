package bootstrap

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/durable"
	"github.com/dkvdb/dkv/internal/testkit"
)

const (
	urlA = "http://127.0.0.1:9021"
	urlB = "http://127.0.0.1:9022"
	urlC = "http://127.0.0.1:9023"
)

// memberOf is the record of replica 2 of a cluster of three that has run.
func memberOf() record {
	return record{
		UUID: "12345678-9abc-4def-8123-456789abcdef", URL: urlB, ClusterName: "c1", Database: "db", VBuckets: 4, Deployment: 77, Replica: 2,
		Members: []memberRecord{{Replica: 1, URL: urlA}, {Replica: 2, URL: urlB}, {Replica: 3, URL: urlC}}, Started: true,
	}
}

var someday = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// That a node was removed is noted once, and survives the process.
func TestNoteRemoved(t *testing.T) {
	id := &Identity{file: file{t.TempDir(), durable.WriteFile}, rec: memberOf()}
	for _, at := range []time.Time{someday, someday.Add(time.Hour)} {
		if err := id.NoteRemoved(at); err != nil {
			t.Fatal(err)
		}
	}
	if rec, there, err := id.file.load(); err != nil || !there || !rec.Removed.Equal(someday) || !id.RemovedAt().Equal(someday) {
		t.Errorf("%v, %v, %v; %v", rec.Removed, there, err, id.RemovedAt())
	}
}

func TestRestart(t *testing.T) {
	list := []string{urlC, urlA, urlB}
	for _, c := range []struct {
		name string
		bend func(*record, *Options)
		err  error
		// want is in the error or, if there is none, in the log.
		want string
	}{
		{name: "the same", bend: func(*record, *Options) {}},
		{name: "not started yet", bend: func(r *record, o *Options) { r.Started = false; o.RaftData = no }},
		{name: "crashed before it was marked", bend: func(r *record, _ *Options) { r.Started = false }},
		{name: "other spelling", bend: func(_ *record, o *Options) { o.URL = "127.0.0.1:09022/" }},
		{name: "no list", bend: func(_ *record, o *Options) { o.Peers = nil }},
		{name: "state there", bend: func(_ *record, o *Options) { o.StateThere = true }},
		{name: "join", bend: func(_ *record, o *Options) { o.Join = true }, want: "nexus-join has no effect"},
		{name: "other list", bend: func(_ *record, o *Options) { o.Peers = list[1:] }, want: "the stored one is used"},
		{name: "joined once, other list", bend: func(r *record, o *Options) { r.Join, r.Members, o.Peers = true, nil, list[1:] }},
		{name: "version", bend: func(_ *record, o *Options) { o.Terms.Version = "v9.9.9" }},
		{name: "address left out", bend: func(_ *record, o *Options) { o.URL = "" }},
		{name: "address picked", bend: func(_ *record, o *Options) { o.URL, o.Peers = "", []string{urlB, "http://192.0.2.1:1"} },
			want: "the stored one is used"},
		{name: "address picked is another", bend: func(_ *record, o *Options) { o.URL, o.Peers = "", []string{urlA, "http://192.0.2.1:1"} },
			err: ErrMismatch, want: `nexus-node-url "` + urlB + `", and "` + urlA + `" is given`},
		{name: "joined once, address left out", bend: func(r *record, o *Options) {
			r.Join, r.Members, o.URL, o.Peers = true, nil, "", []string{urlA, "http://192.0.2.1:1"}
		}},
		{name: "removed", bend: func(r *record, o *Options) { r.Removed, o.Folders = someday, "its folders /a and /b" },
			err: ErrRemoved, want: `replica 2 of cluster "c1" noticed it at 2026-05-01T12:00:00Z`},
		{name: "removed, and to join", bend: func(r *record, o *Options) { r.Removed, o.Folders, o.Join = someday, "its folders /a and /b", true },
			err: ErrRemoved, want: "move its folders /a and /b away, start it with --nexus-join, and at a member run dkvctl -addNode " + urlB},
		{name: "address", bend: func(_ *record, o *Options) { o.URL = urlC }, err: ErrMismatch, want: "dkvctl -removeNode " + urlB},
		{name: "cluster name", bend: func(_ *record, o *Options) { o.Terms.ClusterName = "c2" }, err: ErrMismatch, want: `nexus-cluster-name "c1", and "c2"`},
		{name: "database", bend: func(_ *record, o *Options) { o.Terms.Database = "d2" }, err: ErrMismatch, want: `database "db", and "d2"`},
		{name: "vbuckets", bend: func(_ *record, o *Options) { o.Terms.VBuckets = 8 }, err: ErrMismatch, want: `vbuckets "4", and "8"`},
		{name: "log's format", bend: func(r *record, _ *Options) { r.LogFormat = 2 }},
		{name: "older release", bend: func(r *record, _ *Options) { r.LogFormat = 3 }, err: ErrMismatch, want: "upgrade this node"},
		{name: "log gone", bend: func(_ *record, o *Options) { o.RaftData = no }, err: ErrMismatch, want: "its Raft log is empty"},
		{name: "log unreadable", bend: func(_ *record, o *Options) { o.RaftData = func() (bool, error) { return false, os.ErrPermission } },
			err: os.ErrPermission, want: "Raft log"},
		{name: "malformed address", bend: func(_ *record, o *Options) { o.URL = "here" }, err: ErrConfig, want: "nexus-node-url"},
		{name: "malformed list", bend: func(_ *record, o *Options) { o.Peers = []string{"http://a"} }, err: ErrConfig, want: "nexus-cluster-url"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNode(t, urlB, list...)
			n.RaftData = func() (bool, error) { return true, nil }
			rec := memberOf()
			c.bend(&rec, &n.Options)
			if err := (file{n.Dir, n.write}).store(rec); err != nil {
				t.Fatal(err)
			}
			id, err := n.enter(t.Context())
			if c.err != nil {
				if !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if id.Replica != 2 || id.Deployment != 77 || id.URL != urlB || id.Fresh == rec.Started || len(id.Members) != len(rec.Members) {
				t.Errorf("restarted as %+v", id)
			}
			if !n.text.Has(c.want) || c.want == "" && n.text.Has("level=WARN") {
				t.Errorf("logged: %s", n.text.String())
			}
		})
	}
}

func no() (bool, error) { return false, nil }

func TestFirstStartRefused(t *testing.T) {
	list := []string{urlA, urlB}
	for _, c := range []struct {
		name string
		bend func(*Options)
		err  error
		want string
	}{
		{"log of no member", func(o *Options) { o.RaftData = func() (bool, error) { return true, nil } }, ErrMismatch, "holds data"},
		{"data in a list", func(o *Options) { o.StateThere = true }, ErrMismatch, "naming only itself"},
		{"data, joining", func(o *Options) { o.StateThere, o.Join = true, true }, ErrMismatch, "--nexus-join"},
		{"not in the list", func(o *Options) { o.URL = urlC }, ErrConfig, urlC + " is not in nexus-cluster-url (" + urlA + ", " + urlB + ")"},
		{"no address at all", func(o *Options) { o.URL, o.Peers = "", nil }, ErrConfig, "set nexus-node-url"},
		{"ambiguous", func(o *Options) { o.URL = "" }, ErrConfig, "2 entries of nexus-cluster-url are this machine"},
		{"joining without address", func(o *Options) { o.URL, o.Join = "", true }, ErrConfig, "needs nexus-node-url"},
		{"none of the list", func(o *Options) { o.URL, o.Peers = "", []string{"http://192.0.2.1:1", "http://192.0.2.2:1"} }, ErrConfig, "no entry"},
		{"no vbuckets", func(o *Options) { o.Terms.VBuckets = 0 }, ErrConfig, "vBuckets"},
		{"no folder", func(o *Options) { o.Dir = "" }, ErrConfig, "folder"},
		{"not this machine's", func(o *Options) { o.Join, o.URL = true, "http://192.0.2.1:1" }, ErrConfig, "an address of this machine"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNode(t, urlA, list...)
			c.bend(&n.Options)
			_, err := n.enter(t.Context())
			if !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
			if rec, _, err := (file{n.Dir, n.write}).load(); err != nil || rec.isMember() {
				t.Errorf("it left %+v, %v", rec, err)
			}
		})
	}
}

// TestWaitingKeepsTheUUID ends a waiting node and starts it again.
func TestWaitingKeepsTheUUID(t *testing.T) {
	urls := reserve(t, 2)
	n := newNode(t, urls[1], urls...)
	var uuids []string
	for range 2 {
		ctx, cancel := cancelled(t)
		waiting := n.start(ctx)
		uuids = append(uuids, waits(t, urls[1]).UUID)
		cancel()
		if _, err := get(t, waiting); !errors.Is(err, context.Canceled) {
			t.Errorf("it ended with %v", err)
		}
		mustBeFree(t, urls[1])
	}
	if uuids[0] != uuids[1] || n.stored(t).UUID != uuids[0] {
		t.Errorf("it was %s, then %s", uuids[0], uuids[1])
	}
	// Started alone, it is still the same disk.
	n.Peers = urls[1:]
	if id := must(t, n.start(t.Context())); id.UUID != uuids[0] {
		t.Errorf("the founder is %s", id.UUID)
	}
}

func TestMarkStarted(t *testing.T) {
	n := newNode(t, urlA)
	id := must(t, n.start(t.Context()))
	if !id.Fresh {
		t.Error("it is not fresh")
	}
	id.file.write = func(string, []byte) error { return errCrash }
	if err := id.MarkStarted(); !errors.Is(err, errCrash) {
		t.Errorf("the failure is told as %v", err)
	}
	id.file.write = durable.WriteFile
	for range 2 {
		if err := id.MarkStarted(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := n.enter(t.Context()); !errors.Is(err, ErrMismatch) {
		t.Errorf("started without its log: %v", err)
	}
}

func TestPortTaken(t *testing.T) {
	urls := reserve(t, 2)
	for _, u := range urls {
		serve(t, u, func(net.Conn) {})
		n := newNode(t, u, urls...)
		if _, err := n.enter(t.Context()); !errors.Is(err, ErrPortTaken) || !strings.Contains(err.Error(), hostPort(u)) {
			t.Errorf("%s: %v", u, err)
		}
	}
}

func TestListenElsewhere(t *testing.T) {
	inside := reserve(t, 1)[0]
	n := newNode(t, "http://192.0.2.7:9021")
	n.Join, n.Listen = true, hostPort(inside)
	ctx, cancel := cancelled(t)
	waiting := n.start(ctx)
	if h := waits(t, inside); h.URL != "http://192.0.2.7:9021" {
		t.Errorf("it waits as %s", h.URL)
	}
	cancel()
	<-waiting
}

// TestCancelled ends ctx in each state of waiting; the cause is told.
func TestCancelled(t *testing.T) {
	cause := errors.New("shutting down")
	for _, c := range []struct {
		name string
		at   int
		join bool
	}{{"member", 1, false}, {"founder", 0, false}, {"joining", 1, true}} {
		t.Run(c.name, func(t *testing.T) {
			urls := reserve(t, 2)
			if c.at == 0 {
				serve(t, urls[1], likeRaft)
			}
			n := newNode(t, urls[c.at], urls...)
			n.Join, n.pace.patience = c.join, time.Hour
			ctx, cancel := context.WithCancelCause(t.Context())
			waiting := n.start(ctx)
			waits(t, urls[c.at])
			cancel(cause)
			if _, err := get(t, waiting); !errors.Is(err, cause) {
				t.Errorf("it ended with %v", err)
			}
			mustBeFree(t, urls[c.at])
		})
	}
}

// TestSlowFounder has the founder accept connections and say nothing: the node
// that asks what the founder is up to is no less prompt.
func TestSlowFounder(t *testing.T) {
	urls := reserve(t, 2)
	release := make(chan struct{})
	serve(t, urls[0], func(conn net.Conn) { <-release })
	n := newNode(t, urls[1], urls...)
	waiting := n.start(t.Context())
	h := waits(t, urls[1])
	err := testClient(t).Invite(t.Context(), urls[1], Invitation{UUID: h.UUID, Terms: testTerms, Deployment: 3, Replica: 2,
		Members: map[uint64]string{1: urls[0], 2: urls[1]}})
	if err != nil {
		t.Fatal(err)
	}
	must(t, waiting)
	close(release)
}

func TestFounderHints(t *testing.T) {
	urls := reserve(t, 2)
	ctx, cancel := cancelled(t)
	n := newNode(t, urls[1], urls...)
	waiting := n.start(ctx)
	testkit.Eventually(t, "it says that the founder is down", func() bool { return n.text.Has("it does not answer: is it started?") })
	stop := serve(t, urls[0], likeRaft)
	testkit.Eventually(t, "it says that the founder runs", func() bool { return n.text.Has("it runs already") })
	stop()
	cancel()
	<-waiting
}

func TestDefectiveFile(t *testing.T) {
	n := newNode(t, urlA)
	if err := os.MkdirAll(n.Dir, 0o750); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(n.Dir, "raft.json")
	if err := os.WriteFile(path, []byte(`{"format": 1`), 0o640); err != nil {
		t.Fatal(err)
	}
	_, err := n.enter(t.Context())
	if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "--nexus-join") {
		t.Errorf("%v", err)
	}
}

func TestPickedAddress(t *testing.T) {
	url := reserve(t, 1)[0]
	n := newNode(t, "", url, "http://192.0.2.1:1")
	ctx, cancel := cancelled(t)
	founder := n.start(ctx)
	if id := must(t, founder); id.URL != url {
		t.Errorf("it is %s", id.URL)
	}
	cancel()
	n.Host.Addrs = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	other := newNode(t, "", n.Peers...)
	other.Host = n.Host
	if _, err := other.enter(t.Context()); !errors.Is(err, ErrConfig) {
		t.Errorf("two entries are this machine: %v", err)
	}
}

func TestHasIdentity(t *testing.T) {
	n := newNode(t, urlA)
	check := func(when string, want bool) {
		t.Helper()
		if got, err := HasIdentity(n.Dir); got != want || err != nil {
			t.Errorf("%s: %v, %v", when, got, err)
		}
	}
	check("no folder", false)
	if err := (file{n.Dir, n.write}).store(record{UUID: newUUID(), URL: urlA}); err != nil {
		t.Fatal(err)
	}
	check("it waited once", false)
	must(t, n.start(t.Context()))
	check("it is a member", true)
	if err := os.Truncate(filepath.Join(n.Dir, fileName), 9); err != nil {
		t.Fatal(err)
	}
	if _, err := HasIdentity(n.Dir); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a damaged file: %v", err)
	}
}
