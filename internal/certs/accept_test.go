package certs_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dkvdb/dkv/internal/certs"
	"github.com/dkvdb/dkv/internal/testkit"
	kit "github.com/dkvdb/dkv/internal/testkit/certs"
)

// port is a port that answers each connection with one byte: 't' with TLS, 'c' in the clear.
type port struct {
	*files
	store     *certs.Store
	authority *kit.Authority
	addr      string
}

func newPort(t *testing.T, mode certs.Mode, serves certs.Callers) *port {
	t.Helper()
	authority := kit.New(t)
	f := newFiles(t, authority.Node(t), authority)
	opts := f.options()
	opts.Mode = mode
	s, err := certs.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := s.Acceptor("test", serves, "h2").Listen(raw)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			answer := []byte("c")
			if _, secure := c.(*tls.Conn); secure {
				answer = []byte("t")
			}
			go func() {
				defer c.Close()
				_, _ = c.Read(make([]byte, 1)) // so that nothing is left unread
				_, _ = c.Write(answer)
			}()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return &port{f, s, authority, raw.Addr().String()}
}

// say sends something and returns all that comes back.
func (p *port) say(what string) string {
	p.t.Helper()
	c, err := net.Dial("tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(testkit.Patience))
	if _, err := io.WriteString(c, what); err != nil {
		p.t.Fatal(err)
	}
	answer, err := io.ReadAll(c)
	if err != nil {
		p.t.Errorf("%q: %v", what, err)
	}
	return string(answer)
}

// shake connects with TLS.
func (p *port) shake(client *tls.Config) error {
	c, err := (&net.Dialer{Timeout: testkit.Patience}).Dial("tcp", p.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(testkit.Patience))
	secure := tls.Client(c, client)
	if _, err := secure.Write([]byte("x")); err != nil {
		return err
	}
	_, err = io.ReadFull(secure, make([]byte, 1))
	return err
}

// failed returns how many handshakes have failed for a reason.
func (p *port) failed(reason string) int {
	p.t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(p.store)
	families, err := r.Gather()
	if err != nil {
		p.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "reason" && l.GetValue() == reason {
					return int(m.GetCounter().GetValue())
				}
			}
		}
	}
	return 0
}

func TestFailedHandshakesAreCountedByReason(t *testing.T) {
	p := newPort(t, certs.Required, certs.Nodes)
	day := 24 * time.Hour
	show := func(c kit.Certificate) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{c.Certificate}, RootCAs: p.authority.Pool, ServerName: "localhost"}
	}
	node := show(p.authority.Node(t))
	if err := p.shake(node); err != nil {
		t.Fatal(err)
	}
	sign := func(r kit.Request) *tls.Config {
		r.Hosts = []string{kit.NodeName}
		return show(p.authority.Sign(t, r))
	}
	distrust, old := node.Clone(), node.Clone()
	distrust.RootCAs, old.MaxVersion = kit.New(t).Pool, tls.VersionTLS12
	for _, c := range []struct {
		reason string
		client *tls.Config
		want   string // of the client's error
	}{
		{"authority", show(kit.New(t).Node(t)), "unknown certificate authority"},
		{"expired", sign(kit.Request{NotBefore: time.Now().Add(-2 * day), NotAfter: time.Now().Add(-day)}), "expired certificate"},
		{"expired", sign(kit.Request{NotBefore: time.Now().Add(day)}), "expired certificate"}, // or not yet valid: one alert
		{"no-certificate", &tls.Config{RootCAs: p.authority.Pool, ServerName: "localhost"}, "certificate required"},
		{"not-of-node", show(p.authority.Issue(t, "alice")), "bad certificate"},
		{"certificate", sign(kit.Request{Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}), "bad certificate"},
		{"version", old, "protocol version not supported"},
		{"rejected-by-client", distrust, "unknown authority"},
	} {
		before := p.failed(c.reason)
		if err := p.shake(c.client); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: the client is told %v, not %s", c.reason, err, c.want)
		}
		testkit.Eventually(t, "a failure is counted as "+c.reason, func() bool { return p.failed(c.reason) == before+1 })
		testkit.Eventually(t, "it is logged once", func() bool { return p.log.Count("reason="+c.reason+" ") == 1 })
	}
	if err := p.shake(node); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// Many failures are counted one by one, and logged now and then.
