package chaos

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/dkvdb/dkv/internal/auth/token"
	"github.com/dkvdb/dkv/internal/testkit/certs"
)

var secure = flag.Bool("chaos.secure", false, "run all nodes with TLS and an auth-file, and all clients with a token")

// security is what the nodes and clients of a cluster show each other; nil without
// -chaos.secure.
type security struct {
	flags []string
	ca    string
	tls   *tls.Config // of clients
	token string
}

// newSecurity makes the certificate of all nodes and the token of all clients, with files
// in a folder.
func newSecurity(t *testing.T, dir string) *security {
	t.Helper()
	if !*secure {
		return nil
	}
	authority := certs.New(t)
	hosts := []string{certs.NodeName, "localhost", "127.0.0.1"}
	for i := range mostNetworks {
		hosts = append(hosts, nodeIP(i))
	}
	node := authority.Issue(t, hosts...)
	s := &security{ca: authority.File, token: token.New(), tls: &tls.Config{RootCAs: authority.Pool, ServerName: certs.NodeName}}
	hash, err := token.Hash(s.token)
	if err != nil {
		t.Fatal(err)
	}
	identities := filepath.Join(dir, "auth.yaml")
	text := fmt.Sprintf("identities:\n  - {name: client, tokens: [%q], grants: [{role: admin}]}\n", hash)
	if err := os.WriteFile(identities, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.flags = []string{"--tls-mode", "required", "--tls-ca-file", authority.File,
		"--tls-cert-file", node.CertFile, "--tls-key-file", node.KeyFile, "--auth-file", identities}
	return s
}

// nodeFlags are what a node needs so that the clients may call it. Without security they
// come from another address of the test's network.
func (s *security) nodeFlags() []string {
	if s == nil {
		return []string{"--allow-insecure"}
	}
	return s.flags
}

// environ is what dkvctl needs besides the process's environment.
func (s *security) environ() []string {
	if s == nil {
		return nil
	}
	return []string{"DKVCTL_TLS_CA_FILE=" + s.ca, "DKVCTL_TOKEN=" + s.token}
}

// dialOptions are those of a client's connection.
func (s *security) dialOptions() []grpc.DialOption {
	if s == nil {
		return []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	}
	return []grpc.DialOption{grpc.WithTransportCredentials(credentials.NewTLS(s.tls)), grpc.WithPerRPCCredentials(bearer(s.token))}
}

// bearer is a token that is sent with each call.
type bearer string

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (b bearer) RequireTransportSecurity() bool { return true }

// get asks a path of the node's HTTP server.
func (n *node) get(path string) (*http.Response, error) {
	transport := &http.Transport{DialContext: n.c.clients.dial, DisableKeepAlives: true}
	client := http.Client{Timeout: 5 * time.Second, Transport: transport}
	s := n.c.security
	if s == nil {
		return client.Get("http://" + n.http + path)
	}
	transport.TLSClientConfig = s.tls
	req, err := http.NewRequest(http.MethodGet, "https://"+n.http+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	return client.Do(req)
}
