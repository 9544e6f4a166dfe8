package app

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/auth/token"
	"github.com/dkvdb/dkv/internal/testkit"
	kit "github.com/dkvdb/dkv/internal/testkit/certs"
)

// secured is what the clients of a cluster with TLS and authentication have.
type secured struct {
	authority *kit.Authority
	authFile  string
	tokens    map[string]string // by identity
}

// secure returns the arguments of nodes whose identities have these grants, written as in
// auth-file.
func secure(t *testing.T, grants map[string]string) (*secured, []string) {
	t.Helper()
	s := &secured{authority: kit.New(t), authFile: filepath.Join(t.TempDir(), "auth.yaml"), tokens: make(map[string]string)}
	s.write(t, grants)
	node := s.authority.Node(t)
	return s, []string{"--disable-discovery-client", "--auth-file", s.authFile, "--tls-mode", "required",
		"--tls-cert-file", node.CertFile, "--tls-key-file", node.KeyFile, "--tls-ca-file", s.authority.File, "--tls-node-name", kit.NodeName}
}

// write writes the file of identities.
func (s *secured) write(t *testing.T, grants map[string]string) {
	t.Helper()
	text := "identities:\n"
	for name, list := range grants {
		if s.tokens[name] == "" {
			s.tokens[name] = token.New()
		}
		hash, err := token.Hash(s.tokens[name])
		if err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf("  - {name: %s, tokens: [%q], grants: [%s]}\n", name, hash, list)
	}
	if err := os.WriteFile(s.authFile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// connect returns a connection that shows a certificate, or none if it is nil.
func (s *secured) connect(t *testing.T, address string, show ...tls.Certificate) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(credentials.NewTLS(
		&tls.Config{RootCAs: s.authority.Pool, Certificates: show, ServerName: "localhost"})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// as returns a context whose calls are an identity's.
func (s *secured) as(t *testing.T, name string, marks ...string) context.Context {
	return metadata.AppendToOutgoingContext(testkit.Within(t, testkit.Patience), append([]string{"authorization", "Bearer " + s.tokens[name]}, marks...)...)
}

// TestClusterChecksForwardedCalls: every member of a cluster with TLS and auth-file accepts a
// client's call that its grants cover, whichever node leads, and rejects all others. A call that is
// forwarded has the rights of its caller and not those of the node that forwards it, and no
// client can pass for a node.
func TestClusterChecksForwardedCalls(t *testing.T) {
	s, args := secure(t, map[string]string{
		"app":      `{role: read, databases: [default], prefixes: ["a/"]}, {role: write, databases: [default], prefixes: ["a/"]}`,
		"operator": `{role: admin}`,
		"other":    `{role: admin, databases: [other]}`,
	})
	nodes := mastersWith(t, 3, args...)
	put := func(ctx context.Context, conn *grpc.ClientConn, key string) error {
		_, err := serverpb.NewDKVClient(conn).Put(ctx, &serverpb.PutRequest{Key: []byte(key), Value: []byte("v")})
		return err
	}
	for i, p := range nodes {
		conn := s.connect(t, p.grpc())
		testkit.Eventually(t, "a node takes a call that is granted", func() bool { return put(s.as(t, "app"), conn, "a/1") == nil })
		got, err := serverpb.NewDKVClient(conn).Get(s.as(t, "app"), &serverpb.GetRequest{Key: []byte("a/1"), ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
		if err != nil || string(got.GetValue()) != "v" {
			t.Errorf("node %d: %v, %v", i+1, got, err)
		}
		for name, c := range map[string]struct {
			err  error
			code codes.Code
		}{
			"a key that is not granted":       {put(s.as(t, "app"), conn, "b"), codes.PermissionDenied},
			"a token of another database":     {put(s.as(t, "other"), conn, "a/1"), codes.PermissionDenied},
			"no token":                        {put(testkit.Within(t, testkit.Patience), conn, "a/1"), codes.Unauthenticated},
			"a wrong token":                   {put(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer x"), conn, "a/1"), codes.Unauthenticated},
			"the mark of a forwarded call":    {put(s.as(t, "app", "dkv-forwarded", "1"), conn, "a/1"), codes.PermissionDenied},
			"another identity":                {put(s.as(t, "app", "dkv-identity", "operator"), conn, "b"), codes.PermissionDenied},
			"what only operators may do":      {transfer(s.as(t, "app"), conn), codes.PermissionDenied},
			"an operator of another database": {transfer(s.as(t, "other"), conn), codes.PermissionDenied},
		} {
			if status.Code(c.err) != c.code {
				t.Errorf("node %d, %s: %v, want %v", i+1, name, c.err, c.code)
			}
		}
		node := s.authority.Node(t)
		as := metadata.AppendToOutgoingContext(testkit.Within(t, testkit.Patience), "dkv-identity", "app")
		if err := put(as, s.connect(t, p.grpc(), node.Certificate), "b"); status.Code(err) != codes.PermissionDenied {
			t.Errorf("node %d: a node on behalf of an identity, beyond its grants: %v", i+1, err)
		}
		testkit.Eventually(t, "an operator moves the leader", func() bool { return transfer(s.as(t, "operator"), conn) == nil })
	}
	s.checkHTTP(t, nodes[0].http())
}

func transfer(ctx context.Context, conn *grpc.ClientConn) error {
	_, err := serverpb.NewDKVClusterClient(conn).TransferLeader(ctx, &serverpb.TransferLeaderRequest{})
	return err
}

// checkHTTP asks a node over HTTP.
func (s *secured) checkHTTP(t *testing.T, address string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.authority.Pool, ServerName: "localhost"}, DisableKeepAlives: true}}
	for _, c := range []struct {
		method, path, token string
		code                int
	}{
		{"GET", "/livez", "", 200}, {"GET", "/health", "", 401}, {"GET", "/health", "app", 200},
		{"POST", "/admin/pause-writes", "app", 403}, {"POST", "/admin/pause-writes", "operator", 200}, {"POST", "/admin/resume-writes", "operator", 200},
	} {
		req, err := http.NewRequest(c.method, "https://"+address+c.path, strings.NewReader(""))
		if err != nil {
			t.Fatal(err)
		}
		if c.token != "" {
			req.Header.Set("Authorization", "Bearer "+s.tokens[c.token])
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.code {
			t.Errorf("%+v: %s", c, resp.Status)
		}
	}
}
