package app

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/auth/token"
	"github.com/dkvdb/dkv/internal/certs"
	"github.com/dkvdb/dkv/internal/testkit"
	tlskit "github.com/dkvdb/dkv/internal/testkit/certs"
)

// write writes a file of a test.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestSlavesThatAreNoNodes follow a master: one by the name in its certificate, one by a
// token, with a certificate that the master does not know. A slave that has neither gets
// nothing.
func TestSlavesThatAreNoNodes(t *testing.T) {
	authority, other := tlskit.New(t), tlskit.Named(t, "another authority")
	secret := token.New()
	hash, err := token.Hash(secret)
	if err != nil {
		t.Fatal(err)
	}
	identities := write(t, `identities:
  - {name: app, certificates: [app.dkv.test], grants: [{role: admin}]}
  - {name: named, certificates: [named.dkv.test], grants: [{role: replication}, {role: admin}]}
  - {name: shown, tokens: [`+hash+`], grants: [{role: replication}]}
`)
	master := securedMasters(t, authority, certs.Required, 1, "--disable-discovery-client", "--auth-file", identities)[0]
	app := authority.Issue(t, "app.dkv.test")
	if _, err := clientOf(t, master.listen, showing(&app, authority.Pool)).Put(testkit.Within(t, testkit.Patience), []byte("k"), []byte("v")); err != nil {
		t.Fatal(err)
	}
	host, err := testkit.Host()
	if err != nil {
		t.Fatal(err)
	}
	slave := func(own tlskit.Certificate, args ...string) *credentialed {
		t.Helper()
		c := &credentialed{process: unstarted(t, append(args, "--role", "slave", "--disable-discovery-client", "--repl-mode", "stream",
			"--repl-master-addr", master.listen, "--slave-linearizable", "reject")...)}
		c.credential(t, own, authority.File, other.File)
		c.begin(c.with(certs.Required)...)
		return c
	}
	trusted := authority.Pool.Clone()
	other.Trust(trusted)
	has := func(c *credentialed) bool {
		resp, err := serverpb.NewDKVClient(connectBy(t, c.listen, showing(nil, trusted))).Get(testkit.Within(t, testkit.Patience), &serverpb.GetRequest{Key: []byte("k")})
		return err == nil && string(resp.GetValue()) == "v"
	}
	named := slave(authority.Issue(t, "named.dkv.test", host))
	shown := slave(other.Issue(t, "shown.dkv.test", host), "--repl-token-file", write(t, secret+"\n"))
	neither := slave(other.Issue(t, "neither.dkv.test", host))
	for name, c := range map[string]*credentialed{"by name": named, "by token": shown} {
		testkit.Eventually(t, "the slave has the value "+name, func() bool { return has(c) })
	}
	testkit.Eventually(t, "the health of the slave without rights says why it has no data", func() bool {
		return strings.Contains(healthBy(t, neither, trusted), "lacks the role replication")
	})
	if has(neither) {
		t.Error("a slave without rights has the value")
	}
	// No node would call it as a master, and the former master would not yield to it.
	steps, err := serverpb.NewDKVNodeClient(connectBy(t, named.listen, showing(&app, trusted))).Promote(testkit.Within(t, testkit.Patience), new(serverpb.PromoteRequest))
	for err == nil {
		_, err = steps.Recv()
	}
	if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "tls-node-name") {
		t.Errorf("promotion of a slave whose certificate is not a node's: %v", err)
	}
	if _, err := clientOf(t, master.listen, showing(&app, authority.Pool)).Put(testkit.Within(t, testkit.Patience), []byte("k"), []byte("v2")); err != nil {
		t.Errorf("put at the master afterwards: %v", err)
	}
}

// healthBy returns what GET /health answers over TLS.
func healthBy(t *testing.T, c *credentialed, trusted *x509.CertPool) string {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport, Timeout: testkit.Patience}).Get("https://" + c.ops + "/health")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
