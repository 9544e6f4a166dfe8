package dkv

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/internal/testkit"
)

// certificate makes one for 127.0.0.1, and a pool that trusts it.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestTLS(t *testing.T) {
	cert, pool := certificate(t)
	cl := &cluster{t: t, history: "h", changed: make(chan struct{})}
	secure := startNode(t, cl, "127.0.0.1:0", grpc.Creds(credentials.NewServerTLSFromCert(&cert)))
	cl.nodes, cl.vBuckets = []*fakeNode{secure}, newBuckets(secure, 1)
	plain := newCluster(t, 1, 1)

	c := ready(t, secure.addr, WithTLS(&tls.Config{RootCAs: pool}))
	must[uint64](t)(c.Put(testkit.Within(t, enough), []byte("k"), nil))

	for name, c := range map[string]*Client{
		"a client without TLS":                  open(t, secure.addr),
		"a server without TLS":                  open(t, plain.addrs(), WithTLS(&tls.Config{RootCAs: pool})),
		"a certificate of an unknown authority": open(t, secure.addr, WithTLS(&tls.Config{})),
		"another name":                          open(t, secure.addr, WithTLS(&tls.Config{RootCAs: pool, ServerName: "example.org"})),
		"fixed addresses":                       open(t, secure.addr, WithFixedAddresses()),
	} {
		if _, err := c.Get(testkit.Within(t, enough), []byte("k")); !errors.Is(err, ErrTLS) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestToken(t *testing.T) {
	cl := newCluster(t, 1, 1)
	cl.nodes[0].fail(func(ctx context.Context, _ string) error {
		if got := metadata.ValueFromIncomingContext(ctx, "authorization"); len(got) != 1 || got[0] != "Bearer secret" {
			return status.Errorf(codes.Unauthenticated, "the token is not known")
		}
		return nil
	}, nil)
	c := ready(t, cl.addrs(), WithToken("secret"))
	must[uint64](t)(c.Put(testkit.Within(t, enough), []byte("k"), nil))
	for _, opts := range [][]Option{nil, {WithToken("other")}} {
		if err := open(t, cl.addrs(), opts...).WaitReady(testkit.Within(t, enough)); !errors.Is(err, ErrUnauthenticated) {
			t.Error(err)
		}
	}
}

// A node that the client learns of does not get the token unencrypted.
func TestTokenStaysHere(t *testing.T) {
	for _, c := range []struct {
		opts []Option
		addr string
		want bool
	}{
		{nil, "10.0.0.1:80", true},
		{[]Option{WithToken("x")}, "10.0.0.1:80", false},
		{[]Option{WithToken("x")}, "127.0.0.1:80", true},
		{[]Option{WithToken("x"), WithTLS(&tls.Config{})}, "10.0.0.1:80", true},
		{[]Option{WithToken("x"), WithInsecureToken()}, "10.0.0.1:80", true},
	} {
		var o options
		for _, opt := range c.opts {
			opt(&o)
		}
		if got := o.mayDial(c.addr); got != c.want {
			t.Errorf("%s: %v", c.addr, got)
		}
	}
}
