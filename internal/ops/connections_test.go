package ops

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// dial opens a connection that stays open until the test ends.
func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

// ask makes a request on a connection of its own, and keeps the connection if it is
// served. It returns the status; 503 also if the connection was closed on the request, whose answer a
// reset may overtake.
func ask(t *testing.T, addr string) int {
	t.Helper()
	c := dial(t, addr)
	_, err := c.Write([]byte("GET /health/quick HTTP/1.1\r\nHost: x\r\n\r\n"))
	var resp *http.Response
	if err == nil {
		resp, err = http.ReadResponse(bufio.NewReader(c), nil)
	}
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		c.Close()
		return http.StatusServiceUnavailable
	}
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusServiceUnavailable {
		c.Close() // there may be thousands before one is served
	}
	return resp.StatusCode
}

// Connections that say nothing, or nothing more, do not keep health checks out.
func TestIdleConnectionsDoNotHideTheHealth(t *testing.T) {
	o := options()
	o.MaxConnections = 4
	r := run(t, o)
	addr := r.Addr().String()
	for range 2 {
		if status := ask(t, addr); status != http.StatusOK {
			t.Fatalf("status %d", status)
		}
	}
	for range 2 {
		dial(t, addr)
	}
	deadline := time.Now().Add(20 * time.Second)
	for served := 0; served < 6; {
		switch status := ask(t, addr); status {
		case http.StatusOK:
			served++
		case http.StatusServiceUnavailable: // until the others have been idle for a second
			if time.Now().After(deadline) {
				t.Fatal("no connection makes room")
			}
		default:
			t.Fatalf("status %d", status)
		}
	}
	if s := r.listener.Stats(); s.Open > 4 || s.Displaced == 0 {
		t.Errorf("%+v", s)
	}
}

// A host whose connections keep coming back leaves room for the checks of another one.
func TestOneHostDoesNotHideTheHealth(t *testing.T) {
	o := options()
	o.MaxConnections = 8
	r := run(t, o)
	addr := r.Addr().String()
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	for range 20 {
		c, err := from.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	for range 2 {
		if status := ask(t, addr); status != http.StatusOK {
			t.Errorf("status %d", status)
		}
	}
}

// A connection that there is no room for is told why.
func TestRefusedConnectionIsAnswered(t *testing.T) {
	o := options()
	o.MaxConnections = 1
	r := run(t, o)
	ask(t, r.Addr().String())
	resp, err := http.ReadResponse(bufio.NewReader(dial(t, r.Addr().String())), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(resp.Header.Get("Content-Type"), "json") {
		t.Errorf("%+v", resp)
	}
}
