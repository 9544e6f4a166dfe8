package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/dkvdb/dkv/internal/access"
	"github.com/dkvdb/dkv/internal/audit"
)

// withAction is a server with one action that counts its calls.
func withAction(t *testing.T, calls *int) *Server {
	t.Helper()
	o := options()
	o.Actions = map[string]Action{"/admin/pause-writes": func(context.Context, json.RawMessage) (any, error) {
		*calls++
		return nil, nil
	}}
	return newServer(t, o)
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func TestActionsAreForThisMachineOnly(t *testing.T) {
	remote := func(addr string) func(*http.Request) { return func(r *http.Request) { r.RemoteAddr = addr } }
	host := func(h string) func(*http.Request) { return func(r *http.Request) { r.Host = h } }
	tests := []struct {
		name    string
		change  []func(*http.Request)
		allowed bool
		text    string
	}{
		{"loopback", nil, true, ""},
		{"loopback, another address of it", []func(*http.Request){remote("127.8.8.8:1")}, true, ""},
		{"loopback, IPv6", []func(*http.Request){remote("[::1]:1"), host("[::1]:8081")}, true, ""},
		{"loopback, IPv4 in IPv6", []func(*http.Request){remote("[::ffff:127.0.0.1]:1")}, true, ""},
		{"host localhost", []func(*http.Request){host("LocalHost:8081")}, true, ""},
		{"host without port", []func(*http.Request){host("127.0.0.1")}, true, ""},
		{"host IPv6 without port", []func(*http.Request){host("[::1]")}, true, ""},
		{"own page", []func(*http.Request){header("Origin", "http://127.0.0.1:8081"), header("Dkv-Console", "1")}, true, ""},
		{"own page, new browser", []func(*http.Request){header("Sec-Fetch-Site", "same-origin"), header("Dkv-Console", "1")}, true, ""},
		{"a form", []func(*http.Request){header("Origin", "http://127.0.0.1:8081")}, false, "Dkv-Console"},
		{"a form, new browser", []func(*http.Request){header("Sec-Fetch-Site", "none")}, false, "Dkv-Console"},
		{"another host", []func(*http.Request){remote("192.0.2.1:1")}, false, "this machine only"},
		{"another host, IPv6", []func(*http.Request){remote("[2001:db8::1]:1")}, false, "this machine only"},
		{"another host that says it is us", []func(*http.Request){remote("192.0.2.1:1"), header("X-Forwarded-For", "127.0.0.1")}, false, "this machine only"},
		{"no address", []func(*http.Request){remote("")}, false, "this machine only"},
		{"proxy", []func(*http.Request){header("X-Forwarded-For", "127.0.0.1")}, false, "proxy"},
		{"proxy, standard header", []func(*http.Request){header("Forwarded", "for=192.0.2.1")}, false, "proxy"},
		{"proxy, other header", []func(*http.Request){header("X-Real-IP", "192.0.2.1")}, false, "proxy"},
		{"foreign page", []func(*http.Request){header("Origin", "http://example.com")}, false, "other sites"},
		{"foreign page, new browser", []func(*http.Request){header("Sec-Fetch-Site", "cross-site")}, false, "other sites"},
		{"page of another port", []func(*http.Request){header("Sec-Fetch-Site", "same-site")}, false, "other sites"},
		{"rebound name", []func(*http.Request){host("evil.example:8081"), header("Origin", "http://evil.example:8081"), header("Dkv-Console", "1")}, false, "addressed to"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			calls := 0
			r := call(withAction(t, &calls), "POST", "/admin/pause-writes", "", tt.change...)
			if tt.allowed {
				if r.Code != http.StatusOK || calls != 1 || compact(t, r.Body.String()) != `{"status":"ok"}` {
					t.Errorf("%d %s, %d calls", r.Code, r.Body, calls)
				}
				return
			}
			if r.Code != http.StatusForbidden || calls != 0 {
				t.Errorf("%d, %d calls", r.Code, calls)
			}
			if text := errorText(t, r); !strings.Contains(text, tt.text) {
				t.Errorf("text %q does not say %q", text, tt.text)
			}
		})
	}
}

