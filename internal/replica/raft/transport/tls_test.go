package transport

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/testkit"
)

// certified returns the two ends' configuration for nodes at a loopback address.
func certified(t *testing.T, ip net.IP) (server, client *tls.Config) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{ip}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	own := []tls.Certificate{{Certificate: [][]byte{raw}, PrivateKey: private}}
	return &tls.Config{Certificates: own, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert},
		&tls.Config{Certificates: own, RootCAs: pool, ServerName: ip.String()}
}

// Messages and snapshots pass secured connections, and those that are not secured, or show
// no certificate, do not pass.
func TestConnectionsAreSecured(t *testing.T) {
	host, err := testkit.Host()
	if err != nil {
		t.Fatal(err)
	}
	server, client := certified(t, net.ParseIP(host))
	secure := func(_ *node, o *Options) {
		o.ServerTLS = func() (*tls.Config, error) { return server, nil }
		o.ClientTLS = func(string) (*tls.Config, error) { return client, nil }
	}
	a, b := start(t, secure), start(t, secure)
	line := a.connect(t.Context(), b.addr)
	for i := range uint64(3) {
		if err := line.SendMessageBatch(batch(i, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, "messages come", func() bool { return len(b.received()) == 3 })
	if err := send(t, a, b.addr, chunksOf(3)); err != nil {
		t.Error(err)
	}
	if _, err := start(t).GetConnection(t.Context(), b.addr); err == nil {
		t.Error("a node in the clear gets in")
	}
	bare := client.Clone()
	bare.Certificates = nil
	unknown := start(t, func(_ *node, o *Options) {
		o.ClientTLS = func(string) (*tls.Config, error) { return bare, nil }
	})
	if _, err := unknown.GetConnection(t.Context(), b.addr); err == nil {
		t.Error("a node without a certificate gets in")
	}
}
