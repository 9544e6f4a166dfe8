// Package certs makes TLS certificates for tests: an authority of the test's own, and
// certificates that it has signed, as files and in memory.
package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority is a certificate authority.
type Authority struct {
	// Pool trusts the authority, and File is its certificate in PEM.
	Pool *x509.CertPool
	File string

	dir    string
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	issued int64
}

// Certificate is a certificate that an authority has signed, in memory and as files in PEM.
type Certificate struct {
	tls.Certificate
	CertFile, KeyFile string
}

// New returns an authority whose files are removed when the test ends.
func New(t testing.TB) *Authority {
	t.Helper()
	return Named(t, "authority")
}

// Named returns an authority with a name. A server names the authorities that it trusts, and
// a client may show no certificate of others: those of New have one name, so that it does.
func Named(t testing.TB, name string) *Authority {
	t.Helper()
	a := &Authority{dir: t.TempDir(), Pool: x509.NewCertPool()}
	own := a.sign(t, "authority", &x509.Certificate{
		Subject: pkix.Name{CommonName: name},
		IsCA:    true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	a.cert, a.key, a.File = own.Leaf, own.PrivateKey.(*ecdsa.PrivateKey), own.CertFile
	a.Pool.AddCert(own.Leaf)
	return a
}

// Trust adds the authority to a pool.
func (a *Authority) Trust(pool *x509.CertPool) { pool.AddCert(a.cert) }

// NodeName is the DNS name that the certificates of nodes carry by default.
const NodeName = "dkv-node"

// validity is for how long certificates are valid: longer than what a node calls soon.
const validity = 60 * 24 * time.Hour

// Request is what a certificate should be.
type Request struct {
	// Hosts are IP addresses and DNS names.
	Hosts []string
	// Name is the common name; "" gives each certificate its own.
	Name string
	// NotBefore and NotAfter are when it is valid; the zero time is an hour ago, and in two
	// months.
	NotBefore, NotAfter time.Time
	// Usages are what it may be used for; nil is as a server and as a client.
	Usages []x509.ExtKeyUsage
}

// Issue returns a certificate for a server or client at the given hosts, which are IP
// addresses or names.
func (a *Authority) Issue(t testing.TB, hosts ...string) Certificate {
	t.Helper()
	return a.Sign(t, Request{Hosts: hosts})
}

// Node returns a certificate of a node that is reached on this machine.
func (a *Authority) Node(t testing.TB) Certificate {
	t.Helper()
	return a.Issue(t, NodeName, "localhost", "127.0.0.1")
}

// Sign returns a certificate as requested.
func (a *Authority) Sign(t testing.TB, r Request) Certificate {
	t.Helper()
	template := &x509.Certificate{
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: r.Usages,
		NotBefore:   r.NotBefore,
		NotAfter:    r.NotAfter,
		Subject:     pkix.Name{CommonName: r.Name},
	}
	if r.Usages == nil {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	for _, host := range r.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	return a.sign(t, fmt.Sprintf("certificate%d", a.issued), template)
}

// sign completes a template and signs it, by itself if there is no authority yet.
func (a *Authority) sign(t testing.TB, name string, template *x509.Certificate) Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a.issued++
	template.SerialNumber = big.NewInt(a.issued)
	if template.Subject.CommonName == "" {
		template.Subject.CommonName = name
	}
	if template.NotBefore.IsZero() {
		template.NotBefore = time.Now().Add(-time.Hour)
	}
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(validity)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	rawKey, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: rawKey})
	out := Certificate{CertFile: filepath.Join(a.dir, name+".pem"), KeyFile: filepath.Join(a.dir, name+".key")}
	if err := os.WriteFile(out.CertFile, certPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(out.KeyFile, keyPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	if out.Certificate, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		t.Fatal(err)
	}
	return out
}