// Members' hosts may call the node by its address, and by no name, which could be anyone's.
func TestActionsOfMembers(t *testing.T) {
	calls := 0
	o := options()
	o.Access = access.NewGuard(access.Options{Member: func(from netip.Addr) bool { return from == netip.MustParseAddr("192.0.2.1") }})
	o.Actions = map[string]Action{"/admin/pause-writes": func(context.Context, json.RawMessage) (any, error) { calls++; return nil, nil }}
	s := newServer(t, o)
	from := func(addr, host string) func(*http.Request) {
		return func(r *http.Request) { r.RemoteAddr, r.Host = addr, host }
	}
	if r := call(s, "POST", "/admin/pause-writes", "", from("192.0.2.1:1", "192.0.2.7:8081")); r.Code != http.StatusOK || calls != 1 {
		t.Errorf("%d %s", r.Code, r.Body)
	}
	for _, c := range []struct{ addr, host, text string }{
		{"192.0.2.2:1", "192.0.2.7:8081", "comes from 192.0.2.2"},
		{"192.0.2.1:1", "evil.example:8081", "addressed to"},
	} {
		r := call(s, "POST", "/admin/pause-writes", "", from(c.addr, c.host))
		if text := errorText(t, r); r.Code != http.StatusForbidden || calls != 1 || !strings.Contains(text, c.text) {
			t.Errorf("%+v: %d %s", c, r.Code, text)
		}
	}
}

func TestActionBodyAndResult(t *testing.T) {
	o := options()
	o.Actions = map[string]Action{"/admin/backup": func(_ context.Context, body json.RawMessage) (any, error) {
		var request struct{ Path string }
		if len(body) == 0 {
			return map[string]string{"path": "none"}, nil
		}
		err := json.Unmarshal(body, &request)
		return map[string]string{"path": request.Path}, err
	}}
	s := newServer(t, o)
	tests := []struct {
		name, body string
		code       int
		answer     string
	}{
		{"document", `{"path": "x"}`, 200, `{"path":"x"}`},
		{"nothing", ``, 200, `{"path":"none"}`},
		{"not JSON", `{"path"`, 400, ""},
		{"as large as may be", `{"path": "` + strings.Repeat("x", maxBody-12) + `"}`, 200, `{"path":"` + strings.Repeat("x", maxBody-12) + `"}`},
		{"too large", `{"path": "` + strings.Repeat("x", maxBody-11) + `"}`, 413, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := call(s, "POST", "/admin/backup", tt.body)
			if r.Code != tt.code {
				t.Fatalf("status %d, want %d: %.200s", r.Code, tt.code, r.Body)
			}
			if tt.code != 200 {
				errorText(t, r)
			} else if got := compact(t, r.Body.String()); got != tt.answer {
				t.Errorf("answer %.200q", got)
			}
		})
	}
}

func TestErrorsOfActionsAndViews(t *testing.T) {
	errPaused := errors.New("writes are paused already")
	var fail error
	o := options()
	o.Actions = map[string]Action{"/admin/act": func(context.Context, json.RawMessage) (any, error) { return nil, fail }}
	o.Views = map[string]View{
		"/admin/view": func(context.Context) (any, error) { return map[string]int{"term": 3}, fail },
		"/admin/odd":  func(context.Context) (any, error) { return func() {}, nil },
	}
	o.StatusOf = func(err error) int {
		if errors.Is(err, errPaused) {
			return http.StatusConflict
		}
		return http.StatusInternalServerError
	}
	s := newServer(t, o)
	for _, tt := range []struct {
		err  error
		code int
	}{
		{fmt.Errorf("pause: %w", errPaused), 409},
		{errors.New("disk on fire"), 500},
		{&Error{Status: 404, Text: "no such vBucket"}, 404},
		{fmt.Errorf("look: %w", &Error{Status: 404, Text: "no such vBucket"}), 404},
	} {
		fail = tt.err
		for method, path := range map[string]string{"POST": "/admin/act", "GET": "/admin/view"} {
			r := call(s, method, path, "")
			if r.Code != tt.code || errorText(t, r) != tt.err.Error() {
				t.Errorf("%s %v: %d %s", path, tt.err, r.Code, r.Body)
			}
		}
	}
	fail = nil
	if r := call(s, "GET", "/admin/view", ""); r.Code != 200 || compact(t, r.Body.String()) != `{"term":3}` {
		t.Errorf("view: %d %s", r.Code, r.Body)
	}
	if r := call(s, "GET", "/admin/odd", ""); r.Code != 500 || errorText(t, r) == "" {
		t.Errorf("a document that is none: %d", r.Code)
	}
}

