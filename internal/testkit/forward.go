package testkit

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Forward listens on an address of its own until the test ends, and forwards every connection
// to another address: a second address for one server.
func Forward(t testing.TB, to string) string {
	t.Helper()
	address, _ := ForwardUntil(t, to)
	return address
}

// ForwardUntil is Forward until cut is called: then all connections are closed, and no further
// one is forwarded.
func ForwardUntil(t testing.TB, to string) (address string, cut func()) {
	t.Helper()
	l := Listen(t)
	f := &forwarder{to: to, conns: make(map[net.Conn]struct{})}
	f.running.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			f.running.Go(func() { f.forward(in) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		f.cut()
		f.running.Wait()
	})
	return l.Addr().String(), f.cut
}

// forwarder has a list of its connections, to close them at the end.
type forwarder struct {
	to      string
	running sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	ended bool
}

func (f *forwarder) forward(in net.Conn) {
	defer f.drop(in)
	out, err := net.Dial("tcp", f.to)
	if err != nil || !f.keep(in) || !f.keep(out) {
		if err == nil {
			out.Close()
		}
		return
	}
	defer f.drop(out)
	var back sync.WaitGroup
	back.Go(func() { _, _ = io.Copy(in, out); closeWrite(in) })
	_, _ = io.Copy(out, in)
	closeWrite(out)
	back.Wait()
}

// closeWrite tells the other end that nothing more is sent, and still receives.
func closeWrite(c net.Conn) {
	if tcp, is := c.(*net.TCPConn); is {
		_ = tcp.CloseWrite()
	}
}

// keep adds a connection to the list, and returns false if the forwarder has ended.
func (f *forwarder) keep(c net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.ended {
		f.conns[c] = struct{}{}
	}
	return !f.ended
}

func (f *forwarder) drop(c net.Conn) {
	c.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.conns, c)
}

func (f *forwarder) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	for c := range f.conns {
		c.Close()
	}
}
