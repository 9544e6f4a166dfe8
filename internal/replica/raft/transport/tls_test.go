package transport

import (
	"crypto/tls"
	"testing"

	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/internal/testkit/certs"
)

// certified returns the two ends' configuration for nodes at a loopback address.
func certified(t *testing.T, host string) (server, client *tls.Config) {
	t.Helper()
	authority := certs.New(t)
	own := []tls.Certificate{authority.Issue(t, host).Certificate}
	return &tls.Config{Certificates: own, ClientCAs: authority.Pool, ClientAuth: tls.RequireAndVerifyClientCert},
		&tls.Config{Certificates: own, RootCAs: authority.Pool, ServerName: host}
}

// Messages and snapshots pass secured connections, and those that are not secured, or show
// no certificate, do not pass.
func TestConnectionsAreSecured(t *testing.T) {
	host, err := testkit.Host()
	if err != nil {
		t.Fatal(err)
	}
	server, client := certified(t, host)
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
