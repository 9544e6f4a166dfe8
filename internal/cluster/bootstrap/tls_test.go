package bootstrap

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/testkit"
)

// authority is a certificate authority.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.cert, a.key = a.issue(t, "ca", &x509.Certificate{
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

// issue writes a certificate and its key into the authority's folder.
func (a *authority) issue(t *testing.T, name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, template.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: name}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{".pem": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(filepath.Join(a.dir, name+file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// guard is the TLS of a node that the authority vouches for.
func (a *authority) guard(t *testing.T) *TLS {
	t.Helper()
	host, err := testkit.Host()
	if err != nil {
		t.Fatal(err)
	}
	a.issue(t, "node", &x509.Certificate{
		IPAddresses: []net.IP{net.ParseIP(host)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	file := func(name string) string { return filepath.Join(a.dir, name) }
	return &TLS{CA: file("ca.pem"), Cert: file("node.pem"), Key: file("node.key")}
}

func TestFormWithTLS(t *testing.T) {
	guard := newAuthority(t).guard(t)
	urls := reserve(t, 2)
	member, founder := newNode(t, urls[1], urls...), newNode(t, urls[0], urls...)
	member.TLS, founder.TLS = guard, guard
	waiting := member.start(t.Context())
	friend, err := NewClient(guard)
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "it waits", func() bool { _, err := friend.Probe(t.Context(), urls[1]); return err == nil })

	stranger, err := NewClient(newAuthority(t).guard(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*Client{"without TLS": testClient(t), "of another authority": stranger} {
		if _, err := c.Probe(t.Context(), urls[1]); !errors.Is(err, ErrMember) {
			t.Errorf("%s: %v", name, err)
		}
		if err := c.Invite(t.Context(), urls[1], Invitation{}); !errors.Is(err, ErrMember) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, done := lead(t, t.Context(), founder)
	must(t, waiting)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestTLSFiles(t *testing.T) {
	guard := newAuthority(t).guard(t)
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]TLS{
		"no authority":    {CA: empty + "x", Cert: guard.Cert, Key: guard.Key},
		"empty authority": {CA: empty, Cert: guard.Cert, Key: guard.Key},
		"empty":           {CA: guard.CA, Cert: empty, Key: guard.Key},
		"wrong key":       {CA: guard.CA, Cert: guard.CA, Key: guard.Key},
	} {
		if _, err := NewClient(&bad); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
