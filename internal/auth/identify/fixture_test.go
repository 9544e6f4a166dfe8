package identify

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/auth/brake"
	"github.com/dkvdb/dkv/internal/auth/token"
	"github.com/dkvdb/dkv/internal/telemetry"
)

// fixture is an open file in a folder of its own, and its log.
type fixture struct {
	*File
	t    testing.TB
	path string
	log  *strings.Builder
}

// open opens a file with the entries given, which are elements of identities.
func open(t testing.TB, entries ...string) *fixture {
	t.Helper()
	f := &fixture{t: t, path: filepath.Join(t.TempDir(), "auth.yaml"), log: new(strings.Builder)}
	f.write(entries...)
	var err error
	f.File, err = Open(f.path, Options{NodeName: "node.dkv", Log: telemetry.NewLogger(telemetry.LogOptions{Writer: f.log})})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// write replaces the file by a rename, as configuration management does.
func (f *fixture) write(entries ...string) {
	f.t.Helper()
	text := "identities:\n"
	for _, e := range entries {
		text += "  - " + e + "\n"
	}
	if err := os.WriteFile(f.path+".new", []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Rename(f.path+".new", f.path); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) reload(entries ...string) {
	f.t.Helper()
	f.write(entries...)
	if err := f.Reload(); err != nil {
		f.t.Fatal(err)
	}
}

// identify fails the test if credentials are rejected.
func (f *fixture) identify(c auth.Credentials) *auth.Identity {
	f.t.Helper()
	i, err := f.Identify(c)
	if err != nil {
		f.t.Fatal(err)
	}
	return i
}

// rejects fails the test if credentials are accepted, or the error tells them apart.
func (f *fixture) rejects(what string, c auth.Credentials) {
	f.t.Helper()
	f.brake = brake.Brake{} // a test has more wrong credentials than a host may send at once
	if i, err := f.Identify(c); err != auth.ErrRejected {
		f.t.Errorf("%s: %+v, %v", what, i, err)
	}
}

// newToken returns a token and its hash.
func newToken(t testing.TB) (text, hash string) {
	t.Helper()
	text = token.New()
	hash, err := token.Hash(text)
	if err != nil {
		t.Fatal(err)
	}
	return text, hash
}

// entry is an identity with tokens, which may read.
func entry(name string, hashes ...string) string {
	return fmt.Sprintf("{name: %s, tokens: [%s], grants: [{role: read}]}", name, strings.Join(hashes, ", "))
}

var host = netip.MustParseAddr("192.0.2.1")

// bearing are credentials with a token.
func bearing(text string) auth.Credentials {
	return auth.Credentials{Authorization: "Bearer " + text, Host: host}
}

// showing are credentials of a connection whose handshake has verified a certificate.
func showing(c tls.Certificate) auth.Credentials {
	return auth.Credentials{Host: host, TLS: &tls.ConnectionState{
		PeerCertificates: []*x509.Certificate{c.Leaf}, VerifiedChains: [][]*x509.Certificate{{c.Leaf}},
	}}
}
