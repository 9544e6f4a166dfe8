package dial

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dkvdb/dkv/internal/certs"
	"github.com/dkvdb/dkv/internal/testkit"
	tlskit "github.com/dkvdb/dkv/internal/testkit/certs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const nodeName = "node.dkv.test"

// server answers each connection until the test ends, and counts them.
type server struct {
	addr  string
	conns atomic.Int32
	stop  func()
}

// serve runs f on each connection to addr.
func serve(t *testing.T, addr string, f func(net.Conn)) *server {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{addr: addr}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.conns.Add(1)
			func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(testkit.Patience))
				f(c)
			}()
		}
	}()
	s.stop = func() { l.Close(); <-done }
	t.Cleanup(s.stop)
	return s
}

// echo answers one byte with the next one of the alphabet.
func echo(c net.Conn) {
	var p [1]byte
	if _, err := io.ReadFull(c, p[:]); err == nil {
		p[0]++
		_, _ = c.Write(p[:])
	}
}

// clear is a server without TLS that closes what does not begin with an "a".
func clear(c net.Conn) {
	var p [1]byte
	if _, err := io.ReadFull(c, p[:]); err == nil && p[0] == 'a' {
		_, _ = c.Write([]byte("b"))
	}
}

// secured is echo behind TLS.
func secured(own tlskit.Certificate) func(net.Conn) {
	return func(c net.Conn) {
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{own.Certificate}, NextProtos: []string{"h2"}})
		if s.Handshake() == nil {
			echo(s)
		}
	}
}

// store is that of a node whose certificate an authority has issued, and which trusts the
// authorities in a file.
func store(t *testing.T, mode certs.Mode, issuer *tlskit.Authority, file string) *certs.Store {
	t.Helper()
	own := issuer.Issue(t, nodeName)
	s, err := certs.Open(certs.Options{Mode: mode, CertFile: own.CertFile, KeyFile: own.KeyFile, CAFile: file, NodeName: nodeName})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// dialer is a Dialer that trusts an authority.
func dialer(t *testing.T, mode certs.Mode, trusted *tlskit.Authority, log *testkit.Log) *Dialer {
	t.Helper()
	return New(Options{Store: store(t, mode, trusted, trusted.File), Protocols: []string{"h2"}, Log: log.Logger(slog.LevelDebug)})
}

// ask has the server behind a connection answer.
func ask(t *testing.T, c net.Conn) {
	t.Helper()
	defer c.Close()
	p := []byte("a")
	if _, err := c.Write(p); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, p); err != nil || string(p) != "b" {
		t.Fatalf("it answers %q, %v", p, err)
	}
}

// TestModes connects in each mode to servers of each kind.
func TestModes(t *testing.T) {
	authority, other := tlskit.New(t), tlskit.New(t)
	node, client := authority.Issue(t, nodeName), authority.Issue(t, "client.dkv.test")
	settings := func(c net.Conn) { // as a gRPC server begins
		_, _ = c.Write([]byte{0, 0, 0, 4, 0, 0, 0, 0, 0})
		clear(c)
	}
	for _, c := range []struct {
		name                 string
		serve                func(net.Conn)
		permissive, required string // "tls", "clear" or "" for an error
	}{
		{"a node with TLS", secured(node), "tls", "tls"},
		{"a node without TLS that closes", clear, "clear", ""},
		{"a server that speaks first", settings, "clear", ""},
		{"another authority", secured(other.Issue(t, nodeName)), "", ""},
		{"another name", secured(client), "", ""},
		{"an alert", func(c net.Conn) { _, _ = c.Write([]byte{21, 3, 3, 0, 2, 2, 40}) }, "", ""},
		{"half a handshake", func(c net.Conn) { _, _ = c.Write([]byte{22, 3, 3}) }, "", ""},
	} {
		for mode, want := range map[certs.Mode]string{certs.Permissive: c.permissive, certs.Required: c.required} {
			t.Run(c.name+"/"+string(mode), func(t *testing.T) {
				s := serve(t, testkit.Address(t), c.serve)
				conn, err := dialer(t, mode, authority, new(testkit.Log)).Dial(t.Context(), s.addr)
				got := ""
				switch secure := conn.(type) {
				case *Secured:
					got = "tls"
					if p := secure.ConnectionState().NegotiatedProtocol; p != "h2" {
						t.Errorf("the protocol is %q", p)
					}
				case *unsecured:
					got = "clear"
				}
				if got != want || (err == nil) != (want != "") {
					t.Fatalf("%q, %v; want %q", got, err, want)
				}
				if err == nil {
					conn.Close()
				}
			})
		}
	}
}

