package app

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/certs"
	"github.com/dkvdb/dkv/internal/testkit"
	tlskit "github.com/dkvdb/dkv/internal/testkit/certs"
)

// stranger is a caller that is no node.
type stranger struct {
	name string
	// tls is how it calls; nil is in the clear.
	tls *tls.Config
	// raft is what the Raft port tells it, by the text of the error; "" is nothing.
	raft string
	// code is that of a call among members, at the gRPC port.
	code codes.Code
}

// showing calls with a certificate, whatever the server asks for.
func showing(own *tlskit.Certificate, trusted *x509.CertPool) *tls.Config {
	c := &tls.Config{RootCAs: trusted}
	if own != nil {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own.Certificate, nil }
	}
	return c
}

// TestClusterThatRequiresTLS founds a cluster with a registry and a slave, which replicates,
// finds its masters and is found, over TLS alone. Strangers can neither speak Raft nor make
// the calls of members, and a node of another authority cannot be added.
func TestClusterThatRequiresTLS(t *testing.T) {
	authority, other := tlskit.New(t), tlskit.New(t)
	identities := filepath.Join(t.TempDir(), "auth.yaml")
	if err := os.WriteFile(identities, []byte(`identities:
  - name: app
    certificates: [app.dkv.test]
    grants: [{role: admin}]
`), 0o600); err != nil {
		t.Fatal(err)
	}
	guarded := []string{"--auth-file", identities}
	registry := begun(t, authority, certs.Required, append(guarded, "--role", "discovery")...)
	registry.grpc()
	listed := append(guarded, "--discovery-service.client.discovery-service-addr", registry.listen)
	masters := securedMasters(t, authority, certs.Required, 3, listed...)
	slave := begun(t, authority, certs.Required, append(listed, "--role", "slave", "--repl-mode", "stream")...)
	slave.grpc()

	app := authority.Issue(t, "app.dkv.test")
	config := showing(&app, authority.Pool)
	if _, err := clientOf(t, addressesOf(masters), config).Put(testkit.Within(t, testkit.Patience), []byte("k"), []byte("v")); err != nil {
		t.Fatal(err)
	}
	kv := serverpb.NewDKVClient(connectBy(t, slave.listen, config))
	testkit.Eventually(t, "the slave has the value", func() bool {
		resp, err := kv.Get(testkit.Within(t, testkit.Patience), &serverpb.GetRequest{Key: []byte("k"), ReadConsistency: serverpb.ReadConsistency_SEQUENTIAL})
		return err == nil && string(resp.GetValue()) == "v"
	})
	rows := serverpb.NewDKVDiscoveryClient(connectBy(t, registry.listen, config))
	testkit.Eventually(t, "the registry lists all four", func() bool {
		resp, err := rows.GetClusterInfo(testkit.Within(t, testkit.Patience), &serverpb.GetClusterInfoRequest{})
		return err == nil && len(resp.GetRegionInfos()) == 4
	})
	t.Run("strangers", func(t *testing.T) { rejectStrangers(t, masters[0], authority, other) })
	t.Run("a node of another authority", func(t *testing.T) { rejectJoin(t, masters[0], other, authority, config) })
}

// rejectStrangers calls a node's ports as each kind of stranger.
func rejectStrangers(t *testing.T, node *credentialed, authority, other *tlskit.Authority) {
	own, client, alien := nodeOf(t, authority), authority.Issue(t, "client.dkv.test"), nodeOf(t, other)
	host, err := testkit.Host()
	if err != nil {
		t.Fatal(err)
	}
	expired := authority.Sign(t, tlskit.Request{
		Hosts: []string{tlskit.NodeName, host}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour),
	})
	for _, s := range []stranger{
		{"a node, for comparison", showing(&own, authority.Pool), "EOF", codes.OK},
		{"in the clear", nil, "", codes.Unavailable},
		{"without a certificate", showing(nil, authority.Pool), "certificate required", codes.Unauthenticated},
		{"another authority", showing(&alien, authority.Pool), "unknown certificate authority", codes.Unavailable},
		{"expired", showing(&expired, authority.Pool), "expired certificate", codes.Unavailable},
		{"a client's certificate", showing(&client, authority.Pool), "bad certificate", codes.Unauthenticated},
	} {
		t.Run(s.name, func(t *testing.T) {
			if err := knock(t, strings.TrimPrefix(node.url, "http://"), s.tls); err == nil || !strings.Contains(err.Error(), s.raft) {
				t.Errorf("the Raft port: %v; want %q", err, s.raft)
			}
			_, err := peerpb.NewMembersClient(connectBy(t, node.listen, s.tls)).Time(testkit.Within(t, testkit.Patience), &peerpb.TimeRequest{})
			if code := status.Code(err); code != s.code && !(s.code == codes.OK && code != codes.Unavailable && code != codes.Unauthenticated && code != codes.PermissionDenied) {
				t.Errorf("the gRPC port: %v; want %v", err, s.code)
			}
		})
	}
}

// knock speaks to a Raft port, and returns the error with which that ends.
func knock(t *testing.T, address string, config *tls.Config) error {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(testkit.Patience))
	if config != nil {
		secure := config.Clone()
		secure.ServerName = tlskit.NodeName
		conn = tls.Client(conn, secure)
	}
	if _, err := conn.Write([]byte("no preface of the transport")); err != nil {
		return err
	}
	_, err = io.ReadFull(conn, make([]byte, 1))
	return err
}

// connectBy is connect with TLS, unless config is nil.
func connectBy(t *testing.T, address string, config *tls.Config) *grpc.ClientConn {
	t.Helper()
	if config == nil {
		return connect(t, address)
	}
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// rejectJoin has a node of another authority wait to join, which the cluster does not add:
// neither trusts the other.
func rejectJoin(t *testing.T, member *credentialed, other, authority *tlskit.Authority, config *tls.Config) {
	url := "http://" + testkit.Address(t)
	joining := begun(t, other, certs.Required, "--role", "master", "--disable-discovery-client", "--nexus-node-url", url, "--nexus-join")
	testkit.Eventually(t, "it waits", func() bool { return strings.Contains(joining.log.String(), "waiting to be added") })
	_, err := serverpb.NewDKVClusterClient(connectBy(t, member.listen, config)).AddNode(testkit.Within(t, testkit.Patience), &serverpb.AddNodeRequest{NodeUrl: url})
	if err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("adding it: %v", err)
	}
	// It trusts the cluster; the cluster still does not trust it.
	joining.credential(t, nodeOf(t, other), other.File, authority.File)
	joining.restartWaiting(certs.Required)
	_, err = serverpb.NewDKVClusterClient(connectBy(t, member.listen, config)).AddNode(testkit.Within(t, testkit.Patience), &serverpb.AddNodeRequest{NodeUrl: url})
	if err == nil {
		t.Error("a node of another authority was added")
	}
}

// restartWaiting starts a node again that then waits to be added to a cluster.
func (c *credentialed) restartWaiting(mode certs.Mode) {
	c.stop()
	c.begin(c.with(mode)...)
	testkit.Eventually(c.t, "it waits", func() bool { return strings.Contains(c.log.String(), "waiting to be added") })
}
