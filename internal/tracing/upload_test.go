package tracing

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"maps"
	"net"
	"strings"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/internal/testkit/certs"
)

// received is a call of a collector, as it arrived.
type received struct {
	method string
	header metadata.MD
	client string // the name of the caller's certificate
}

// secureCollector is a collector with TLS, whose certificate is issued by the authority, and
// what arrives there. Callers need a certificate of the same authority.
func secureCollector(t *testing.T, ca *certs.Authority) (address string, arrived <-chan received) {
	t.Helper()
	l, calls := testkit.Listen(t), make(chan received, 100)
	host, _, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	pair := ca.Issue(t, host)
	s := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{load(t, pair)}, ClientCAs: ca.Pool, ClientAuth: tls.RequireAndVerifyClientCert})),
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
			var r received
			r.method, _ = grpc.MethodFromServerStream(stream)
			r.header, _ = metadata.FromIncomingContext(stream.Context())
			if p, ok := peer.FromContext(stream.Context()); ok {
				r.client = p.AuthInfo.(credentials.TLSInfo).State.PeerCertificates[0].DNSNames[0]
			}
			if err := stream.RecvMsg(new(collector.ExportTraceServiceRequest)); err != nil {
				return err
			}
			calls <- r
			return stream.SendMsg(new(collector.ExportTraceServiceResponse))
		}))
	t.Cleanup(testkit.Run(t, func(context.Context) error { return s.Serve(l) }))
	t.Cleanup(s.Stop)
	return l.Addr().String(), calls
}

func load(t *testing.T, c certs.Certificate) tls.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// A collector with TLS gets the spans by its path, with the headers and by the certificate
// of the node.
func TestSecureCollectorGetsPathHeadersAndCertificate(t *testing.T) {
	ca := certs.New(t)
	address, arrived := secureCollector(t, ca)
	log := &testkit.Log{}
	tracer, err := New(Options{
		Endpoint: address + "/team/otlp/", Headers: map[string]string{"authorization": "Bearer abc"}, Sample: 1, Log: log.Logger(slog.LevelInfo),
		TLS: &tls.Config{RootCAs: ca.Pool, Certificates: []tls.Certificate{load(t, ca.Issue(t, "dkv-node"))}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tracer.Close() })
	tracer.Begin("Get", time.Now(), nil).End(codes.OK, "", nil)
	_ = tracer.provider.ForceFlush(t.Context())
	if log.String() != "" {
		t.Fatal(log.String())
	}
	r := <-arrived
	if r.method != "/team/otlp/opentelemetry.proto.collector.trace.v1.TraceService/Export" || r.client != "dkv-node" || strings.Join(r.header["authorization"], "|") != "Bearer abc" {
		t.Errorf("%+v", r)
	}
}

// A collector that is not who it should be is said once, with the reason, however many spans
// there are for it.
func TestCollectorOfAnotherAuthorityIsSaidOnce(t *testing.T) {
	address, arrived := secureCollector(t, certs.New(t))
	log := &testkit.Log{}
	other := x509.NewCertPool()
	certs.New(t).Trust(other)
	tracer, err := New(Options{Endpoint: address, TLS: &tls.Config{RootCAs: other}, Sample: 1, Log: log.Logger(slog.LevelInfo)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tracer.Close() })
	for range 3 {
		tracer.Begin("Get", time.Now(), nil).End(codes.OK, "", nil)
		_ = tracer.provider.ForceFlush(t.Context())
	}
	lines := log.Lines()
	if len(lines) != 1 || !strings.Contains(lines[0], address) || !strings.Contains(lines[0], "certificate signed by unknown authority") || !strings.Contains(lines[0], "tls-ca-file") {
		t.Errorf("%q", lines)
	}
	if len(arrived) > 0 {
		t.Error("spans were sent to it all the same")
	}
}

func TestParseHeaders(t *testing.T) {
	for text, want := range map[string]map[string]string{
		"":    {},
		"a=b": {"a": "b"},
		" X-Team = t1 ,authorization=Bearer%20x=y,": {"x-team": "t1", "authorization": "Bearer x=y"},
	} {
		if got, err := ParseHeaders(text); err != nil || !maps.Equal(got, want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"secret", "=secret", "a b=secret", "a=secret%zz", "a=secret%0a"} {
		if got, err := ParseHeaders(text); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}
