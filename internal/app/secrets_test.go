package app

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/auth/token"
	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/internal/testkit/certs"
)

// canaries are secrets that no output of a node may contain, by what they are.
type canaries map[string]string

// absent fails if an output contains a canary.
func (c canaries) absent(t *testing.T, where, output string) {
	t.Helper()
	for what, secret := range c {
		if strings.Contains(output, secret) {
			t.Errorf("%s contains %s", where, what)
		}
	}
}

// secretBody returns what is in a PEM file between its first and last line, of which any line
// is enough to be recognised.
func secretBody(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	if len(lines) < 3 {
		t.Fatalf("%s has %d lines", path, len(lines))
	}
	return lines[1]
}

// fetch returns what a path answers to a token, whatever the status is.
func fetch(t *testing.T, client *http.Client, url, bearer string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(resp.Status, resp.Header, string(body))
}

// TestSecretsStayInTheirFiles: a token, a wrong token, an encryption key and a private key do
// not appear in the log at its most talkative, in metrics, in status pages, in errors, or in
// files that the node writes.
func TestSecretsStayInTheirFiles(t *testing.T) {
	good, wrong := token.New(), token.New()
	hash, err := token.Hash(good)
	if err != nil {
		t.Fatal(err)
	}
	authFile := filepath.Join(t.TempDir(), "auth.yaml")
	identities := "identities:\n  - name: operator\n    tokens: [" + hash + "]\n    grants: [{role: admin}]\n"
	if err := os.WriteFile(authFile, []byte(identities), 0o600); err != nil {
		t.Fatal(err)
	}
	authority := certs.New(t)
	cert := authority.Node(t)
	key := keyFile(t, "7")
	secrets := canaries{
		"a token":           good,
		"a wrong token":     wrong,
		"an encryption key": strings.Repeat("07", 32),
		"that key's bytes":  strings.Repeat("\x07", 32),
		"a private key":     secretBody(t, cert.KeyFile),
	}
	audit := filepath.Join(t.TempDir(), "audit")
	p := start(t, "--log-level", "debug", "--pprof", "--db-engine", "badger", "--encryption-key-file", key, "--auth-file", authFile,
		"--tls-mode", "off", "--audit-log", audit)
	kv := serverpb.NewDKVClient(connect(t, p.grpc()))
	put := func(bearer string) error {
		ctx := metadata.AppendToOutgoingContext(testkit.Within(t, testkit.Patience), "authorization", "Bearer "+bearer)
		_, err := kv.Put(ctx, &serverpb.PutRequest{Key: []byte("k"), Value: []byte("v")})
		return err
	}
	if err := put(good); err != nil {
		t.Fatal(err)
	}
	err = put(wrong)
	if status.Code(err) != codes.Unauthenticated {
		t.Fatalf("a wrong token: %v", err)
	}
	secrets.absent(t, "an error", err.Error())
	client := &http.Client{Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	for _, path := range []string{"/", "/health", "/health/quick", "/metrics", "/debug/vars", "/debug/pprof/goroutine?debug=2", "/debug/pprof/cmdline",
		"/admin/cluster/status", "/nonesuch?token=x"} {
		for _, bearer := range []string{good, wrong} {
			secrets.absent(t, path, fetch(t, client, "http://"+p.http()+path, bearer))
		}
	}
	p.stop()
	secrets.absent(t, "the log", p.log.String())
	lines, err := os.ReadFile(audit)
	if err != nil {
		t.Fatal(err)
	}
	secrets.absent(t, "the audit log", string(lines))

	tls := start(t, "--log-level", "debug", "--tls-cert-file", cert.CertFile, "--tls-key-file", cert.KeyFile, "--tls-ca-file", authority.File)
	tls.grpc()
	tls.stop()
	secrets.absent(t, "the log with TLS", tls.log.String())
	printed := runOnce(t, "--print-config", "--db-engine", "badger", "--encryption-key-file", key, "--auth-file", authFile, "--listen-addr", "127.0.0.1:0",
		"--http-listen-addr", "127.0.0.1:0", "--tls-mode", "off")
	secrets.absent(t, "--print-config", printed)
}

// runOnce returns what dkvsrv prints for an action that ends by itself.
func runOnce(t *testing.T, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	Main(t.Context(), Process{Args: args, Stdout: &out, Stderr: &out})
	if out.Len() == 0 {
		t.Errorf("%q printed nothing", args)
	}
	return out.String()
}

// TestDamagedSecretsAreNotQuoted: an error about a file with a secret says which file, and
// nothing of what is in it.
func TestDamagedSecretsAreNotQuoted(t *testing.T) {
	const secret = "s3cr3t-canary"
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("identities: "+secret+"\n"+secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	authority := certs.New(t)
	cert := authority.Node(t)
	for name, args := range map[string][]string{
		"encryption-key-file":          {"--db-engine", "badger", "--encryption-key-file", file},
		"encryption-previous-key-file": {"--db-engine", "badger", "--encryption-key-file", keyFile(t, "1"), "--encryption-previous-key-file", file},
		"tls-key-file":                 {"--tls-cert-file", cert.CertFile, "--tls-key-file", file, "--tls-ca-file", authority.File},
	} {
		printed := runOnce(t, append([]string{"--check-config", "--db-folder", filepath.Join(dir, "db")}, args...)...)
		canaries{"a secret": secret}.absent(t, name, printed)
		if !strings.Contains(printed, file) {
			t.Errorf("%s: the error does not name the file: %s", name, printed)
		}
	}
}
