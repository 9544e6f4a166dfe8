package ops

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/dkvdb/dkv/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// options are those of a healthy node with one counter.
func options() Options {
	registry := prometheus.NewRegistry()
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "dkv_requests_total", Help: "Requests."}, []string{"op"})
	requests.WithLabelValues("put").Add(3)
	registry.MustRegister(requests)
	return Options{
		Logger:   slog.New(slog.DiscardHandler),
		Gatherer: registry,
		Serving:  func() bool { return true },
		Health:   func(context.Context) Health { return Health{Status: Healthy, NodeName: "n1"} },
	}
}

// newServer makes a server that does not run.
func newServer(t *testing.T, o Options) *Server {
	t.Helper()
	ln := testkit.Listen(t)
	s, err := New(narrow{ln}, o)
	if err != nil {
		ln.Close()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// running is a server that serves until the test ends.
type running struct {
	*Server
	client *http.Client
	cancel context.CancelFunc
	done   chan error
}

func run(t *testing.T, o Options) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	transport := &http.Transport{}
	r := &running{newServer(t, o), &http.Client{Transport: transport}, cancel, make(chan error, 1)}
	go func() { r.done <- r.Run(ctx) }()
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		r.stop(t)
	})
	return r
}

// narrow has the kernel hold little of the answers that are not taken, which need not be large
// then to stay in the server.
type narrow struct{ net.Listener }

func (l narrow) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		err = c.(*net.TCPConn).SetWriteBuffer(4 << 10)
	}
	return c, err
}

// stop ends the server and waits for it.
func (r *running) stop(t *testing.T) {
	t.Helper()
	r.cancel()
	if err := <-r.done; err != nil {
		t.Errorf("Run: %v", err)
	}
	r.done <- nil // for a second call
}

func (r *running) url(path string) string { return "http://" + r.Addr().String() + path }

// get returns status and body of a GET over the network.
func (r *running) get(t *testing.T, path string) (int, string) {
	t.Helper()
	response, err := r.client.Get(r.url(path))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// call hands a request to a server's handler, as if from 127.0.0.1.
func call(s *Server, method, path, body string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	request := httptest.NewRequest(method, path, bytes.NewBufferString(body))
	request.RemoteAddr = "127.0.0.1:40000"
	request.Host = "127.0.0.1:8081"
	for _, c := range change {
		c(request)
	}
	recorder := httptest.NewRecorder()
	s.Handler().ServeHTTP(recorder, request)
	return recorder
}

// errorText returns the sentence of an error answer, which must be JSON.
func errorText(t *testing.T, r *httptest.ResponseRecorder) string {
	t.Helper()
	var document map[string]string
	if err := json.Unmarshal(r.Body.Bytes(), &document); err != nil || document["error"] == "" || len(document) != 1 {
		t.Fatalf("not an error document: %q (%v)", r.Body.String(), err)
	}
	if got := r.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("content type %q", got)
	}
	return document["error"]
}
