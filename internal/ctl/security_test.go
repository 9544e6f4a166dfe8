package ctl

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

func TestTokenNeedsProtection(t *testing.T) {
	env := map[string]string{"DKV_TOKEN": "secret"}
	for _, addr := range []string{"192.0.2.1:8080", "db.example:8080", "127.0.0.1:1,192.0.2.1:8080"} {
		expect(t, dkvctl(t, addr, "-get", "k", "-token", "secret"), outcome{code: 2, stderr: "unencrypted"})
		expect(t, runMain(t.Context(), "", env, "-a", addr, "-get", "k"), outcome{code: 2, stderr: "unset DKV_TOKEN"})
	}
	expect(t, dkvctl(t, "", "-bench", "-token", "secret", "-ref", "192.0.2.1:1"), outcome{code: 2, stderr: "192.0.2.1:1 unencrypted"})
}

func TestTokenIsSent(t *testing.T) {
	f := startFake(t)
	env := map[string]string{"DKV_TOKEN": "from-env"}
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"-get", "k"}, "Bearer from-env"},
		{[]string{"-get", "k", "-token", "from-flag"}, "Bearer from-flag"},
	}
	for _, tt := range tests {
		runMain(t.Context(), "", env, append([]string{"-a", f.addr}, tt.args...)...)
		if got := f.meta.Get("authorization"); len(got) != 1 || got[0] != tt.want {
			t.Errorf("%v sends %q, want %q", tt.args, got, tt.want)
		}
	}
}

func TestAuthorityIsSent(t *testing.T) {
	f := startFake(t)
	dkvctl(t, f.addr, "-get", "k", "-authority", "orders.dkv")
	if got := f.meta.Get(":authority"); len(got) != 1 || got[0] != "orders.dkv" {
		t.Errorf("authority is %q", got)
	}
}

// certificate makes a self-signed certificate for name and its PEM files.
func certificate(t *testing.T, name string) (cert tls.Certificate, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
	if err := os.WriteFile(certFile, certPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(keyFile, keyPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	if cert, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		t.Fatal(err)
	}
	return cert, certFile, keyFile
}

func TestTLS(t *testing.T) {
	cert, certFile, keyFile := certificate(t, "dkv.test")
	roots := x509.NewCertPool()
	pemBytes, err := os.ReadFile(certFile)
	if err != nil || !roots.AppendCertsFromPEM(pemBytes) {
		t.Fatal("no certificate", err)
	}
	f := startFake(t, grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{cert},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots})))
	f.put("k", "v")
	_, otherFile, _ := certificate(t, "other.test")
	mutual := []string{"-get", "k", "-timeout", "10s", "-cert", certFile, "-key", keyFile}

	expect(t, dkvctl(t, f.addr, append(mutual, "-caCert", certFile)...), outcome{stdout: "v\n"})
	expect(t, dkvctl(t, f.addr, append(mutual, "-caCert", certFile, "-authority", "dkv.test")...), outcome{stdout: "v\n"})
	expect(t, dkvctl(t, f.addr, append(mutual, "-caCert", certFile, "-token", "t")...), outcome{stdout: "v\n"})
	expect(t, dkvctl(t, f.addr, append(mutual, "-caCert", certFile, "-authority", "else.test")...), outcome{code: 1, stderr: "not else.test"})
	expect(t, dkvctl(t, f.addr, append(mutual, "-caCert", otherFile)...), outcome{code: 1, stderr: "certificate"})
	expect(t, dkvctl(t, f.addr, append(mutual, "-tls")...), outcome{code: 1, stderr: "certificate"})
	expect(t, dkvctl(t, f.addr, "-get", "k", "-timeout", "2s"), outcome{code: 1, stderr: "cannot reach"})
	expect(t, dkvctl(t, f.addr, "-get", "k", "-cert", certFile), outcome{code: 2, stderr: "belong together"})
	expect(t, dkvctl(t, f.addr, "-get", "k", "-caCert", keyFile), outcome{code: 1, stderr: "no PEM certificate"})
	expect(t, dkvctl(t, f.addr, "-get", "k", "-caCert", filepath.Join(t.TempDir(), "none")), outcome{code: 1, stderr: "-caCert"})
	expect(t, dkvctl(t, f.addr, "-get", "k", "-cert", keyFile, "-key", certFile), outcome{code: 1, stderr: "-cert, -key"})
}
