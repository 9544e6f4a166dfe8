package ops

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/ops/keys"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestStreamsOfOneCallerLeaveRoom: one that has all of them loses the newest to others, until
// each has its share.
func TestStreamsOfOneCallerLeaveRoom(t *testing.T) {
	r := &places{most: 4}
	var greedy []*place
	var ended [4]bool
	nothing := func() {}
	for i := range 4 {
		greedy = append(greedy, r.take("greedy", func() { ended[i] = true }))
	}
	if r.take("greedy", nothing) != nil {
		t.Error("a fifth stream was opened")
	}
	for i := range 2 {
		if r.take("other", nothing) == nil || !ended[3-i] || ended[2-i] {
			t.Errorf("stream %d of another caller", i)
		}
	}
	if r.take("other", nothing) != nil {
		t.Error("each has its share, and another stream was opened")
	}
	r.leave(greedy[3]) // it has ended before
	r.leave(greedy[0])
	if r.take("third", nothing) == nil || ended[1] {
		t.Error("there was room for another stream")
	}
}

// TestOneHostOfIPv6IsOneCaller: it has a network of addresses.
func TestOneHostOfIPv6IsOneCaller(t *testing.T) {
	names := make(map[string]bool)
	for _, from := range []string{"[2001:db8::1]:1", "[2001:db8::2:3]:1", "[::ffff:192.0.2.1]:1", "192.0.2.1:2"} {
		names[callerName(&http.Request{RemoteAddr: from})] = true
	}
	if len(names) != 2 {
		t.Errorf("they are %v", names)
	}
}

// from is a client whose requests come from an address of this machine.
func from(t *testing.T, address string) *http.Client {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	transport := &http.Transport{DialContext: d.DialContext}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// leaves sends a request from 127.0.0.2 and leaves it at that: nothing more is sent, and nothing is
// read.
func (r *running) leaves(t *testing.T, request string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	c, err := d.DialContext(t.Context(), "tcp", r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
	if _, err := io.WriteString(c, request+" HTTP/1.1\r\nHost: "+r.Addr().String()+"\r\n"); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestOneHostCannotTakeAllKeyCalls: neither by bodies that do not come nor by answers that it does
// not take, each of which the node holds as a whole.
func TestOneHostCannotTakeAllKeyCalls(t *testing.T) {
	o := options()
	p := &pairs{held: []*serverpb.KVPair{{Key: []byte("large"), Value: make([]byte, 256<<10)}}}
	o.Keys = keys.New(keys.Options{KV: func() (serverpb.DKVServer, error) { return p, nil }, VBucket: func([]byte) string { return "0" }, Allow: Allow(nil)})
	for _, left := range []string{"POST /data/put", "GET /data/get?key=large"} {
		t.Run(strings.Fields(left)[0], func(t *testing.T) {
			r := run(t, o)
			var all []net.Conn
			for range 2 * 8 {
				c := r.leaves(t, left)
				all = append(all, c)
				fmt.Fprint(c, "Content-Length: 1000\r\n\r\n"+strings.Repeat(" ", 1000*strings.Count(left, "GET")))
			}
			status := func(client *http.Client) int {
				answer, err := client.Get(r.url("/data/get?key=small"))
				if err != nil {
					t.Fatal(err)
				}
				answer.Body.Close()
				return answer.StatusCode
			}
			testkit.Eventually(t, "they are as many as are served", func() bool { return status(from(t, "127.0.0.2")) == http.StatusTooManyRequests })
			if got := status(from(t, "127.0.0.1")); got != http.StatusOK {
				t.Errorf("another host is answered %d", got)
			}
			for _, c := range all {
				c.Close()
			}
			testkit.Eventually(t, "all places are given back", func() bool {
				r.keyCalls.mu.Lock()
				defer r.keyCalls.mu.Unlock()
				return r.keyCalls.n == 0
			})
		})
	}
}

// TestOneHostCannotTakeAllScrapes: monitoring goes on while a host leaves all metrics unread.
func TestOneHostCannotTakeAllScrapes(t *testing.T) {
	s := newServer(t, options())
	dropped := 0
	for range maxScrapes {
		s.scrapes.take("host 127.0.0.2", func() { dropped++ })
	}
	for _, path := range []string{"/metrics", "/metrics/json"} {
		if r := call(s, "GET", path, ""); r.Code != http.StatusOK {
			t.Errorf("%s: %d", path, r.Code)
		}
		other := func(r *http.Request) { r.RemoteAddr = "127.0.0.2:1" }
		s.scrapes.take("host 127.0.0.2", func() {})
		if r := call(s, "GET", path, "", other); r.Code != http.StatusServiceUnavailable || r.Header().Get("Retry-After") == "" {
			t.Errorf("%s of the greedy one: %d", path, r.Code)
		}
	}
	if dropped == 0 {
		t.Error("none has made room")
	}
}

// TestLargeAnswersThatAreNotTakenAreFew: the health of a node with many vBuckets is large, and each
// connection that leaves it unread would hold one.
func TestLargeAnswersThatAreNotTakenAreFew(t *testing.T) {
	o := options()
	large := Health{Status: Healthy, VBuckets: []VBucket{{Name: strings.Repeat("a", 4*largeDocument)}}}
	var small atomic.Bool
	o.Health = func(context.Context) Health {
		if small.Load() {
			return Health{Status: Healthy}
		}
		return large
	}
	o.Views = map[string]View{"/admin/large": func(context.Context) (any, error) { return large, nil }}
	r := run(t, o)
	status := func(host, path string) int {
		answer, err := from(t, host).Get(r.url(path))
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		return answer.StatusCode
	}
	for i := range 2 * maxDocuments {
		fmt.Fprint(r.leaves(t, []string{"GET /health", "GET /admin/large"}[i%2]), "\r\n")
	}
	testkit.Eventually(t, "there is no room for another one", func() bool {
		r.documents.mu.Lock()
		defer r.documents.mu.Unlock()
		return r.documents.n == maxDocuments
	})
	if got := status("127.0.0.2", "/health"); got != http.StatusTooManyRequests {
		t.Errorf("one more of the host is answered %d", got)
	}
	if got := status("127.0.0.1", "/admin/large"); got != http.StatusOK {
		t.Errorf("another host is answered %d", got)
	}
	small.Store(true)
	if got := status("127.0.0.2", "/health"); got != http.StatusOK {
		t.Errorf("a small answer: %d", got)
	}
}
