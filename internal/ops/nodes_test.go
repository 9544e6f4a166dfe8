package ops

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/access"
	"github.com/dkvdb/dkv/internal/access/accesstest"
	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/ops/nodes"
	"github.com/dkvdb/dkv/internal/testkit"
)

// pair is two nodes that know each other, and a third that does not answer.
type pair struct {
	first, second *running
	acted         []string // what the second one was asked to do, by whom
}

func newPair(t *testing.T, by auth.Authenticator) *pair {
	t.Helper()
	p := new(pair)
	second := options()
	second.Access = access.NewGuard(access.Options{Authenticator: by, Database: "db"})
	second.Health = func(context.Context) Health { return Health{Status: Degraded, NodeName: "n2"} }
	second.Actions = map[string]Action{"/admin/pause-writes": func(_ context.Context, body json.RawMessage) (any, error) {
		p.acted = append(p.acted, string(body))
		return nil, nil
	}}
	second.Handlers = map[string]http.Handler{"/metrics/cluster": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<script>alert(1)</script>")
	})}
	p.second = run(t, second)
	first := options()
	first.Access = access.NewGuard(access.Options{Authenticator: by, Database: "db"})
	silent := testkit.Refusing(t)
	list := func(context.Context) []nodes.Node {
		return []nodes.Node{{Name: "n1", Self: true, Database: "db"}, {Name: "n2", HTTP: p.second.Addr().String()}, {Name: "n3", HTTP: silent}, {Name: "n4"}}
	}
	first.Nodes = nodes.New(nodes.Options{List: list, Cluster: func() string { return "c1" }, Dial: func(ctx context.Context, address string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}})
	p.first = run(t, first)
	return p
}

// identities are a reader and an administrator.
func identities() *accesstest.Authenticator {
	a := accesstest.New()
	a.Grant("reader", auth.Grant{Role: auth.Read})
	a.Grant("admin", auth.Grant{Role: auth.Admin})
	return a
}

// TestNodesAreShownTogether: each with its health, or with why it is missing.
func TestNodesAreShownTogether(t *testing.T) {
	p := newPair(t, identities())
	r := call(p.first.Server, "GET", "/admin/nodes", "", bearer("reader"))
	var got nodes.Document
	if err := json.Unmarshal(r.Body.Bytes(), &got); err != nil || len(got.Nodes) != 4 || got.Node != "n1" || got.Cluster != "c1" || got.Database != "db" {
		t.Fatalf("%d %s, %v", r.Code, r.Body, err)
	}
	for i, want := range []struct {
		answers       bool
		health, error string
	}{{true, `"node_name":"n1"`, ""}, {true, `"node_name":"n2"`, ""}, {false, "", "refused"}, {false, "", "not known yet"}} {
		n := got.Nodes[i]
		if n.Answers != want.answers || !strings.Contains(strings.ReplaceAll(string(n.Health), " ", ""), want.health) || !strings.Contains(n.Error, want.error) || (n.Health == nil) != (want.health == "") {
			t.Errorf("node %d is %+v %s", i, n, n.Health)
		}
	}
	if r := call(p.first.Server, "GET", "/admin/nodes", ""); r.Code != http.StatusUnauthorized {
		t.Errorf("without a token: %d", r.Code)
	}
}

// TestPathsOfOtherNodes: each node decides by the caller's own credentials.
func TestPathsOfOtherNodes(t *testing.T) {
	p := newPair(t, identities())
	for _, c := range []struct {
		method, path, token string
		code                int
		text                string
	}{
		{"GET", "/admin/nodes/n2/health", "reader", 200, `"n2"`},
		{"GET", "/admin/nodes/" + p.second.Addr().String() + "/health", "reader", 200, `"n2"`},
		{"GET", "/admin/nodes/n1/health", "reader", 200, `"n1"`},
		{"GET", "/admin/nodes/n2/health", "", 401, "token"},
		{"GET", "/admin/nodes/n2/nothing", "reader", 404, "not relayed"},
		{"GET", "/admin/nodes/n2", "reader", 404, "not relayed"},
		{"GET", "/admin/nodes/n2/debug/vars", "admin", 404, "not relayed"},
		{"GET", "/admin/nodes/n2/admin/nodes/n1/health", "admin", 404, "not relayed"},
		{"GET", "/admin/nodes/n3/health", "reader", 502, "refused"},
		{"GET", "/admin/nodes/n4/health", "reader", 503, "not known yet"},
		{"GET", "/admin/nodes/n5/health", "reader", 404, "n1, n2, n3, n4"},
		{"GET", "/admin/nodes/n2/metrics/cluster", "reader", 502, "not relayed"}, // a page of another node
		{"PUT", "/admin/nodes/n2/health", "admin", 405, "GET and POST"},
		{"POST", "/admin/nodes/n2/admin/pause-writes", "reader", 403, "the role admin"},
		{"POST", "/admin/nodes/n2/admin/pause-writes", "admin", 200, `"ok"`},
	} {
		r := call(p.first.Server, c.method, c.path, `{"a": 1}`, func(r *http.Request) {
			if c.token != "" {
				bearer(c.token)(r)
			}
		})
		if r.Code != c.code || !strings.Contains(r.Body.String(), c.text) || r.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%+v: %d %s", c, r.Code, r.Body)
		}
	}
	if len(p.acted) != 1 || p.acted[0] != `{"a": 1}` {
		t.Errorf("the other node was asked to do %q", p.acted)
	}
	foreign := call(p.first.Server, "POST", "/admin/nodes/n2/admin/pause-writes", "", bearer("admin"), header("Sec-Fetch-Site", "cross-site"))
	if foreign.Code != http.StatusForbidden || len(p.acted) != 1 {
		t.Errorf("by a page of another site: %d, %d acts", foreign.Code, len(p.acted))
	}
}

// TestPathsWithDotsAreNotRelayed: their row would be that of another path.
func TestPathsWithDotsAreNotRelayed(t *testing.T) {
	p := newPair(t, identities())
	for _, path := range []string{"/admin/nodes/n2/console/%2e%2e/debug/vars", "/admin/nodes/n2/console/..%2fdebug/vars"} {
		r := call(p.first.Server, "GET", path, "", bearer("admin"))
		if r.Code == http.StatusOK {
			t.Errorf("%s: %d %s", path, r.Code, r.Body)
		}
	}
}

// TestNodesAreStreamed: the document is sent again each second.
func TestNodesAreStreamed(t *testing.T) {
	p := newPair(t, nil)
	response, err := p.first.client.Get(p.first.url("/admin/nodes/stream"))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	buffer, seen := make([]byte, 4096), ""
	for strings.Count(seen, "event: nodes\ndata: {") < 2 {
		n, err := response.Body.Read(buffer)
		if err != nil {
			t.Fatalf("%v after %q", err, seen)
		}
		seen += string(buffer[:n])
	}
}
