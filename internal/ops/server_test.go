package ops

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
)

func TestMethods(t *testing.T) {
	calls := 0
	s := withAction(t, &calls)
	tests := []struct {
		method, path string
		code         int
		allow        string
	}{
		{"GET", "/health", 200, ""},
		{"HEAD", "/health", 200, ""},
		{"POST", "/health", 405, "GET, HEAD"},
		{"DELETE", "/metrics", 405, "GET, HEAD"},
		{"POST", "/", 405, "GET, HEAD"},
		{"GET", "/admin/pause-writes", 405, "POST"},
		{"GET", "/nothing", 404, ""},
		{"GET", "/health/else", 404, ""},
		{"GET", "/debug/pprof/", 404, ""}, // not enabled
	}
	for _, tt := range tests {
		r := call(s, tt.method, tt.path, "")
		if r.Code != tt.code || r.Header().Get("Allow") != tt.allow {
			t.Errorf("%s %s: %d, Allow %q; want %d, %q", tt.method, tt.path, r.Code, r.Header().Get("Allow"), tt.code, tt.allow)
		}
		if r.Code >= 400 {
			errorText(t, r)
		}
	}
	if calls != 0 {
		t.Error("a GET acted")
	}
}

func TestIndexLinksEveryPath(t *testing.T) {
	o := options()
	o.Pprof = true
	o.Views = map[string]View{"/admin/cluster/status": func(context.Context) (any, error) { return nil, nil }}
	o.Handlers = map[string]http.Handler{"/metrics/<cluster>": http.NotFoundHandler()}
	r := call(newServer(t, o), "GET", "/", "")
	if r.Code != 200 || !strings.HasPrefix(r.Header().Get("Content-Type"), "text/html") {
		t.Fatalf("%d %s", r.Code, r.Header())
	}
	for _, path := range []string{"/health", "/health/quick", "/livez", "/readyz", "/metrics", "/metrics/json", "/metrics/stream",
		"/debug/vars", "/debug/pprof/", "/admin/cluster/status", "/metrics/&lt;cluster&gt;"} {
		if !strings.Contains(r.Body.String(), `<a href="`+path+`">`) {
			t.Errorf("no link to %s", path)
		}
	}
}

func TestVars(t *testing.T) {
	o := options()
	o.Vars = map[string]func() any{"dkv": func() any { return map[string]int{"open_iterators": 2} }}
	r := call(newServer(t, o), "GET", "/debug/vars", "")
	var document map[string]json.RawMessage
	if err := json.Unmarshal(r.Body.Bytes(), &document); err != nil {
		t.Fatal(err)
	}
	if len(document["memstats"]) == 0 || len(document["cmdline"]) == 0 {
		t.Error("the run time's variables are missing")
	}
	if got := compact(t, string(document["dkv"])); got != `{"open_iterators":2}` {
		t.Errorf("dkv = %s", got)
	}
	o.Vars["broken"] = func() any { return make(chan int) }
	if r := call(newServer(t, o), "GET", "/debug/vars", ""); r.Code != 500 || !strings.Contains(errorText(t, r), "broken") {
		t.Errorf("%d %s", r.Code, r.Body)
	}
}

func TestPprof(t *testing.T) {
	o := options()
	o.Pprof = true
	s := newServer(t, o)
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/goroutine?debug=1", "/debug/pprof/cmdline", "/debug/pprof/symbol"} {
		if r := call(s, "GET", path, ""); r.Code != 200 || r.Body.Len() == 0 {
			t.Errorf("%s: %d with %d bytes", path, r.Code, r.Body.Len())
		}
	}
}

