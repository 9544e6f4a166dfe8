package nodeport

import (
	"errors"
	"io"
	"net"
	"testing"

	"github.com/dkvdb/dkv/internal/certs"
	tlskit "github.com/dkvdb/dkv/internal/testkit/certs"
)

// TestClearConnectionsOfStrangers: what comes in the clear from a host that may not use the
// port goes nowhere, with TLS off and where it is permitted.
func TestClearConnectionsOfStrangers(t *testing.T) {
	for _, store := range []*certs.Store{nil, storeOf(t, certs.Permissive, tlskit.New(t))} {
		for _, stranger := range []error{nil, errors.New("no member")} {
			raw, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var rejected error
			l := Listen(raw, Options{
				Store:    store,
				Clear:    func(net.Addr) error { return stranger },
				Rejected: func(_ net.Addr, err error) { rejected = err },
			})
			c, err := net.Dial("tcp", raw.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(c, "hello"); err != nil {
				t.Fatal(err)
			}
			in, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, 5)
			_, err = io.ReadFull(in, got)
			switch {
			case stranger == nil && (err != nil || string(got) != "hello" || rejected != nil):
				t.Errorf("mode %s: a member: %q, %v", store.Mode(), got, err)
			case stranger != nil && (!errors.Is(err, ErrRejected) || !errors.Is(err, stranger) || !errors.Is(rejected, stranger)):
				t.Errorf("mode %s: a stranger: %q, %v, reported as %v", store.Mode(), got, err, rejected)
			}
			for _, closer := range []io.Closer{c, in, l} {
				_ = closer.Close()
			}
		}
	}
}
