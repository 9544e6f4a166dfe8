package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// foreign issues certificates of the shapes that other authorities' tools write.
type foreign struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  crypto.Signer
}

func (f *foreign) issue(name string, key crypto.Signer, ca bool) *x509.Certificate {
	f.t.Helper()
	serial, err := newSerial()
	if err != nil {
		f.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(48 * time.Hour), BasicConstraintsValid: true, IsCA: ca}
	if ca {
		template.KeyUsage = x509.KeyUsageCertSign
	} else {
		template.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
		template.DNSNames = []string{name, DefaultNodeName}
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	parent, signer := f.cert, f.key
	if parent == nil {
		parent, signer = template, key
	}
	cert, err := sign(template, parent, key.Public(), signer)
	if err != nil {
		f.t.Fatal(err)
	}
	return cert
}

func (f *foreign) write(name, kind string, der []byte) string {
	f.t.Helper()
	return f.writeRaw(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func (f *foreign) writeRaw(name string, raw []byte) string {
	f.t.Helper()
	file := filepath.Join(f.dir, name)
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		f.t.Fatal(err)
	}
	return file
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// TestCertificatesOfOtherAuthorities holds that files as cert-manager and step-ca write
// them are read: RSA keys in PKCS#8 and PKCS#1, EC keys in SEC 1 (with the curve before it,
// as openssl writes it), and chains with an intermediate authority.
func TestCertificatesOfOtherAuthorities(t *testing.T) {
	f := &foreign{t: t, dir: t.TempDir()}
	rootKey := must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048))
	root := f.issue("root", rootKey, true)
	f.cert, f.key = root, rootKey
	middleKey := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	middle := f.issue("intermediate", middleKey, true)
	caFile := f.writeRaw("root.crt", encodeCertificates(root))

	rsaKey := must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048))
	f.writeRaw("rsa8.pem", encodeCertificates(f.issue("rsa8.example", rsaKey, false)))
	f.write("rsa8.key", "PRIVATE KEY", must[[]byte](t)(x509.MarshalPKCS8PrivateKey(rsaKey)))
	f.writeRaw("rsa1.pem", encodeCertificates(f.issue("rsa1.example", rsaKey, false)))
	f.write("rsa1.key", "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey))

	f.cert, f.key = middle, middleKey
	ecKey := must[*ecdsa.PrivateKey](t)(newKey())
	f.writeRaw("chain.pem", encodeCertificates(f.issue("chain.example", ecKey, false), middle))
	f.writeRaw("chain.key", bytes.Join([][]byte{
		pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 0}}),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: must[[]byte](t)(x509.MarshalECPrivateKey(ecKey))}),
	}, nil))
	for _, name := range []string{"rsa8", "rsa1", "chain"} {
		file := filepath.Join(f.dir, name+".pem")
		r := Show([]string{file}, caFile, "")[0]
		if r.Problem != "" || r.Kind != OfNode || r.DaysLeft < 1 || r.DaysLeft > 2 || r.Names[0] != name+".example" {
			t.Errorf("%+v", r)
		}
		if err := handshake(t, file, file, caFile, caFile, name+".example"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	alone := f.writeRaw("alone.pem", encodeCertificates(f.issue("alone.example", ecKey, false)))
	if r := Show([]string{alone}, caFile, "")[0]; !strings.Contains(r.Problem, "unknown authority") {
		t.Errorf("without the intermediate authority: %+v", r)
	}
}

func TestProblemsOfFiles(t *testing.T) {
	a := newAuthority(t)
	f := &foreign{t: t, dir: t.TempDir(), cert: a.cert, key: a.key}
	key := must[*ecdsa.PrivateKey](t)(newKey())
	good := f.issue("db1", key, false)
	keyDER := must[[]byte](t)(x509.MarshalPKCS8PrivateKey(key))
	for name, c := range map[string]struct {
		raw  []byte
		want string
	}{
		"empty":   {nil, "no PEM certificate"},
		"text":    {[]byte("hello"), "no PEM certificate"},
		"der":     {good.Raw, "openssl x509 -inform der"},
		"key":     {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), "but a PRIVATE KEY"},
		"garbage": {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("garbage")}), "certificate 1 in it cannot be read"},
		"cut":     {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: good.Raw[:100]}), "certificate 1 in it cannot be read"},
		"large":   {make([]byte, largest+1), "larger than"},
	} {
		file := f.writeRaw(name+".pem", c.raw)
		if r := Show([]string{file}, a.path(CertFile), "")[0]; !strings.Contains(r.Problem, c.want) {
			t.Errorf("%s: the problem is %q, want %q", name, r.Problem, c.want)
		}
	}
	for name, c := range map[string]struct {
		raw  []byte
		want string
	}{
		"empty":     {nil, "no PEM private key"},
		"der":       {keyDER, "no PEM private key"},
		"encrypted": {pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: keyDER}), "is encrypted"},
		"older":     {pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Headers: map[string]string{"DEK-Info": "AES-128-CBC,00"}, Bytes: keyDER}), "is encrypted"},
		"dsa":       {pem.EncodeToMemory(&pem.Block{Type: "DSA PRIVATE KEY", Bytes: keyDER}), "not supported"},
		"garbage":   {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("garbage")}), "cannot be read"},
	} {
		file := f.writeRaw(name+".key", c.raw)
		if _, err := ReadKey(file); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestExpiredCertificate(t *testing.T) {
	a := newAuthority(t)
	key := must[*ecdsa.PrivateKey](t)(newKey())
	serial := a.cert.SerialNumber
	for want, times := range map[string][2]time.Duration{"has expired": {-48 * time.Hour, -24 * time.Hour}, "not valid before": {time.Hour, 24 * time.Hour}} {
		cert := must[*x509.Certificate](t)(sign(&x509.Certificate{SerialNumber: serial, NotBefore: time.Now().Add(times[0]), NotAfter: time.Now().Add(times[1])}, a.cert, key.Public(), a.key))
		file := a.path("x.pem")
		if err := os.WriteFile(file, encodeCertificates(cert), 0o600); err != nil {
			t.Fatal(err)
		}
		if r := Show([]string{file}, a.path(CertFile), "")[0]; !strings.Contains(r.Problem, want) {
			t.Errorf("%+v, want %q", r, want)
		}
	}
}

func FuzzFiles(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"))
	f.Add([]byte("-----BEGIN EC PRIVATE KEY-----\nDEK-Info: x\n\nMAA=\n-----END EC PRIVATE KEY-----\n"))
	f.Add([]byte{0x30, 0x82})
	f.Fuzz(func(t *testing.T, raw []byte) {
		if certs, err := parseCertificates(raw); (err == nil) != (len(certs) > 0) {
			t.Errorf("%d certificates, %v", len(certs), err)
		}
		if key, err := parseKey(raw); (err == nil) != (key != nil) {
			t.Errorf("key %v, %v", key, err)
		}
	})
}

// TestNamesAreShownOnce: the first address of a node is its common name too.
func TestNamesAreShownOnce(t *testing.T) {
	a := newAuthority(t)
	file := issueNode(t, a, "127.0.0.1", "localhost", "127.0.0.1")
	r := Show([]string{file}, a.path(CertFile), "")[0]
	if want := []string{"localhost", DefaultNodeName, "127.0.0.1", "::1"}; !slices.Equal(r.Names, want) {
		t.Errorf("%q, not %q", r.Names, want)
	}
	if n := len(leaf(t, file).IPAddresses); n != 2 {
		t.Errorf("%d addresses in the certificate", n)
	}
}
