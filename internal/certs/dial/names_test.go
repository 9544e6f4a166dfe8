package dial

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/certs"
	"github.com/dkvdb/dkv/internal/testkit"
	tlskit "github.com/dkvdb/dkv/internal/testkit/certs"
)

// network is a fake one: its addresses swallow connections, refuse them, or accept them.
type network struct {
	swallows, refuses []string

	mu     sync.Mutex
	dialed []string
}

func (n *network) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	n.mu.Lock()
	n.dialed = append(n.dialed, addr)
	n.mu.Unlock()
	switch host, _, _ := net.SplitHostPort(addr); {
	case slices.Contains(n.swallows, host):
		<-ctx.Done()
		return nil, ctx.Err()
	case slices.Contains(n.refuses, host):
		return nil, errors.New(host + " refuses")
	default:
		here, there := net.Pipe()
		_ = there.Close()
		return here, nil
	}
}

func (n *network) names(hosts ...string) *Names {
	out := NewNames(new(net.Dialer))
	out.dial = n.dial
	out.lookUp = lookUp(hosts...)
	return out
}

// lookUp finds these addresses for each name.
func lookUp(hosts ...string) func(context.Context, string, string) ([]netip.Addr, error) {
	return func(context.Context, string, string) (ips []netip.Addr, err error) {
		for _, h := range hosts {
			ips = append(ips, netip.MustParseAddr(h))
		}
		return ips, nil
	}
}

// An address that swallows packets does not keep a name's others from being tried.
func TestNameWithAnAddressThatSwallowsPackets(t *testing.T) {
	n := &network{swallows: []string{"192.0.2.1", "192.0.2.2"}}
	names := n.names("192.0.2.1", "192.0.2.2", "2001:db8::3")
	conn, err := names.Dial(testkit.Within(t, 2*time.Second), "db.test:80")
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if want := []string{"192.0.2.1:80", "192.0.2.2:80", "[2001:db8::3]:80"}; !slices.Equal(n.dialed, want) {
		t.Errorf("tried %v", n.dialed)
	}
}

// Nor does one that accepts connections and says nothing: the next connection begins with another one.
func TestNamesTakeTurns(t *testing.T) {
	n := &network{}
	names := n.names("192.0.2.1", "192.0.2.2")
	for range 3 {
		conn, err := names.Dial(t.Context(), "db.test:80")
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	if want := []string{"192.0.2.1:80", "192.0.2.2:80", "192.0.2.1:80"}; !slices.Equal(n.dialed, want) {
		t.Errorf("connected to %v", n.dialed)
	}
}

func TestNameWhoseAddressesFail(t *testing.T) {
	n := &network{refuses: []string{"192.0.2.1", "192.0.2.2"}, swallows: []string{"192.0.2.3"}}
	began := time.Now()
	if _, err := n.names("192.0.2.1", "192.0.2.2").Dial(t.Context(), "db.test:80"); err == nil || !strings.Contains(err.Error(), "192.0.2.1 refuses") {
		t.Error(err)
	}
	if took := time.Since(began); took >= nextAddress {
		t.Errorf("after %v: the second address was not tried at once", took)
	}
	if _, err := n.names("192.0.2.3").Dial(testkit.Within(t, time.Millisecond), "db.test:80"); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	broken := n.names()
	broken.lookUp = func(context.Context, string, string) ([]netip.Addr, error) {
		return nil, &net.DNSError{Err: "no such host"}
	}
	if _, err := broken.Dial(t.Context(), "db.test:80"); err == nil || !strings.Contains(err.Error(), "no such host") {
		t.Error(err)
	}
}

// Names and addresses are reached by TCP.
func TestNamesOfThisHost(t *testing.T) {
	p, err := net.DefaultResolver.LookupNetIP(t.Context(), "ip", "localhost")
	if err != nil || len(p) == 0 {
		t.Fatal(p, err)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(p[0].Unmap().String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for _, addr := range []string{l.Addr().String(), net.JoinHostPort("localhost", port)} {
		conn, err := NewNames(new(net.Dialer)).Dial(testkit.Within(t, testkit.Patience), addr)
		if err != nil {
			t.Errorf("%s: %v", addr, err)
			continue
		}
		conn.Close()
	}
}

// A name's address that takes connections and says nothing, as a host does whose node hangs, keeps no handshake from
// another one for long.
func TestSecureNameWithAnAddressThatHangs(t *testing.T) {
	authority := tlskit.New(t)
	hangs := serve(t, testkit.Address(t), func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	host, port, _ := net.SplitHostPort(hangs.addr)
	serve(t, "127.0.0.2:"+port, secured(authority.Issue(t, nodeName)))
	for _, mode := range []certs.Mode{certs.Required, certs.Permissive} {
		d := dialer(t, mode, authority, new(testkit.Log))
		d.tcp.lookUp = lookUp(host, "127.0.0.2")
		if _, err := d.Dial(testkit.Within(t, 100*time.Millisecond), "db.test:"+port); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", mode, err)
		}
		conn, err := d.Dial(testkit.Within(t, testkit.Patience), "db.test:"+port)
		if err != nil {
			t.Fatalf("%s: %v", mode, err)
		}
		ask(t, conn)
	}
}
