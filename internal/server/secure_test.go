package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/certs"
	"github.com/dkvdb/dkv/internal/conns"
	"github.com/dkvdb/dkv/internal/testkit"
	kit "github.com/dkvdb/dkv/internal/testkit/certs"
)

// secureRig is a rig whose server uses TLS.
type secureRig struct {
	*rig
	authority *kit.Authority
	dir       string
	store     *certs.Store
}

func newSecureRig(t testing.TB, mode certs.Mode, changes ...func(*Options)) *secureRig {
	t.Helper()
	s := &secureRig{authority: kit.New(t), dir: t.TempDir()}
	s.install(t, s.authority.Node(t), s.authority)
	log := &testkit.Log{}
	var err error
	s.store, err = certs.Open(certs.Options{Mode: mode, CertFile: s.path("cert"), KeyFile: s.path("key"), CAFile: s.path("ca"), Log: log.Logger(slog.LevelInfo)})
	if err != nil {
		t.Fatal(err)
	}
	s.rig = newRig(t, append(changes, func(o *Options) { o.TLS = s.store.Acceptor("grpc", certs.Anyone, "h2") })...)
	return s
}

func (s *secureRig) path(name string) string { return filepath.Join(s.dir, name) }

// install writes the files of the server.
func (s *secureRig) install(t testing.TB, own kit.Certificate, authorities ...*kit.Authority) {
	t.Helper()
	var bundle []string
	for _, a := range authorities {
		bundle = append(bundle, a.File)
	}
	for name, from := range map[string][]string{"cert": {own.CertFile}, "key": {own.KeyFile}, "ca": bundle} {
		var all []byte
		for _, path := range from {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, data...)
		}
		if err := os.WriteFile(s.path(name), all, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// client returns the configuration of a client that shows certificates.
func (s *secureRig) client(shows ...kit.Certificate) *tls.Config {
	c := &tls.Config{RootCAs: s.authority.Pool}
	for _, one := range shows {
		c.Certificates = append(c.Certificates, one.Certificate)
	}
	return c
}

func (s *secureRig) addr() string { return s.opts.Listener.Addr().String() }

// get makes a call over a connection of its own; nil is one in the clear.
func (s *secureRig) get(with *tls.Config) error {
	conn := s.conn
	if with != nil {
		var err error
		if conn, err = grpc.NewClient(s.addr(), grpc.WithTransportCredentials(credentials.NewTLS(with))); err != nil {
			return err
		}
		defer conn.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	_, err := serverpb.NewDKVClient(conn).Get(ctx, &serverpb.GetRequest{Key: []byte("k")})
	return err
}

func TestWhoIsServedOverTLS(t *testing.T) {
	s := newSecureRig(t, certs.Required)
	var state atomic.Pointer[tls.ConnectionState]
	s.service.get = func(ctx context.Context, r *serverpb.GetRequest) (*serverpb.GetResponse, error) {
		p, _ := peer.FromContext(ctx)
		state.Store(p.Addr.(addr).conn.TLS())
		return &serverpb.GetResponse{}, nil
	}
	day := 24 * time.Hour
	old := s.client()
	old.MaxVersion = tls.VersionTLS12
	sign := func(r kit.Request) *tls.Config {
		r.Hosts = []string{"alice"}
		return s.client(s.authority.Sign(t, r))
	}
	for name, c := range map[string]struct {
		client *tls.Config
		shows  string
		want   string // of the error
	}{
		"without a certificate": {s.client(), "", ""},
		"with one":              {s.client(s.authority.Issue(t, "alice")), "alice", ""},
		"of another authority":  {s.client(kit.New(t).Issue(t, "alice")), "", "unknown certificate authority"},
		"expired":               {sign(kit.Request{NotBefore: time.Now().Add(-2 * day), NotAfter: time.Now().Add(-day)}), "", "expired certificate"},
		"not yet valid":         {sign(kit.Request{NotBefore: time.Now().Add(day)}), "", "expired certificate"},
		"for servers":           {sign(kit.Request{Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}), "", "bad certificate"},
		"old version":           {old, "", "protocol version not supported"},
		"in the clear":          {nil, "", "Unavailable"},
	} {
		state.Store(nil)
		err := s.get(c.client)
		if c.want != "" {
			if err == nil || state.Load() != nil {
				t.Errorf("%s: it is served", name)
			} else if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		got := state.Load()
		if err != nil || got == nil || got.NegotiatedProtocol != "h2" {
			t.Errorf("%s: %v, state %+v", name, err, got)
			continue
		}
		if verified := len(got.VerifiedChains) > 0; verified != (c.shows != "") || verified && certs.Names(got.PeerCertificates[0])[0] != c.shows {
			t.Errorf("%s: shows %v", name, got.PeerCertificates)
		}
	}
}

func TestPermissiveServerTakesBoth(t *testing.T) {
	s := newSecureRig(t, certs.Permissive)
	if err := errors.Join(s.get(nil), s.get(s.client())); err != nil {
		t.Error(err)
	}
	if err := s.get(s.client(kit.New(t).Issue(t, "alice"))); err == nil {
		t.Error("a certificate of another authority is accepted")
	}
}

// A client that speaks HTTP without TLS is told what to do.
func TestClearTextIsAnsweredInItsProtocol(t *testing.T) {
	s := newSecureRig(t, certs.Required)
	open := func(what string) net.Conn {
		c, err := net.Dial("tcp", s.addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(testkit.Patience))
		if _, err := io.WriteString(c, what); err != nil {
			t.Fatal(err)
		}
		return c
	}
	answer, err := io.ReadAll(open("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	if err != nil || !bytes.Contains(answer, []byte("400 Bad Request")) || !bytes.Contains(answer, []byte("tls-mode")) {
		t.Errorf("HTTP/1 gets %q, %v", answer, err)
	}
	frames := http2.NewFramer(io.Discard, open(http2.ClientPreface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00"))
	for {
		f, err := frames.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if away, is := f.(*http2.GoAwayFrame); is {
			if away.ErrCode != http2.ErrCodeInadequateSecurity || !bytes.Contains(away.DebugData(), []byte("tls-mode")) {
				t.Errorf("HTTP/2 gets %v: %s", away.ErrCode, away.DebugData())
			}
			break
		}
	}
}

// A gRPC client without TLS does not try again and again at once.
func TestClearTextClientDoesNotFlood(t *testing.T) {
	s := newSecureRig(t, certs.Required)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if _, err := s.Get(ctx, &serverpb.GetRequest{Key: []byte("k")}, grpc.WaitForReady(true)); err == nil {
		t.Error("it is served")
	}
	r := prometheus.NewRegistry()
	r.MustRegister(s.store)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "dkv_tls_handshake_failures_total" {
			if n := f.GetMetric()[0].GetCounter().GetValue(); n < 1 || n > 10 {
				t.Errorf("%v connections in 3 seconds", n)
			}
		}
	}
}

// Handshakes that never end take places only as long as no one else needs them.
func TestUnfinishedHandshakesLockNoOneOut(t *testing.T) {
	s := newSecureRig(t, certs.Required, func(o *Options) { o.MaxConnections = 50 })
	for range 500 {
		c, err := net.Dial("tcp", s.addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = c.Write([]byte{0x16, 3, 1, 2, 0, 1}) // the beginning of a ClientHello
	}
	testkit.Eventually(t, "all places are taken", func() bool { return s.gauge("dkv_connections") == 50 })
	conn, err := grpc.NewClient(s.addr(), grpc.WithTransportCredentials(credentials.NewTLS(s.client())))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	begin := time.Now()
	if _, err := serverpb.NewDKVClient(conn).Get(testkit.Within(t, testkit.Patience), &serverpb.GetRequest{Key: []byte("k")}, grpc.WaitForReady(true)); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > 8*time.Second {
		t.Errorf("a client was served after %v: when the handshakes timed out", took)
	}
	for range 60 { // handshakes make room for each other, and not a connection that is in use
		c, err := net.Dial("tcp", s.addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if _, err := serverpb.NewDKVClient(conn).Get(t.Context(), &serverpb.GetRequest{Key: []byte("k")}); err != nil {
		t.Error(err)
	}
}

// A server that stops does not wait for handshakes.
func TestStoppingEndsUnfinishedHandshakes(t *testing.T) {
	s := newSecureRig(t, certs.Required)
	c, err := net.Dial("tcp", s.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = c.Write([]byte{0x16})
	testkit.Eventually(t, "the connection is accepted", func() bool { return s.gauge("dkv_connections") == 1 })
	begin := time.Now()
	s.stop()
	<-s.ran
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it has taken %v", took)
	}
}

// An idle connection holds no buffer, however much it has received.
func TestIdleTLSConnectionHoldsNoBuffer(t *testing.T) {
	s := newSecureRig(t, certs.Required)
	l := conns.Limit(testkit.Listen(t), conns.Options{Handshake: true})
	defer l.Close()
	const size = 1 << 20
	sent := make(chan error, 1)
	go func() {
		config := s.client()
		config.ServerName = "localhost"
		c, err := tls.Dial("tcp", l.Addr().String(), config)
		if err == nil {
			defer c.Close()
			_, err = c.Write(make([]byte, size))
		}
		sent <- err
	}()
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	var under socket
	under.open(accepted.(*conns.Conn))
	secure := tls.Server(&under, s.store.Server(certs.Anyone, "h2"))
	if _, err := io.ReadFull(secure, make([]byte, size)); err != nil {
		t.Error(err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	if under.buf != nil || len(under.unread) != 0 {
		t.Errorf("it holds a buffer with %d bytes", len(under.unread))
	}
}

// Certificates and authorities are replaced while clients open connections and call: none of
// them fails.
func TestRotationUnderLoadFailsNoCall(t *testing.T) {
	s := newSecureRig(t, certs.Required)
	next := kit.New(t)
	both := s.authority.Pool.Clone()
	data, err := os.ReadFile(next.File)
	if err != nil || !both.AppendCertsFromPEM(data) {
		t.Fatal(err)
	}
	client := &tls.Config{RootCAs: both, Certificates: s.client(s.authority.Issue(t, "alice")).Certificates}
	long, err := grpc.NewClient(s.addr(), grpc.WithTransportCredentials(credentials.NewTLS(client)))
	if err != nil {
		t.Fatal(err)
	}
	defer long.Close()
	stop := make(chan struct{})
	var made, failed atomic.Int64
	var load sync.WaitGroup
	for i := range 4 {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				var err error
				if i == 0 {
					_, err = serverpb.NewDKVClient(long).Get(context.Background(), &serverpb.GetRequest{Key: []byte("k")})
				} else {
					err = s.get(client)
				}
				if made.Add(1); err != nil {
					failed.Add(1)
					t.Errorf("after %d calls: %v", made.Load(), err)
				}
			}
		})
	}
	for _, step := range []struct {
		own  *kit.Authority
		with []*kit.Authority
	}{{s.authority, []*kit.Authority{s.authority}}, {s.authority, []*kit.Authority{s.authority, next}}, {next, []*kit.Authority{s.authority, next}}} {
		for range 3 {
			s.install(t, step.own.Node(t), step.with...)
			if err := s.store.Reload(); err != nil {
				t.Error(err)
			}
			until := made.Load() + 20
			testkit.Eventually(t, "calls are made", func() bool { return made.Load() >= until })
		}
	}
	close(stop)
	load.Wait()
	t.Logf("%d calls, %d failed", made.Load(), failed.Load())
	s.install(t, next.Node(t), next)
	if err := s.store.Reload(); err != nil {
		t.Error(err)
	}
	if s.get(client) == nil {
		t.Error("a certificate of the authority that was removed is accepted")
	}
}

// TestConnectionsOfWithdrawnAuthoritiesEnd: a certificate whose authority was withdrawn, as
// after a theft, serves no connection any more, however long that has been open. Connections
// without a certificate go on.
func TestConnectionsOfWithdrawnAuthoritiesEnd(t *testing.T) {
	s := newSecureRig(t, certs.Required)
	s.service.get = func(context.Context, *serverpb.GetRequest) (*serverpb.GetResponse, error) {
		return &serverpb.GetResponse{}, nil
	}
	open := func(with *tls.Config) (call func() error) {
		conn, err := grpc.NewClient(s.addr(), grpc.WithTransportCredentials(credentials.NewTLS(with)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return func() error {
			ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
			defer cancel()
			_, err := serverpb.NewDKVClient(conn).Get(ctx, &serverpb.GetRequest{Key: []byte("k")})
			return err
		}
	}
	shows, without := open(s.client(s.authority.Node(t))), open(s.client())
	for _, call := range []func() error{shows, without} {
		if err := call(); err != nil {
			t.Fatal(err)
		}
	}
	next := kit.New(t)
	s.install(t, next.Node(t), next)
	if err := s.store.Reload(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the connection with a certificate ends", func() bool { return shows() != nil })
	if err := without(); err != nil { // a new connection would not trust the server
		t.Error(err)
	}
}
