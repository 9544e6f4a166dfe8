package peer

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/certs"
	tlskit "github.com/dkvdb/dkv/internal/testkit/certs"
)

// TestHeardIsWhatArrives, in the clear and with TLS, from this node alone.
func TestHeardIsWhatArrives(t *testing.T) {
	const size = 100_000
	large := func(context.Context, *serverpb.GetRequest) (*serverpb.GetResponse, error) {
		return &serverpb.GetResponse{Value: make([]byte, size)}, nil
	}
	store := storeOf(t, certs.Required, tlskit.New(t))
	secured := siteWith(t, &site{get: large}, grpc.Creds(credentials.NewTLS(store.Server(certs.Anyone, "h2"))))
	open := serve(t, &site{get: large})
	for to, opts := range map[*site]Options{open: {Count: true}, secured: {Count: true, Dialer: NewDialer(store, nil)}} {
		pool := newPool(t, opts)
		p, other := peerAt(t, pool, to.addr), peerAt(t, pool, "127.0.0.1:1")
		if _, err := get(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		if heard := p.Heard(); heard < size || heard > 2*size || other.Heard() != 0 {
			t.Errorf("%d bytes, and %d of another node", heard, other.Heard())
		}
	}
	p := peerAt(t, newPool(t, Options{}), open.addr)
	if _, err := get(t.Context(), p); err != nil || p.Heard() != 0 {
		t.Errorf("%v; %d bytes were counted", err, p.Heard())
	}
}