func TestFailuresDoNotFloodTheLog(t *testing.T) {
	p := newPort(t, certs.Required, certs.Anyone)
	for range 50 {
		p.say("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	}
	testkit.Eventually(t, "the failures are counted", func() bool { return p.failed("clear-text") == 50 })
	if n := p.log.Count("reason=clear-text"); n < 1 || n > 10 {
		t.Errorf("%d lines", n)
	}
}

func TestClearTextToTLSIsToldSo(t *testing.T) {
	p := newPort(t, certs.Required, certs.Anyone)
	for _, request := range []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "PUT /x HTTP/1.1\r\n\r\n", "POST /admin/backup HTTP/1.1\r\nContent-Length: 70000\r\n\r\n" + strings.Repeat("x", 70000)} {
		if got := p.say(request); !strings.HasPrefix(got, "HTTP/1.1 400 Bad Request\r\n") || !strings.Contains(got, "TLS connections only (tls-mode: required); use https://") {
			t.Errorf("%.20q gets %q", request, got)
		}
	}
	got := []byte(p.say("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"))
	settings, goAway := []byte{0, 0, 0, 4, 0, 0, 0, 0, 0}, []byte{7, 0, 0, 0, 0, 0}
	rest, ok := bytes.CutPrefix(got, settings)
	if !ok || len(rest) < 17 || !bytes.Equal(rest[3:9], goAway) || binary.BigEndian.Uint32(rest[13:17]) != 0xc || !strings.Contains(string(rest[17:]), "TLS connections only") {
		t.Errorf("%x", got)
	}
	if got := p.say("\x00\x01\x02"); got != "" {
		t.Errorf("an unknown protocol gets %q", got)
	}
}

func TestPermissivePortTellsTLSFromClear(t *testing.T) {
	p := newPort(t, certs.Permissive, certs.Anyone)
	if got := p.say("x"); got != "c" {
		t.Errorf("in the clear: %q", got)
	}
	if err := p.shake(&tls.Config{RootCAs: p.authority.Pool, ServerName: "localhost"}); err != nil {
		t.Errorf("with TLS: %v", err)
	}
	if err := p.shake(&tls.Config{RootCAs: p.authority.Pool, ServerName: "localhost", Certificates: []tls.Certificate{kit.New(t).Node(t).Certificate}}); err == nil {
		t.Error("a certificate of another authority is accepted")
	}
}

// A connection that says nothing, or stops within the handshake, holds up no other one, and is
// closed after a while.
func TestUnfinishedHandshakesHoldUpNoOther(t *testing.T) {
	defer certs.SetHandshakeTime(time.Second)()
	p := newPort(t, certs.Required, certs.Anyone)
	var stuck []net.Conn
	for i := range 100 {
		c, err := net.Dial("tcp", p.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if stuck = append(stuck, c); i%2 == 0 {
			_, _ = io.WriteString(c, "\x16\x03\x01\x02\x00\x01") // the beginning of a ClientHello
		}
	}
	if err := p.shake(&tls.Config{RootCAs: p.authority.Pool, ServerName: "localhost"}); err != nil {
		t.Error(err)
	}
	for _, c := range stuck {
		_ = c.SetDeadline(time.Now().Add(testkit.Patience))
		if _, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("an unfinished handshake is not ended")
		}
	}
	testkit.Eventually(t, "they are counted", func() bool { return p.failed("timeout") == len(stuck) })
}

// A port that is closed ends the handshakes that are unfinished.
func TestClosingEndsUnfinishedHandshakes(t *testing.T) {
	authority := kit.New(t)
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newFiles(t, authority.Node(t), authority).open().Acceptor("test", certs.Anyone).Listen(raw)
	accepted := make(chan error, 1)
	go func() { _, err := l.Accept(); accepted <- err }()
	c, err := net.Dial("tcp", raw.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "\x16"); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	_ = c.SetDeadline(time.Now().Add(testkit.Patience))
	if _, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is open")
	}
}
