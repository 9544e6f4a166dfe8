package dkv

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/internal/testkit"
)

func TestAuthority(t *testing.T) {
	cl := newCluster(t, 1, 1)
	cl.nodes[0].fail(func(ctx context.Context, _ string) error {
		if got := metadata.ValueFromIncomingContext(ctx, ":authority"); len(got) != 1 || got[0] != "db.example.org" {
			return status.Errorf(codes.PermissionDenied, "authority %v", got)
		}
		return nil
	}, nil)
	ready(t, cl.addrs(), WithAuthority("db.example.org"), WithKeepalive(time.Minute, time.Second), WithConnections(1))
}

func TestDialer(t *testing.T) {
	cl := newCluster(t, 1, 1)
	var dialled atomic.Int64
	c := ready(t, "db.example.org:1", WithDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		if addr == "db.example.org:1" {
			dialled.Add(1)
			addr = cl.addrs()
		}
		return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	}))
	must[uint64](t)(c.Put(testkit.Within(t, enough), []byte("k"), nil))
	if dialled.Load() == 0 {
		t.Error("the dialer was not used")
	}
}

// A token that cannot be had is an error of the call, which is not sent.
func TestTokenSourceFails(t *testing.T) {
	cl := newCluster(t, 1, 1)
	var fails atomic.Bool
	c := ready(t, cl.addrs(), WithTokenSource(func(context.Context) (string, error) {
		if fails.Load() {
			return "", status.Error(codes.Unauthenticated, "the vault is shut")
		}
		return "t", nil
	}))
	fails.Store(true)
	_, err := c.Put(testkit.Within(t, enough), []byte("k"), nil)
	if !errors.Is(err, ErrUnauthenticated) || errors.Is(err, ErrOutcomeUnknown) || cl.nodes[0].count(putMethod) != 0 {
		t.Error(err)
	}
}

// A server resets calls whose token has a line break, and does not say why.
func TestTokenThatCannotBeSent(t *testing.T) {
	cl := newCluster(t, 1, 1)
	if c, err := Open(t.Context(), cl.addrs(), WithToken("secret\n")); !errors.Is(err, ErrInvalid) || strings.Contains(err.Error(), "secret") {
		t.Error(c, err)
	}
	var token atomic.Value
	token.Store("t")
	c := ready(t, cl.addrs(), WithTokenSource(func(context.Context) (string, error) { return token.Load().(string), nil }))
	token.Store("secret\n")
	_, err := c.Put(testkit.Within(t, enough), []byte("k"), nil)
	if !errors.Is(err, ErrUnauthenticated) || errors.Is(err, ErrOutcomeUnknown) || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}

func TestOptionsThatContradict(t *testing.T) {
	for target, opts := range map[string][]Option{
		"discovery://host:1":    {WithFixedAddresses()},
		"discovery://host:1/db": {WithDatabase("other")},
	} {
		if _, err := Open(t.Context(), target, opts...); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", target, err)
		}
	}
}

// A configuration that is nil is one without settings: it does not leave the connections in the clear.
func TestTLSWithoutSettings(t *testing.T) {
	l := testkit.Listen(t)
	first := make(chan byte, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		var b [1]byte
		if _, err := conn.Read(b[:]); err == nil {
			first <- b[0]
		}
	}()
	c, err := Open(t.Context(), l.Addr().String(), WithTLS(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const handshake = 0x16 // of a TLS record
	select {
	case b := <-first:
		if b != handshake {
			t.Errorf("the first byte is %q, which is not that of a handshake", b)
		}
	case <-time.After(testkit.Patience):
		t.Error("nothing is sent")
	}
}
