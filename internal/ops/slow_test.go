package ops

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener in memory: its connections have deadlines by the time of a synctest
// bubble.
type pipes struct {
	accepted chan net.Conn
	closed   chan struct{}
}

// local is a connection that comes from this machine.
type local struct{ net.Conn }

func (local) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accepted:
		return local{c}, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	select {
	case <-p.closed:
	default:
		close(p.closed)
	}
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8081} }

// inBubble runs a test with a server and a connection to it, by a time that passes only
// while all wait. sent returns what the server has sent until it closed the connection.
func inBubble(t *testing.T, o Options, test func(t *testing.T, client net.Conn, sent func() string)) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{make(chan net.Conn), make(chan struct{})}
		s, err := New(p, o)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		client, server := net.Pipe()
		p.accepted <- server
		test(t, client, func() string {
			all, err := io.ReadAll(client)
			if err != nil {
				t.Error(err)
			}
			return string(all)
		})
		client.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// drip writes a byte a second until the connection is closed, and returns when that was.
func drip(c net.Conn, text byte) (after chan time.Duration) {
	after = make(chan time.Duration, 1)
	begun := time.Now()
	go func() {
		for {
			if _, err := c.Write([]byte{text}); err != nil {
				after <- time.Since(begun)
				return
			}
			time.Sleep(time.Second)
		}
	}()
	return after
}

// send sends a text.
func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

func TestSlowHeadersEndTheConnection(t *testing.T) {
	inBubble(t, options(), func(t *testing.T, c net.Conn, sent func() string) {
		send(t, c, "GET /health/quick HTTP/1.1\r\nHost: x\r\nX: ")
		after := drip(c, 'y')
		if text := sent(); strings.Contains(text, "200 OK") {
			t.Errorf("answered %q", text)
		}
		if d := <-after; d > headerTimeout+2*time.Second {
			t.Errorf("closed after %v", d)
		}
	})
}

func TestSilentConnectionsAreClosed(t *testing.T) {
	inBubble(t, options(), func(t *testing.T, c net.Conn, sent func() string) {
		begun := time.Now()
		if text := sent(); text != "" {
			t.Errorf("answered %q", text)
		}
		if d := time.Since(begun); d > headerTimeout+time.Second {
			t.Errorf("closed after %v", d)
		}
	})
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	inBubble(t, options(), func(t *testing.T, c net.Conn, sent func() string) {
		send(t, c, "GET /health/quick HTTP/1.1\r\nHost: x\r\n\r\n")
		begun := time.Now()
		if text := sent(); !strings.HasPrefix(text, "HTTP/1.1 200 OK") {
			t.Errorf("answered %q", text)
		}
		if d := time.Since(begun); d < idleTimeout || d > idleTimeout+time.Second {
			t.Errorf("closed after %v", d)
		}
	})
}

// A body that comes a byte at a time is given up: the action is not done, and no path is
// kept busy by a body that it does not even read.
func TestSlowBodiesEndTheConnection(t *testing.T) {
	calls := 0
	o := options()
	o.Actions = withAction(t, &calls).options.Actions
	for request, want := range map[string]string{
		"POST /admin/pause-writes": "HTTP/1.1 400 ",
		"GET /health/quick":        "HTTP/1.1 200 ",
		"POST /health/quick":       "HTTP/1.1 405 ",
		"GET /nothing":             "HTTP/1.1 404 ",
	} {
		inBubble(t, o, func(t *testing.T, c net.Conn, sent func() string) {
			send(t, c, request+" HTTP/1.1\r\nHost: 127.0.0.1:8081\r\nContent-Length: 1000\r\n\r\n")
			after := drip(c, ' ')
			if text := sent(); !strings.HasPrefix(text, want) {
				t.Errorf("%s: answered %q", request, text)
			}
			if d := <-after; d > bodyTimeout+2*time.Second {
				t.Errorf("%s: closed after %v", request, d)
			}
		})
	}
	if calls != 0 {
		t.Error("the action was done")
	}
}

// A client that does not take its response loses the connection.
func TestUnreadResponsesEndTheConnection(t *testing.T) {
	inBubble(t, options(), func(t *testing.T, c net.Conn, sent func() string) {
		send(t, c, "GET /metrics/json HTTP/1.1\r\nHost: x\r\n\r\n")
		time.Sleep(writeTimeout + time.Second)
		if text := sent(); strings.Contains(text, "dkv_requests_total") {
			t.Errorf("it can still be read: %q", text)
		}
	})
}

func TestLargeHeadersAreRejected(t *testing.T) {
	inBubble(t, options(), func(t *testing.T, c net.Conn, sent func() string) {
		go func() {
			fmt.Fprintf(c, "GET /health/quick HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n", strings.Repeat("y", 2*maxHeaderBytes))
		}()
		if text := sent(); !strings.HasPrefix(text, "HTTP/1.1 431 ") {
			t.Errorf("answered %q", text)
		}
	})
}

// TestSilentConnectionsDoNotHoldUpTheEnd: browsers and probes open connections that they say
// nothing on, and a client may be gone in the middle of its request.
func TestSilentConnectionsDoNotHoldUpTheEnd(t *testing.T) {
	for name, test := range map[string]struct {
		said  string
		grace func(error) time.Duration
	}{
		"nothing":        {},
		"half a header":  {said: "GET /health/quick HTTP/1.1\r\nHo"},
		"half a request": {"POST /admin/backup HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{", func(error) time.Duration { return time.Millisecond }},
	} {
		t.Run(name, func(t *testing.T) {
			o := options()
			o.GraceFor = test.grace
			o.Actions = map[string]Action{"/admin/backup": func(context.Context, json.RawMessage) (any, error) { return nil, nil }}
			r := run(t, o)
			c, err := net.Dial("tcp", r.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			send(t, c, test.said)
			r.get(t, "/health/quick") // the first connection was accepted before
			begun := time.Now()
			r.stop(t)
			if d := time.Since(begun); d > shutdownTimeout/2 {
				t.Errorf("it ended after %v", d)
			}
		})
	}
}