func TestHandlersTakeEveryMethod(t *testing.T) {
	o := options()
	o.Handlers = map[string]http.Handler{"/console/": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Method+" "+r.URL.Path)
	})}
	if r := call(newServer(t, o), "PUT", "/console/x", ""); r.Body.String() != "PUT /console/x" {
		t.Errorf("%d %q", r.Code, r.Body)
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	view := func(context.Context) (any, error) { return nil, nil }
	tests := map[string]func(*Options) net.Listener{
		"no listener":  func(*Options) net.Listener { return nil },
		"no logger":    func(o *Options) net.Listener { o.Logger = nil; return ln },
		"no gatherer":  func(o *Options) net.Listener { o.Gatherer = nil; return ln },
		"no serving":   func(o *Options) net.Listener { o.Serving = nil; return ln },
		"no health":    func(o *Options) net.Listener { o.Health = nil; return ln },
		"taken path":   func(o *Options) net.Listener { o.Views = map[string]View{"/health": view}; return ln },
		"taken index":  func(o *Options) net.Listener { o.Views = map[string]View{"/": view}; return ln },
		"no slash":     func(o *Options) net.Listener { o.Views = map[string]View{"health2": view}; return ln },
		"method given": func(o *Options) net.Listener { o.Views = map[string]View{"GET /x": view}; return ln },
		"path twice": func(o *Options) net.Listener {
			o.Views = map[string]View{"/x": view}
			o.Actions = map[string]Action{"/x": nil}
			return ln
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			o := options()
			if s, err := New(change(&o), o); err == nil || s != nil {
				t.Errorf("New = %v, %v", s, err)
			}
		})
	}
}

func TestRunServesAndEnds(t *testing.T) {
	r := run(t, options())
	if code, body := r.get(t, "/health/quick"); code != 200 || body != "ok\n" {
		t.Errorf("%d %q", code, body)
	}
	r.stop(t)
	if _, err := r.client.Get(r.url("/health/quick")); err == nil {
		t.Error("the server still answers")
	}
	if err := errors.Join(r.Close(), r.Close()); err != nil {
		t.Errorf("Close after Run: %v", err)
	}
}

func TestRunLetsRequestsFinish(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	o := options()
	o.Actions = map[string]Action{"/admin/backup": func(context.Context, json.RawMessage) (any, error) {
		close(entered)
		<-leave
		return nil, nil
	}}
	r := run(t, o)
	answered := make(chan int, 1)
	go func() {
		response, err := r.client.Post(r.url("/admin/backup"), "application/json", nil)
		if err != nil {
			t.Error(err)
			answered <- 0
			return
		}
		response.Body.Close()
		answered <- response.StatusCode
	}()
	<-entered
	r.cancel()
	<-r.stopping // it is shutting down, with the request inside
	close(leave)
	if code := <-answered; code != 200 {
		t.Errorf("status %d", code)
	}
}

func TestCloseWithoutRunFreesTheAddress(t *testing.T) {
	s := newServer(t, options())
	addr := s.Addr().String()
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatalf("the address is still taken: %v", err)
	}
	ln.Close()
	if err := s.Run(t.Context()); err != nil {
		t.Errorf("Run after Close: %v", err)
	}
}

func TestCloseEndsRun(t *testing.T) {
	r := run(t, options())
	r.get(t, "/health/quick")
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-r.done; err != nil {
		t.Errorf("Run: %v", err)
	}
	r.done <- nil
}

func TestRunReportsABrokenListener(t *testing.T) {
	broken := errors.New("accept: too many open files")
	s, err := New(brokenListener{broken}, options())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); !errors.Is(err, broken) {
		t.Errorf("Run = %v", err)
	}
}

type brokenListener struct{ err error }

func (b brokenListener) Accept() (net.Conn, error) { return nil, b.err }
func (b brokenListener) Close() error              { return nil }
func (b brokenListener) Addr() net.Addr            { return &net.TCPAddr{} }

func TestListen(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	addr := taken.Addr().String()
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))

	if _, err := Listen(t.Context(), addr, true, logger); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), addr) {
		t.Errorf("explicit and taken: %v", err)
	}
	if log.Len() != 0 {
		t.Errorf("logged %q", log.String())
	}
	ln, err := Listen(t.Context(), addr, false, logger)
	if err != nil {
		t.Fatalf("implicit and taken: %v", err)
	}
	defer ln.Close()
	host, _, _ := net.SplitHostPort(ln.Addr().String())
	if ln.Addr().String() == addr || host != "127.0.0.1" {
		t.Errorf("listens on %s", ln.Addr())
	}
	if !strings.Contains(log.String(), "taken="+addr) || !strings.Contains(log.String(), "addr="+ln.Addr().String()) {
		t.Errorf("logged %q", log.String())
	}
	free, err := Listen(t.Context(), "127.0.0.1:0", true, logger)
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	for _, bad := range []string{"192.0.2.1:0", "nonsense", "127.0.0.1:99999"} {
		if ln, err := Listen(t.Context(), bad, false, logger); err == nil {
			ln.Close()
			t.Errorf("%s: no error", bad)
		} else if !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