// TestSilenceIsNoClearServer holds that a node which does not answer is not called in the
// clear: it may be overloaded.
func TestSilenceIsNoClearServer(t *testing.T) {
	authority := tlskit.New(t)
	s := serve(t, testkit.Address(t), func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	testkit.Timely(t, func() error { // it has to be connected before the deadline
		before := s.conns.Load()
		if c, err := dialer(t, certs.Permissive, authority, new(testkit.Log)).Dial(testkit.Within(t, 50*time.Millisecond), s.addr); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, %v", c, err)
		}
		switch n := s.conns.Load() - before; n {
		case 0:
			return errors.New("not connected in time")
		case 1:
		default:
			t.Errorf("%d connections", n)
		}
		return nil
	})
}

// TestClearNodesAreRemembered: a node without TLS costs one handshake, and the next one once
// it has closed a connection, which is what a node does that is restarted with TLS.
func TestClearNodesAreRemembered(t *testing.T) {
	authority := tlskit.New(t)
	var log testkit.Log
	s := serve(t, testkit.Address(t), clear)
	d := dialer(t, certs.Permissive, authority, &log)
	for i, want := range []int32{2, 3, 4} { // the first one takes a handshake
		c, err := d.Dial(t.Context(), s.addr)
		if err != nil {
			t.Fatal(err)
		}
		ask(t, c)
		testkit.Eventually(t, "connections", func() bool { return s.conns.Load() == want })
		if i == 0 && !log.Has("does not speak TLS") {
			t.Error("nothing in the log")
		}
	}
	c, err := d.Dial(t.Context(), s.addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("a")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(c); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatal(err)
	}
	c.Close()
	s.stop()
	serve(t, s.addr, secured(authority.Issue(t, nodeName)))
	again, err := d.Dial(t.Context(), s.addr)
	if _, secure := again.(*Secured); !secure {
		t.Fatalf("%T, %v", again, err)
	}
	ask(t, again)
}

// TestNodesThatHangUpAreNotRemembered: one that closes connections without an answer is
// shutting down, and may come back with TLS.
func TestNodesThatHangUpAreNotRemembered(t *testing.T) {
	authority := tlskit.New(t)
	s := serve(t, testkit.Address(t), func(net.Conn) {})
	d := dialer(t, certs.Permissive, authority, new(testkit.Log))
	c, err := d.Dial(t.Context(), s.addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Fatal("it answers")
	}
	c.Close()
	if d.isClear(s.addr) {
		t.Error("it is taken for a node without TLS")
	}
}

// TestOffIsUnchanged: without TLS the connections are those of package net.
func TestOffIsUnchanged(t *testing.T) {
	s := serve(t, testkit.Address(t), clear)
	for _, d := range []*Dialer{nil, New(Options{})} {
		c, err := d.Dial(t.Context(), s.addr)
		if _, plain := c.(*net.TCPConn); !plain {
			t.Fatalf("%T, %v", c, err)
		}
		ask(t, c)
	}
}

// TestRecheck closes connections to nodes whose authority is withdrawn, and no other.
func TestRecheck(t *testing.T) {
	first, second := tlskit.New(t), tlskit.New(t)
	trusted := filepath.Join(t.TempDir(), "authorities.pem")
	trust := func(of ...*tlskit.Authority) {
		var pem []byte
		for _, a := range of {
			one, err := os.ReadFile(a.File)
			if err != nil {
				t.Fatal(err)
			}
			pem = append(pem, one...)
		}
		if err := os.WriteFile(trusted, pem, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	trust(first, second)
	certificates := store(t, certs.Required, second, trusted)
	d := New(Options{Store: certificates})
	var conns []net.Conn
	for _, a := range []*tlskit.Authority{first, second} {
		c, err := d.Dial(t.Context(), serve(t, testkit.Address(t), secured(a.Issue(t, nodeName))).addr)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	if n := d.Recheck(); n != 0 {
		t.Errorf("%d connections are closed without a cause", n)
	}
	trust(second)
	if err := certificates.Reload(); err != nil {
		t.Fatal(err)
	}
	if n := d.Recheck(); n != 1 {
		t.Errorf("%d connections are closed", n)
	}
	ask(t, conns[1])
	if _, err := conns[0].Write([]byte("a")); err == nil {
		t.Error("the connection to the node of the first authority is open")
	}
	conns[0].Close()
	if len(d.open) != 0 {
		t.Errorf("%d connections are kept", len(d.open))
	}
}
