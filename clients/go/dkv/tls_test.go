package dkv

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/internal/testkit/certs"
)

func TestTLS(t *testing.T) {
	authority := certs.New(t)
	cert, pool := authority.Issue(t, "127.0.0.1").Certificate, authority.Pool
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

// TestOneSuspicionIsNoProof: a call that was repeated for other reasons is not ended by one error
// that TLS may cause, and a server that stops as well.
func TestOneSuspicionIsNoProof(t *testing.T) {
	cl := newCluster(t, 1, 1)
	c := ready(t, cl.addrs())
	begun, suspicious := time.Now(), false
	cl.nodes[0].fail(func(_ context.Context, method string) error {
		switch {
		case method != getMethod || suspicious:
			return nil
		case time.Since(begun) < tlsTime || cl.nodes[0].count(getMethod) < tlsProofs:
			return explained(codes.Unavailable, kv.ReasonNotApplied, "no leader")
		default:
			suspicious = true
			return status.Error(codes.Unavailable, `connection error: desc = "error reading server preface: EOF"`)
		}
	}, nil)
	if _, err := c.Get(testkit.Within(t, enough), []byte("k")); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if !suspicious {
		t.Error("no error was suspicious")
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

// A DKV server that requires TLS tells a client without it to go away, in HTTP/2.
func TestServerThatRequiresTLS(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				framer := http2.NewFramer(c, c)
				_ = framer.WriteSettings()
				_ = framer.WriteGoAway(0, http2.ErrCodeInadequateSecurity, []byte("this port accepts TLS connections only"))
				_, _ = io.Copy(io.Discard, c) // until the client closes
			})
		}
	})
	t.Cleanup(serving.Wait)
	t.Cleanup(func() { _ = l.Close() })
	c := open(t, l.Addr().String())
	if _, err := c.Get(testkit.Within(t, enough), []byte("k")); !errors.Is(err, ErrTLS) {
		t.Error(err)
	}
}

// A node that takes connections and is silent hangs: that may pass, and TLS has nothing to do with it.
func TestSilentNodeIsNotTakenForTLS(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	c := open(t, l.Addr().String())
	if _, err := c.Get(testkit.Within(t, 4*time.Second), []byte("k")); errors.Is(err, ErrTLS) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
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
