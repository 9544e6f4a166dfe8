package dkv

import (
	"context"
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/internal/testkit/certs"
)

// putFile replaces a file as tools for certificates and secrets do, with one rename.
func putFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// TestTokenFileIsReadAgain changes a token as operators do. The file may be missing or
// half written for a while.
func TestTokenFileIsReadAgain(t *testing.T) {
	f := &tokenFile{path: filepath.Join(t.TempDir(), "token")}
	expect := func(want string) {
		t.Helper()
		if r := f.read.Load(); r != nil { // as if tokenCheck had passed
			earlier := *r
			earlier.checked -= int64(tokenCheck)
			f.read.Store(&earlier)
		}
		if got, err := f.token(t.Context()); err != nil || got != want {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	putFile(t, f.path, "first\n")
	expect("first")
	if err := os.Remove(f.path); err != nil {
		t.Fatal(err)
	}
	expect("first")
	putFile(t, f.path, "second")
	expect("second")
	putFile(t, f.path, "two words")
	expect("second")
	putFile(t, f.path, "")
	expect("second")
	putFile(t, f.path, "third")
	expect("third")
	// What installs a file may set its time, and tokens are of one length.
	for _, token := range []string{"alpha", "omega"} {
		if err := os.WriteFile(f.path, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(f.path, time.Time{}, time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
		expect(token)
	}
}

// TestTokenOfAFileIsSent replaces the file of an open client's token.
func TestTokenOfAFileIsSent(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	putFile(t, file, "first")
	var sent atomic.Value
	cl := newCluster(t, 1, 1)
	cl.nodes[0].fail(func(ctx context.Context, _ string) error {
		sent.Store(strings.Join(metadata.ValueFromIncomingContext(ctx, "authorization"), ","))
		return nil
	}, nil)
	c := ready(t, cl.addrs(), WithTokenFile(file))
	for _, token := range []string{"first", "second"} {
		putFile(t, file, token)
		testkit.Eventually(t, token+" is sent", func() bool {
			_, err := c.Put(testkit.Within(t, enough), []byte("k"), nil)
			return err == nil && sent.Load() == "Bearer "+token
		})
	}
}

func TestTokenFileThatIsMissing(t *testing.T) {
	cl := newCluster(t, 1, 1)
	c := open(t, cl.addrs(), WithTokenFile(filepath.Join(t.TempDir(), "none")))
	if _, err := c.Get(testkit.Within(t, enough), []byte("k")); !errors.Is(err, ErrUnauthenticated) {
		t.Error(err)
	}
}

// TestTLSFilesAreReadAgain replaces the certificates of a node and of a client, and the
// authority of both, while a client is open.
func TestTLSFilesAreReadAgain(t *testing.T) {
	first, second := certs.New(t), certs.New(t)
	var server atomic.Pointer[tls.Config]
	serve := func(a *certs.Authority) {
		cert := a.Issue(t, "dkv.test").Certificate
		server.Store(&tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.Pool, NextProtos: []string{"h2"}})
	}
	serve(first)
	cl := &cluster{t: t, history: "h", changed: make(chan struct{})}
	n := startNode(t, cl, "127.0.0.1:0", grpc.Creds(credentials.NewTLS(&tls.Config{
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return server.Load(), nil }})))
	cl.nodes, cl.vBuckets = []*fakeNode{n}, newBuckets(n, 1)

	dir := t.TempDir()
	files := TLSFiles{CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "c.pem"), Key: filepath.Join(dir, "c.key"), ServerName: "dkv.test"}
	own := first.Issue(t, "client")
	putFile(t, files.CA, content(t, first.File))
	putFile(t, files.Cert, content(t, own.CertFile))
	putFile(t, files.Key, content(t, own.KeyFile))
	c := ready(t, n.addr, WithTLSFiles(files))
	again := func() {
		t.Helper()
		c.mu.Lock()
		known := c.nodes[n.addr]
		c.mu.Unlock()
		c.reconnect(known)
		if _, err := c.Put(testkit.Within(t, enough), []byte("k"), nil); err != nil {
			t.Error(err)
		}
	}
	again()
	renewed := second.Issue(t, "client")
	putFile(t, files.Key, content(t, renewed.KeyFile)) // the pair does not match for a moment
	again()
	putFile(t, files.CA, content(t, first.File)+content(t, second.File))
	putFile(t, files.Cert, content(t, renewed.CertFile))
	serve(second)
	again()
}

func TestTLSFilesThatCannotBeUsed(t *testing.T) {
	a := certs.New(t)
	cert, other := a.Issue(t, "client"), a.Issue(t, "other")
	for name, opts := range map[string][]Option{
		"missing":       {WithTLSFiles(TLSFiles{CA: "none"})},
		"no authority":  {WithTLSFiles(TLSFiles{CA: cert.KeyFile})},
		"no key":        {WithTLSFiles(TLSFiles{Cert: cert.CertFile})},
		"another's key": {WithTLSFiles(TLSFiles{Cert: cert.CertFile, Key: other.KeyFile})},
		"both":          {WithTLS(&tls.Config{}), WithTLSFiles(TLSFiles{})},
	} {
		if _, err := Open(t.Context(), "127.0.0.1:1", opts...); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The token is sent unencrypted to no address that the caller names either.
func TestConnKeepsTheTokenHere(t *testing.T) {
	cl := newCluster(t, 1, 1)
	c := ready(t, cl.addrs(), WithToken("secret"))
	conn := c.Conn("192.0.2.1:8080")
	if _, err := serverpb.NewDKVClient(conn).Get(testkit.Within(t, enough), &serverpb.GetRequest{}); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
}

// TestRejectedCallsAreNotRepeated holds that a call with wrong credentials fails at once,
// at one node.
func TestRejectedCallsAreNotRepeated(t *testing.T) {
	cl := newCluster(t, 3, 1)
	c := ready(t, cl.addrs(), WithToken("secret"))
	for code, want := range map[codes.Code]error{codes.Unauthenticated: ErrUnauthenticated, codes.PermissionDenied: ErrPermissionDenied} {
		for _, n := range cl.nodes {
			n.fail(func(_ context.Context, method string) error {
				if method == putMethod || method == getMethod {
					return status.Error(code, "no")
				}
				return nil
			}, nil)
		}
		count := func() (n int) {
			for _, node := range cl.nodes {
				n += node.count(putMethod) + node.count(getMethod)
			}
			return n
		}
		before := count()
		_, err := c.Put(testkit.Within(t, enough), []byte("k"), nil)
		_, readErr := c.Get(testkit.Within(t, enough), []byte("k"), Sequential)
		if !errors.Is(err, want) || !errors.Is(readErr, want) || errors.Is(err, ErrUnavailable) || errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("%v; %v", err, readErr)
		}
		if n := count() - before; n != 2 {
			t.Errorf("two calls were sent %d times", n)
		}
	}
}

// A token costs a call no allocation as long as it stays the same.
func TestTokenCostsNothing(t *testing.T) {
	b := &bearer{source: (&tokenFile{path: os.DevNull}).token}
	if _, err := b.GetRequestMetadata(t.Context()); err == nil {
		t.Error("an empty file holds a token")
	}
	file := filepath.Join(t.TempDir(), "token")
	putFile(t, file, "t")
	b = &bearer{source: (&tokenFile{path: file}).token}
	if _, err := b.GetRequestMetadata(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() {
		if m, err := b.GetRequestMetadata(ctx); err != nil || m["authorization"] != "Bearer t" {
			t.Error(m, err)
		}
	}); n >= 1 {
		t.Errorf("%f allocations", n)
	}
}

// A node ends a stream when the token with which it began is revoked or runs out. The watch goes on with
// the token of now, and ends if that is not accepted either.
func TestWatchOutlivesItsToken(t *testing.T) {
	cl := newCluster(t, 1, 1)
	n := cl.nodes[0]
	var accepts atomic.Value
	accepts.Store("first")
	n.fail(func(ctx context.Context, method string) error {
		if md, _ := metadata.FromIncomingContext(ctx); method == watchMethod && md.Get("authorization")[0] != "Bearer "+accepts.Load().(string) {
			return status.Error(codes.Unauthenticated, "unknown token")
		}
		return nil
	}, nil)
	file := filepath.Join(t.TempDir(), "token")
	putFile(t, file, "first")
	c := ready(t, cl.addrs(), WithTokenFile(file))
	ctx := testkit.Within(t, enough)
	w := watch(t, ctx, c, "", must[Cursor](t)(c.Position(ctx)))
	must[uint64](t)(c.Put(ctx, []byte("a"), nil))
	w.want("a")

	putFile(t, file, "second")
	testkit.Eventually(t, "the client sends the second token", func() bool {
		token, err := c.opts.token(ctx)
		return err == nil && token == "second"
	})
	accepts.Store("second")
	revoked := status.Error(codes.Unauthenticated, "the token was revoked")
	n.expel <- revoked
	must[uint64](t)(c.Put(ctx, []byte("b"), nil))
	w.want("b")

	accepts.Store("third")
	n.expel <- revoked
	w.fails(ErrUnauthenticated)
}
