package ca

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/certs"
)

// newAuthority returns an authority in a new folder.
func newAuthority(t *testing.T) *Authority {
	t.Helper()
	a, err := Init(filepath.Join(t.TempDir(), "certs"), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

func issueNode(t *testing.T, a *Authority, hosts ...string) string {
	t.Helper()
	file, err := a.IssueNode(Node{Hosts: hosts, Loopback: true})
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func issueClient(t *testing.T, a *Authority, name string) string {
	t.Helper()
	file, err := a.IssueClient(name, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func leaf(t *testing.T, file string) *x509.Certificate {
	t.Helper()
	pair, err := LoadPair(file, KeyOf(file))
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf
}

func pool(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	p, err := trustedBy(file)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// handshake connects a client to a server, each with its certificate, and returns the
// error of the side that rejects the other.
func handshake(t *testing.T, serverFile, clientFile, serverTrusts, clientTrusts, host string) error {
	t.Helper()
	config := func(file string) tls.Certificate {
		pair, err := LoadPair(file, KeyOf(file))
		if err != nil {
			t.Fatal(err)
		}
		return pair
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	server := tls.Server(a, &tls.Config{Certificates: []tls.Certificate{config(serverFile)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool(t, serverTrusts)})
	client := tls.Client(b, &tls.Config{Certificates: []tls.Certificate{config(clientFile)}, RootCAs: pool(t, clientTrusts), ServerName: host})
	deadline := time.Now().Add(30 * time.Second)
	_ = errors.Join(a.SetDeadline(deadline), b.SetDeadline(deadline)) // a pipe always takes them
	rejected := make(chan error, 1)
	go func() {
		_, err := client.Read(make([]byte, 1)) // a rejection arrives after the client's own handshake
		_ = b.Close()                          // unblocks the server
		rejected <- err
	}()
	_, serverErr := server.Write([]byte{1})
	_ = a.Close() // unblocks the client
	return errors.Join(<-rejected, serverErr)
}

func TestFilesOfAnAuthority(t *testing.T) {
	a := newAuthority(t)
	node := issueNode(t, a, "db1.example", "10.0.0.1")
	for name, want := range map[string]os.FileMode{".": 0o700, CertFile: 0o644, KeyFile: 0o600,
		"node-db1.example.pem": 0o644, "node-db1.example.key": 0o600} {
		info, err := os.Stat(a.path(name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, %v; want %v", name, info.Mode().Perm(), err, want)
		}
	}
	c := leaf(t, node)
	if !certs.OfNode(&tls.ConnectionState{PeerCertificates: []*x509.Certificate{c}, VerifiedChains: [][]*x509.Certificate{{c}}}, DefaultNodeName) {
		t.Error("the certificate of a node is not taken for one")
	}
	for _, host := range []string{"db1.example", "10.0.0.1", "localhost", "127.0.0.1", "::1", DefaultNodeName} {
		if err := c.VerifyHostname(host); err != nil {
			t.Error(err)
		}
	}
	if a.cert.MaxPathLen != 0 || !a.cert.MaxPathLenZero || c.IsCA {
		t.Error("a certificate that was issued could issue others")
	}
	if days := time.Until(a.cert.NotAfter).Hours() / 24; days < AuthorityDays-2 || days > AuthorityDays {
		t.Errorf("the authority is valid for %f days", days)
	}
}

func TestNothingIsOverwritten(t *testing.T) {
	a := newAuthority(t)
	issueNode(t, a, "db1")
	issueClient(t, a, "web")
	before := contents(t, a.dir)
	if _, err := a.IssueNode(Node{Hosts: []string{"db1"}}); err == nil || !strings.Contains(err.Error(), "rotate") {
		t.Error(err)
	}
	if _, err := a.IssueClient("web", "", 0); err == nil {
		t.Error("the certificate of a client was overwritten")
	}
	a.Close()
	if _, err := Init(a.dir, 0); err == nil || !strings.Contains(err.Error(), "exists already") {
		t.Error(err)
	}
	if after := contents(t, a.dir); after != before {
		t.Error("a file has changed")
	}
}

func contents(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		raw, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all.WriteString(e.Name() + "\n" + string(raw))
	}
	return all.String()
}

func TestClientsAreNoNodes(t *testing.T) {
	a := newAuthority(t)
	issueNode(t, a, "db1.example")
	if _, err := a.IssueNode(Node{Hosts: []string{"db2.example"}, NodeName: "orders-node"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{DefaultNodeName, "DKV-Node", "orders-node", "db1.example", "localhost", "", " x", "a\nb", strings.Repeat("ä", 40)} {
		if file, err := a.IssueClient(name, "", 0); err == nil {
			t.Errorf("%q has the certificate %s", name, file)
		}
	}
	for name, san := range map[string]func(*x509.Certificate) []string{
		"reports":              func(c *x509.Certificate) []string { return c.DNSNames },
		"spiffe://cluster/web": func(c *x509.Certificate) []string { return []string{c.URIs[0].String()} },
		"Jo Doe":               func(c *x509.Certificate) []string { return []string{c.Subject.CommonName} },
	} {
		c := leaf(t, issueClient(t, a, name))
		if !slices.Contains(certs.Names(c), name) || !slices.Equal(san(c), []string{name}) {
			t.Errorf("%q: the certificate carries %q", name, certs.Names(c))
		}
		if serves(c) || !slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}) {
			t.Errorf("%q: the certificate could be a server's", name)
		}
	}
}

func TestHostsOfNodes(t *testing.T) {
	a := newAuthority(t)
	for _, host := range []string{"", "db1:8080", "http://db1", "0.0.0.0", "::", "a b", "-x", "x.", "*.*.example", strings.Repeat("a", 64)} {
		if _, err := a.IssueNode(Node{Hosts: []string{host}}); err == nil {
			t.Errorf("%q is taken for a host", host)
		}
	}
	if _, err := a.IssueNode(Node{}); err == nil {
		t.Error("a node without a name has a certificate")
	}
	issueNode(t, a, "*.example")
	issueNode(t, a, "fe80::1")
	issueNode(t, a)
}

func TestHandshake(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	node, client := issueNode(t, a, "db1.example"), issueClient(t, a, "web")
	own, foreign := a.path(CertFile), other.path(CertFile)
	for name, c := range map[string]struct {
		server, client, serverTrusts, clientTrusts, host string
		ok                                               bool
	}{
		"client":                         {node, client, own, own, "db1.example", true},
		"node to node":                   {node, node, own, own, DefaultNodeName, true},
		"another host":                   {node, client, own, own, "db2.example", false},
		"server of another authority":    {node, client, own, foreign, "db1.example", false},
		"client of another authority":    {node, issueClient(t, other, "web"), own, own, "db1.example", false},
		"a client that acts as a server": {client, client, own, own, "web", false},
	} {
		if err := handshake(t, c.server, c.client, c.serverTrusts, c.clientTrusts, c.host); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFoldersAndKeysOthersCanReach(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Init(dir, 0); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Error(err)
	}
	a := newAuthority(t)
	if _, err := Open(a.dir); err == nil {
		t.Error("an authority is open twice")
	}
	a.Close()
	if err := os.Chmod(a.path(KeyFile), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(a.dir); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Error(err)
	}
	if _, err := Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "-certs init") {
		t.Error(err)
	}
}
