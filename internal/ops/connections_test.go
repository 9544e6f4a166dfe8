package ops

import (
	"bufio"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// ask makes a request on a connection of its own, and keeps the connection.
func ask(t *testing.T, addr string) *http.Response {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write([]byte("GET /health/quick HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp
}

// Connections that say nothing, or nothing more, do not keep health checks out.
func TestIdleConnectionsDoNotHideTheHealth(t *testing.T) {
	o := options()
	o.MaxConnections = 4
	r := run(t, o)
	addr := r.Addr().String()
	for range 2 {
		if resp := ask(t, addr); resp.StatusCode != http.StatusOK {
			t.Fatalf("status %d", resp.StatusCode)
		}
	}
	for range 2 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	deadline := time.Now().Add(20 * time.Second)
	for served := 0; served < 6; {
		switch resp := ask(t, addr); resp.StatusCode {
		case http.StatusOK:
			served++
		case http.StatusServiceUnavailable: // until the others have been idle for a second
			if time.Now().After(deadline) {
				t.Fatal("no connection makes room")
			}
		default:
			t.Fatalf("status %d", resp.StatusCode)
		}
	}
	if s := r.listener.Stats(); s.Open > 4 || s.Displaced == 0 {
		t.Errorf("%+v", s)
	}
}

// A connection that there is no room for is told so.
func TestRefusedConnectionIsAnswered(t *testing.T) {
	o := options()
	o.MaxConnections = 1
	r := run(t, o)
	ask(t, r.Addr().String())
	resp := ask(t, r.Addr().String())
	if resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(resp.Header.Get("Content-Type"), "json") {
		t.Errorf("%+v", resp)
	}
}
