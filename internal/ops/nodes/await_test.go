package nodes

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/testkit"
)

// relaying returns a service that knows one node, with short intervals.
func relaying(t *testing.T, handler http.HandlerFunc) *Service {
	t.Helper()
	node := httptest.NewServer(handler)
	s := New(Options{
		List:    func(context.Context) []Node { return []Node{{Name: "n", HTTP: node.Listener.Addr().String()}} },
		Cluster: func() string { return "" },
		Dial: func(ctx context.Context, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		},
	})
	s.readTimeout, s.lookInterval = 50*time.Millisecond, 50*time.Millisecond
	t.Cleanup(func() { s.Close(); node.Close() })
	return s
}

// TestSilentNodeEndsARelay: a node whose process is stopped keeps its connections, and answers
// nothing. What was to be done there may have been done.
func TestSilentNodeEndsARelay(t *testing.T) {
	s := relaying(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	for method, want := range map[string]string{
		http.MethodGet:  "node n cannot be asked: it does not answer within 50ms",
		http.MethodPost: "node n has not answered: it does not answer any more; it may have done what was asked",
	} {
		status, err := s.Relay(httptest.NewRecorder(), httptest.NewRequest(method, "/x", nil), "n", "/x")
		if status != http.StatusBadGateway || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %d %v", method, status, err)
		}
	}
}

// TestActMayTakeAnyTime: as long as its node answers other requests.
func TestActMayTakeAnyTime(t *testing.T) {
	var looks atomic.Int32
	s := relaying(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health/quick" {
			looks.Add(1)
			return
		}
		if !testkit.Soon(func() bool { return looks.Load() > 2*maxMissed }) {
			w.WriteHeader(http.StatusGone)
		}
		w.Header().Set("Content-Type", "application/json")
	})
	w := httptest.NewRecorder()
	if status, err := s.Relay(w, httptest.NewRequest(http.MethodPost, "/x", nil), "n", "/x"); err != nil || w.Code != http.StatusOK {
		t.Errorf("%d %v, %d", status, err, w.Code)
	}
}

// TestNodesThatAnswerStrangely: any address may be in the registry. What is no document hides no
// other node's, and what never ends is not read to its end.
func TestNodesThatAnswerStrangely(t *testing.T) {
	page := bytes.Repeat([]byte(" "), 1<<20)
	for name, answer := range map[string]http.HandlerFunc{
		"it answers with something else than its health": func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<html>")) },
		"too many connections are open": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable) // as one that is not healthy
			w.Write([]byte(`{"error":"too many connections are open"}`))
		},
		"its answer is left out: it has more than 32 MiB": func(w http.ResponseWriter, _ *http.Request) {
			for range 33 {
				w.Write(page)
			}
		},
	} {
		s := relaying(t, answer)
		one := s.options.List(t.Context())[0]
		s.options.List = func(context.Context) []Node { return []Node{{Name: "here", Self: true}, one} }
		s.Bind(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(`{"status":"healthy"}`)) }))
		var got *Document
		testkit.Eventually(t, "nodes are asked within the time for it", func() bool {
			got = s.Survey(httptest.NewRequest("GET", "/admin/nodes", nil))
			return !strings.Contains(fmt.Sprint(got.Nodes), "does not answer within")
		})
		all, err := json.Marshal(got)
		if err != nil || !strings.Contains(string(all), name) || !strings.Contains(string(all), `"status":"healthy"`) || got.Nodes[1].Health != nil {
			t.Errorf("%.500s: %v", all, err)
		}
	}
}

// TestAnswersThatDoNotFit: nodes with as many vBuckets as a node may have are all shown, and of
// more than fit together only some are left out.
func TestAnswersThatDoNotFit(t *testing.T) {
	free := &room{left: maxSurvey}
	read := func(size int64) error {
		_, err := io.Copy(io.Discard, &within{Reader: io.LimitReader(zeros{}, size), free: free})
		return err
	}
	for range 7 {
		if err := read(65536 * 400); err != nil {
			t.Fatal(err)
		}
	}
	if err := read(maxHealth + 1); err != errTooLong {
		t.Error(err)
	}
	for free.left >= maxHealth {
		if err := read(maxHealth); err != nil {
			t.Fatal(err)
		}
	}
	left := free.left
	if err := read(maxHealth); err != errNoRoom || free.left != left {
		t.Errorf("%v, and %d bytes of room", err, free.left)
	}
	if err := read(int64(left)); err != nil {
		t.Error(err)
	}
}

// TestFewNodesAreAskedAtOnce: the registry's rows may name a thousand addresses that do not answer.
// Each that is asked takes a file descriptor, and other hosts ask as well.
func TestFewNodesAreAskedAtOnce(t *testing.T) {
	s := relaying(t, func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(`{"status":"healthy"}`)) })
	one := s.options.List(t.Context())[0]
	var asked, most atomic.Int64
	silent := New(Options{
		List: func(context.Context) []Node {
			return append([]Node{one}, slices.Repeat([]Node{{Name: "silent", HTTP: "silent:1"}}, 2000)...)
		},
		Cluster: func() string { return "" },
		Dial: func(ctx context.Context, address string) (net.Conn, error) {
			if address != "silent:1" {
				return s.options.Dial(ctx, address)
			}
			n := asked.Add(1)
			defer asked.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			<-ctx.Done()
			return nil, ctx.Err()
		},
	})
	t.Cleanup(silent.Close)
	var surveys sync.WaitGroup
	for i := range 6 {
		surveys.Go(func() {
			r := httptest.NewRequest("GET", "/admin/nodes", nil)
			r.RemoteAddr = fmt.Sprintf("127.0.0.%d:1", 1+i/5) // five of one host, and one of another
			if got := silent.Survey(r); i == 5 && !got.Nodes[0].Answers {
				t.Errorf("another host's first node: %+v", got.Nodes[0])
			} else if last := got.Nodes[2000]; !strings.Contains(last.Error, "was not asked within") {
				t.Errorf("the last node: %+v", last)
			}
		})
	}
	surveys.Wait()
	if n := most.Load(); n > 2*askedAtOnce { // one that is given up may take a moment to end
		t.Errorf("%d are asked at once", n)
	}
}

// zeros is a document without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
