package ops

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/access"
	"github.com/dkvdb/dkv/internal/access/accesstest"
	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/testkit"
)

// withAccess has a server that goes by a guard, and counts what its action does.
func withAccess(t *testing.T, o access.Options) (s *Server, acted *int) {
	acted = new(int)
	options := options()
	options.Access, options.Pprof = access.NewGuard(o), true
	options.Actions = map[string]Action{"/admin/pause-writes": func(ctx context.Context, _ json.RawMessage) (any, error) {
		*acted++
		return nil, nil
	}}
	return newServer(t, options), acted
}

func bearer(token string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
}

// TestPathsNeedTheirRole: probes are open to all, everything else needs a token; the error
// says which role is missing.
func TestPathsNeedTheirRole(t *testing.T) {
	a := accesstest.New()
	a.Grant("reader", auth.Grant{Role: auth.Read})
	a.Grant("admin", auth.Grant{Role: auth.Admin})
	s, acted := withAccess(t, access.Options{Authenticator: a, Database: "db"})
	for _, c := range []struct {
		method, path, token string
		code                int
	}{
		{"GET", "/livez", "", 200}, {"GET", "/readyz", "", 200}, {"GET", "/health/quick", "", 200},
		{"GET", "/health", "", 401}, {"GET", "/health", "wrong", 401}, {"GET", "/health", "reader", 200},
		{"GET", "/metrics", "", 401}, {"GET", "/metrics", "reader", 200}, {"GET", "/", "", 200}, {"GET", "/paths", "", 401}, {"GET", "/paths", "reader", 200},
		{"GET", "/debug/vars", "reader", 403}, {"GET", "/debug/pprof/cmdline", "reader", 403}, {"GET", "/debug/pprof/cmdline", "admin", 200},
		{"GET", "/nowhere", "", 401}, {"GET", "/nowhere", "reader", 404},
		{"POST", "/admin/pause-writes", "", 401}, {"POST", "/admin/pause-writes", "reader", 403}, {"POST", "/admin/pause-writes", "admin", 200},
	} {
		r := call(s, c.method, c.path, "", func(r *http.Request) {
			r.RemoteAddr, r.Host = "192.0.2.1:1", "db.example:8081" // authenticated by no address
			if c.token != "" {
				bearer(c.token)(r)
			}
		})
		if r.Code != c.code || (r.Code == 401) != (r.Header().Get("WWW-Authenticate") != "") {
			t.Errorf("%+v: %d %s", c, r.Code, r.Body)
		}
		if r.Code == 403 && !strings.Contains(r.Body.String(), "the role admin") {
			t.Errorf("%+v: %s", c, r.Body)
		}
	}
	if *acted != 1 {
		t.Errorf("the action was done %d times", *acted)
	}
	r := call(s, "POST", "/admin/pause-writes", "", bearer("admin"), func(r *http.Request) {
		r.Header.Set("Sec-Fetch-Site", "cross-site")
	})
	if r.Code != 403 || *acted != 1 {
		t.Errorf("by a page of another site: %d", r.Code)
	}
}

// TestPathsOfAProtectedNode: without authentication, other hosts get the probes, and what
// allow-insecure opens; profiles and variables never leave the machine.
func TestPathsOfAProtectedNode(t *testing.T) {
	for exposure, opened := range map[access.Exposure][]string{
		access.Protected:   {"/livez", "/readyz", "/health/quick", "/"},
		access.ExposedData: {"/livez", "/readyz", "/health/quick", "/health", "/metrics", "/"},
		access.Exposed:     {"/livez", "/readyz", "/health/quick", "/health", "/metrics", "/"},
	} {
		s, _ := withAccess(t, access.Options{Exposure: exposure})
		for _, path := range []string{"/livez", "/readyz", "/health/quick", "/health", "/metrics", "/", "/debug/vars", "/debug/pprof/cmdline"} {
			want := 403
			for _, p := range opened {
				if p == path {
					want = 200
				}
			}
			if r := call(s, "GET", path, "", func(r *http.Request) { r.RemoteAddr = "192.0.2.1:1" }); r.Code != want {
				t.Errorf("allow-insecure %s: %s: %d, want %d", exposure, path, r.Code, want)
			}
			if r := call(s, "GET", path, ""); r.Code != 200 {
				t.Errorf("%s from this machine: %d", path, r.Code)
			}
		}
	}
}

// TestDebuggingThroughAProxy: without authentication, a proxy on the same machine does not
// open profiles and variables to its clients, and neither does a page whose name resolves
// to this machine.
func TestDebuggingThroughAProxy(t *testing.T) {
	a := accesstest.New()
	a.Grant("admin", auth.Grant{Role: auth.Admin})
	open, _ := withAccess(t, access.Options{})
	secure, _ := withAccess(t, access.Options{Authenticator: a})
	for what, change := range map[string]func(*http.Request){
		"a proxy":        func(r *http.Request) { r.Header.Set("X-Forwarded-For", "192.0.2.1") },
		"a foreign name": func(r *http.Request) { r.Host = "attacker.example" },
	} {
		for _, path := range []string{"/debug/vars", "/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/symbol"} {
			if r := call(open, "GET", path, "", change); r.Code != 403 {
				t.Errorf("%s asks for %s: %d", what, path, r.Code)
			}
			if r := call(secure, "GET", path, "", change, bearer("admin")); r.Code != 200 {
				t.Errorf("%s with a token asks for %s: %d", what, path, r.Code)
			}
		}
	}
}

// TestMetricsStreamEndsWithItsGrants: a reader whose token is removed gets no more events.
func TestMetricsStreamEndsWithItsGrants(t *testing.T) {
	a := accesstest.New()
	a.Grant("reader", auth.Grant{Role: auth.Read})
	o := options()
	o.Access = access.NewGuard(access.Options{Authenticator: a})
	s := run(t, o)
	request, err := http.NewRequestWithContext(testkit.Within(t, testkit.Patience), http.MethodGet, s.url("/metrics/stream"), nil)
	if err != nil {
		t.Fatal(err)
	}
	bearer("reader")(request)
	response, err := s.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	events := bufio.NewReader(response.Body)
	if _, err := events.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	a.Remove("reader")
	if _, err := io.Copy(io.Discard, events); err != nil {
		t.Errorf("the stream goes on: %v", err)
	}
}

// withoutKeys has no keys to check a JWT with.
type withoutKeys struct{ *accesstest.Authenticator }

func (withoutKeys) Identify(auth.Credentials) (*auth.Identity, error) {
	return nil, auth.ErrUnavailable
}

// TestPathsOfANodeWithoutKeys: it is the node that fails, not the caller.
func TestPathsOfANodeWithoutKeys(t *testing.T) {
	s, _ := withAccess(t, access.Options{Authenticator: withoutKeys{accesstest.New()}})
	r := call(s, "GET", "/health", "", bearer("a.b.c"))
	if r.Code != http.StatusServiceUnavailable || r.Header().Get("WWW-Authenticate") != "" {
		t.Errorf("%d %s", r.Code, r.Body)
	}
}
