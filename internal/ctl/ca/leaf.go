package ca

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/dkvdb/dkv/internal/certs"
	"github.com/dkvdb/dkv/internal/ctl/files"
	"github.com/dkvdb/dkv/internal/durable"
)

// DefaultNodeName is the name that the certificates of nodes carry (tls-node-name).
const DefaultNodeName = "dkv-node"

// Node says what the certificate of a node is to carry.
type Node struct {
	// Hosts are the names and addresses at which clients reach the node.
	Hosts []string
	// NodeName marks the certificates of nodes; "" is DefaultNodeName.
	NodeName string
	// Loopback adds localhost and its addresses, for dkvctl on the node's own machine.
	Loopback bool
	Days     int // 0 is LeafDays
}

// loopback is how a node is reached from its own machine.
var loopback = []string{"localhost", "127.0.0.1", "::1"}

// IssueNode makes a key and a certificate for a node, and returns the certificate's file.
func (a *Authority) IssueNode(n Node) (string, error) {
	if n.NodeName == "" {
		n.NodeName = DefaultNodeName
	}
	hosts := slices.Clone(n.Hosts)
	if n.Loopback {
		hosts = append(hosts, loopback...)
	}
	if len(hosts) == 0 {
		return "", fmt.Errorf("a node needs the names or addresses at which it is reached")
	}
	t := &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	for _, host := range append(hosts, n.NodeName) {
		if err := addHost(t, host); err != nil {
			return "", err
		}
	}
	t.Subject = subject(hosts[0])
	return a.issue("node-"+fileName(hosts[0]), t, n.Days)
}

// addHost adds a name or an address to a server's certificate, once.
func addHost(t *x509.Certificate, host string) error {
	ip := net.ParseIP(host)
	switch {
	case ip != nil && ip.IsUnspecified():
		return fmt.Errorf("%s is no address at which a node is reached: name its own", host)
	case ip != nil:
		if !slices.ContainsFunc(t.IPAddresses, ip.Equal) {
			t.IPAddresses = append(t.IPAddresses, ip)
		}
	case isDNSName(strings.TrimPrefix(host, "*.")):
		if !slices.Contains(t.DNSNames, host) {
			t.DNSNames = append(t.DNSNames, host)
		}
	default:
		return fmt.Errorf("%q is not the name or address of a host: write it without a port, such as db1.example or 10.0.0.1", host)
	}
	return nil
}

// IssueClient makes a key and a certificate for a client with a name, which auth-file may
// give rights, and returns the certificate's file.
func (a *Authority) IssueClient(name, nodeName string, days int) (string, error) {
	t := &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if err := setClient(t, name); err != nil {
		return "", err
	}
	if nodeName == "" {
		nodeName = DefaultNodeName
	}
	if slices.ContainsFunc(certs.Names(t), func(n string) bool { return strings.EqualFold(n, nodeName) }) {
		return "", fmt.Errorf("%q is the name that the certificates of nodes carry: a client with it would have all rights; name the client otherwise", name)
	}
	if file := a.serverNamed(name); file != "" {
		return "", fmt.Errorf("%s, the certificate of a node, carries the name %q already: a client with it might be taken for a node; name the client otherwise", file, name)
	}
	return a.issue("client-"+fileName(name), t, days)
}

// setClient puts a client's name where certs.Names looks for it: into the common name, and
// as an alternative name of the kind that it looks like.
func setClient(t *x509.Certificate, name string) error {
	if name == "" || strings.IndexFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0 || strings.TrimSpace(name) != name {
		return fmt.Errorf("%q is not a name for a client: use printable characters", name)
	}
	t.Subject = subject(name)
	uri, err := url.Parse(name)
	switch {
	case err == nil && uri.Scheme != "" && uri.Host != "":
		t.URIs = []*url.URL{uri}
	case isDNSName(name):
		t.DNSNames = []string{name}
	case t.Subject.CommonName == "":
		return fmt.Errorf("%q is too long for a client's name: %d bytes, unless it is a DNS name or a URI", name, maxCommonName)
	}
	return nil
}

// serverNamed returns the file of a certificate in the folder for servers that carries a
// name; "" if there is none.
func (a *Authority) serverNamed(name string) string {
	for _, file := range a.leaves() {
		own, err := ReadCertificates(file)
		if err == nil && serves(own[0]) && slices.ContainsFunc(certs.Names(own[0]), func(n string) bool { return strings.EqualFold(n, name) }) {
			return file
		}
	}
	return ""
}

func serves(c *x509.Certificate) bool {
	return slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
}

// maxCommonName is the most that X.509 allows for a common name.
const maxCommonName = 64

// subject returns a subject with a common name, or an empty one if the name is too long.
func subject(name string) pkix.Name {
	if len(name) > maxCommonName {
		return pkix.Name{}
	}
	return pkix.Name{CommonName: name}
}

var dnsName = regexp.MustCompile(`^([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$`)

func isDNSName(name string) bool { return len(name) <= 253 && dnsName.MatchString(name) }

var notInFileNames = regexp.MustCompile(`[^A-Za-z0-9._-]`)

// fileName makes a part of a file's name from a host or a client's name.
func fileName(name string) string {
	name = notInFileNames.ReplaceAllString(name, "_")
	return name[:min(len(name), 128)]
}

// issue makes a key and a certificate from a template, as new files.
func (a *Authority) issue(name string, t *x509.Certificate, days int) (file string, err error) {
	if days == 0 {
		days = LeafDays
	}
	file = a.path(name + ".pem")
	keyFile := KeyOf(file)
	for _, f := range []string{file, keyFile} {
		if _, err := os.Lstat(f); err == nil {
			return "", fmt.Errorf("%s exists already, and nothing is overwritten: dkvctl -certs rotate %s renews it", f, file)
		}
	}
	key, cert, err := a.certify(t, days)
	if err != nil {
		return "", err
	}
	if err := writeKey(keyFile, key); err != nil {
		return "", err
	}
	if err := files.WriteNew(file, encodeCertificates(cert), certMode); err != nil {
		return "", err
	}
	return file, durable.SyncDir(a.dir)
}

// certify completes a template and signs it, for a new key.
func (a *Authority) certify(t *x509.Certificate, days int) (crypto.Signer, *x509.Certificate, error) {
	now := time.Now().UTC()
	t.NotBefore, t.NotAfter = now.Add(-backdated), now.AddDate(0, 0, days)
	if !now.Before(a.cert.NotAfter) {
		return nil, nil, fmt.Errorf("the authority has expired on %s: replace it with dkvctl -certs rotate ca", a.cert.NotAfter.Format(time.DateOnly))
	}
	if t.NotAfter.After(a.cert.NotAfter) { // it would end with the authority anyway
		t.NotAfter = a.cert.NotAfter
	}
	key, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	if t.SerialNumber, err = newSerial(); err != nil {
		return nil, nil, err
	}
	t.BasicConstraintsValid, t.KeyUsage = true, x509.KeyUsageDigitalSignature
	cert, err := sign(t, a.cert, key.Public(), a.key)
	return key, cert, err
}
