package peer

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/certs"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/server/servertest"
	"github.com/dkvdb/dkv/internal/testkit"
	tlskit "github.com/dkvdb/dkv/internal/testkit/certs"
)

const nodeName = "node.dkv.test"

// storeOf is the store of a node whose certificate an authority has issued.
func storeOf(t *testing.T, mode certs.Mode, a *tlskit.Authority) *certs.Store {
	t.Helper()
	own := a.Issue(t, nodeName)
	s, err := certs.Open(certs.Options{Mode: mode, CertFile: own.CertFile, KeyFile: own.KeyFile, CAFile: a.File, NodeName: nodeName})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// siteWith serves with further options of the server.
func siteWith(t *testing.T, s *site, opts ...grpc.ServerOption) *site {
	t.Helper()
	s.t, s.grpc = t, grpc.NewServer(opts...)
	serverpb.RegisterDKVServer(s.grpc, s)
	s.addr = servertest.Serve(t, s.grpc, counted{Listener: testkit.Listen(t), site: s}).Addr
	return s
}

// TestNodesCallEachOtherByTLS: calls show the node's certificate, go to the address as their
// :authority, and do not reach servers that are no nodes.
func TestNodesCallEachOtherByTLS(t *testing.T) {
	authority, other := tlskit.New(t), tlskit.New(t)
	got := make(chan string, 1)
	who := func(ctx context.Context, _ *serverpb.GetRequest) (*serverpb.GetResponse, error) {
		p, _ := peer.FromContext(ctx)
		if state, is := p.AuthInfo.(credentials.TLSInfo); is && certs.OfNode(&state.State, nodeName) {
			got <- "node to " + metadata.ValueFromIncomingContext(ctx, ":authority")[0]
		} else {
			got <- "clear"
		}
		return &serverpb.GetResponse{}, nil
	}
	secured := func(of *tlskit.Authority) *site {
		return siteWith(t, &site{get: who}, grpc.Creds(credentials.NewTLS(storeOf(t, certs.Required, of).Server(certs.Anyone, "h2"))))
	}
	node, stranger, open := secured(authority), secured(other), serve(t, &site{get: who})
	for _, c := range []struct {
		mode certs.Mode
		to   *site
		want string
		says string
	}{
		{certs.Required, node, "node to " + node.addr, ""},
		{certs.Permissive, node, "node to " + node.addr, ""},
		{certs.Permissive, open, "clear", ""},
		{certs.Required, open, "", "does not speak TLS"},
		{certs.Required, stranger, "", "unknown authority"},
		{certs.Permissive, stranger, "", "unknown authority"},
		{certs.Off, open, "clear", ""},
	} {
		pool := newPool(t, Options{Dialer: NewDialer(storeOf(t, c.mode, authority), slog.New(slog.DiscardHandler))})
		_, err := get(t.Context(), peerAt(t, pool, c.to.addr))
		switch {
		case c.want == "":
			if kv.KindOf(err) != kv.Unavailable || kv.OutcomeOf(err) != kv.NotApplied || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s to %s: %v, %v", c.mode, c.to.addr, err, kv.OutcomeOf(err))
			}
		case err != nil:
			t.Errorf("%s to %s: %v", c.mode, c.to.addr, err)
		default:
			if from := <-got; from != c.want {
				t.Errorf("%s: the call comes from %s, want %s", c.mode, from, c.want)
			}
		}
	}
}

// tokenFile writes a token.
func tokenFile(t *testing.T, path, token string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestTokenIsSent sends the token in the file to this machine, and the next one when the
// file has changed.
func TestTokenIsSent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	tokenFile(t, path, "first\n")
	token, err := OpenToken(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	s := serve(t, &site{get: func(ctx context.Context, _ *serverpb.GetRequest) (*serverpb.GetResponse, error) {
		got = metadata.ValueFromIncomingContext(ctx, "authorization")
		return &serverpb.GetResponse{}, nil
	}})
	p := peerAt(t, newPool(t, Options{PerRPC: token}), s.addr)
	sends := func(want string) {
		t.Helper()
		token.looked = time.Time{}
		if _, err := get(t.Context(), p); err != nil || len(got) != 1 || got[0] != "Bearer "+want {
			t.Errorf("%q, %v; want %s", got, err, want)
		}
	}
	sends("first")
	tokenFile(t, path, "the second")
	sends("first") // it is no token
	tokenFile(t, path, "third")
	sends("third")
	was, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	tokenFile(t, path, "other") // as long as the third, and installed with its time
	if err := os.Chtimes(path, was.ModTime(), was.ModTime()); err != nil {
		t.Fatal(err)
	}
	sends("other")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	sends("other")
	if _, err := OpenToken(path, nil); err == nil {
		t.Error("no error without a file")
	}
}

// TestTokenIsNotSentInTheClear to another machine.
func TestTokenIsNotSentInTheClear(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	tokenFile(t, path, "secret")
	token, err := OpenToken(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for uri, want := range map[string]int{"https://192.0.2.1:1/service": 0, "https://far.example:1/service": 0, "https://[::1]:1/service": 1} {
		if m, err := token.GetRequestMetadata(t.Context(), uri); err != nil || len(m) != want {
			t.Errorf("%s: %v, %v", uri, m, err)
		}
	}
}