// A path that is not there is not there for any method.
func TestUnknownPath(t *testing.T) {
	calls := 0
	s := withAction(t, &calls)
	for _, method := range []string{"GET", "POST", "DELETE"} {
		if r := call(s, method, "/admin/pause", ""); r.Code != 404 || errorText(t, r) == "" {
			t.Errorf("%s: %d %s", method, r.Code, r.Body)
		}
	}
}

func TestEveryActionIsLogged(t *testing.T) {
	var log strings.Builder
	calls := 0
	s := withAction(t, &calls)
	s.options.Audit = audit.ToCommon(slog.New(slog.NewTextHandler(&log, nil)))
	call(s, "POST", "/admin/pause-writes", "")
	call(s, "POST", "/admin/pause-writes", "", func(r *http.Request) { r.RemoteAddr = "192.0.2.1:5" })
	for _, want := range []string{
		`msg=audit op="POST /admin/pause-writes" address=127.0.0.1:40000 kind=open code=OK`,
		`msg=audit op="POST /admin/pause-writes" address=192.0.2.1:5 kind=open code=PermissionDenied error="administrative calls are taken from this machine only`,
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %s in\n%s", want, log.String())
		}
	}
	if n := strings.Count(log.String(), "msg=audit"); n != 2 {
		t.Errorf("%d lines", n)
	}
}

// A profile shows memory, so that who has taken one is in the audit log.
func TestProfilesAreAudited(t *testing.T) {
	var log strings.Builder
	o := options()
	o.Pprof = true
	o.Audit = audit.ToCommon(slog.New(slog.NewTextHandler(&log, nil)))
	s := newServer(t, o)
	if r := call(s, "GET", "/debug/pprof/goroutine?debug=1", ""); r.Code != http.StatusOK {
		t.Fatalf("%d %s", r.Code, r.Body)
	}
	if want := `msg=audit op="GET /debug/pprof/goroutine" address=127.0.0.1:40000 kind=open code=OK`; !strings.Contains(log.String(), want) {
		t.Errorf("no %s in\n%s", want, log.String())
	}
}

// An action that the audit log cannot hold is not done, if it must.
func TestActionsThatCannotBeAuditedAreRejected(t *testing.T) {
	calls := 0
	s := withAction(t, &calls)
	audits, err := audit.New(audit.Options{File: filepath.Join(t.TempDir(), "audit.log"), Required: true, Common: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s.options.Audit = audits
	if r := call(s, "POST", "/admin/pause-writes", ""); r.Code != http.StatusOK {
		t.Errorf("%d %s", r.Code, r.Body)
	}
	if err := audits.Close(); err != nil {
		t.Fatal(err)
	}
	if r := call(s, "POST", "/admin/pause-writes", ""); r.Code != http.StatusServiceUnavailable || !strings.Contains(errorText(t, r), "audit-required") || calls != 1 {
		t.Errorf("%d %s, and %d calls were made", r.Code, r.Body, calls)
	}
}

func TestHTTPStatusesHaveCodes(t *testing.T) {
	for status, want := range map[int]codes.Code{200: codes.OK, 401: codes.Unauthenticated, 403: codes.PermissionDenied, 409: codes.FailedPrecondition, 500: codes.Internal, 503: codes.Unavailable, 599: codes.Unknown} {
		if got := codeOf(status); got != want {
			t.Errorf("%d: %v, want %v", status, got, want)
		}
	}
}
