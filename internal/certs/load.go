package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"
)

// The keys of the configuration that name the files, for errors.
const (
	certKey = "tls-cert-file"
	keyKey  = "tls-key-file"
	caKey   = "tls-ca-file"
)

// maxFile bounds what is read of a file: the largest bundles of authorities have a few
// hundred kilobytes.
const maxFile = 4 << 20

// material is what the files held when they were read. It is compared to find out whether
// they have changed: unlike times and inodes, that works for every way of replacing a file.
type material struct{ cert, key, ca []byte }

func (m *material) equal(other *material) bool {
	return bytes.Equal(m.cert, other.cert) && bytes.Equal(m.key, other.key) && bytes.Equal(m.ca, other.ca)
}

// set is what connections are made with. It is immutable.
type set struct {
	material
	cert  tls.Certificate
	roots *x509.CertPool
	// authorities is when the first of the authorities expires that vouch for cert.
	authorities time.Time
}

// read reads the files.
func (o *Options) read() (m material, err error) {
	for _, f := range []struct {
		key, path string
		to        *[]byte
	}{{certKey, o.CertFile, &m.cert}, {keyKey, o.KeyFile, &m.key}, {caKey, o.CAFile, &m.ca}} {
		if *f.to, err = readFile(f.path); err != nil {
			return material{}, fmt.Errorf("%s %s: %w", f.key, f.path, err)
		}
	}
	return m, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	var of *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errors.New("there is no such file; name a PEM file, or create it")
	case errors.Is(err, fs.ErrPermission):
		return nil, errors.New("this user may not read it; change its owner or mode")
	case errors.As(err, &of):
		return nil, fmt.Errorf("it cannot be read: %w", of.Err)
	case err != nil:
		return nil, err
	}
	defer f.Close()
	if fi, err := f.Stat(); err == nil && !fi.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file; name a PEM file")
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case errors.As(err, &of):
		return nil, fmt.Errorf("it cannot be read: %w", of.Err)
	case err != nil:
		return nil, fmt.Errorf("it cannot be read: %w", err)
	case len(data) > maxFile:
		return nil, fmt.Errorf("it has more than %d MiB; name a PEM file", maxFile>>20)
	}
	return data, nil
}

// parse checks what was read and makes a set of it.
func (o *Options) parse(m material, now time.Time) (*set, error) {
	chain, err := certificates(m.cert)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", certKey, o.CertFile, err)
	}
	if err := privateKey(m.key); err != nil {
		return nil, fmt.Errorf("%s %s: %w", keyKey, o.KeyFile, err)
	}
	out := &set{material: m, roots: x509.NewCertPool()}
	if out.cert, err = tls.X509KeyPair(m.cert, m.key); err != nil {
		return nil, fmt.Errorf("%s %s does not belong to %s %s: %s; name the key with which the certificate was requested",
			keyKey, o.KeyFile, certKey, o.CertFile, strings.TrimPrefix(err.Error(), "tls: "))
	}
	authorities, err := certificates(m.ca)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", caKey, o.CAFile, err)
	}
	for _, c := range authorities {
		out.roots.AddCert(c)
	}
	if err := o.checkOwn(chain[0], now); err != nil {
		return nil, fmt.Errorf("%s %s: %w", certKey, o.CertFile, err)
	}
	if out.authorities, err = o.issuers(chain, out.roots, now); err != nil {
		return nil, err
	}
	return out, nil
}

// certificates returns the certificates of a PEM file: at least one.
func certificates(data []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	found := ""
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if data = rest; block.Type != "CERTIFICATE" {
			found = block.Type
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("its certificate %d is damaged: %w", len(out)+1, err)
		}
		out = append(out, c)
	}
	switch {
	case bytes.Contains(data, []byte("-----BEGIN")):
		return nil, errors.New("its last block is cut off or damaged; write the file completely, best under another name that is then renamed")
	case len(out) == 0 && found != "":
		return nil, fmt.Errorf("it contains no certificate, only a %q; name a file with a block BEGIN CERTIFICATE", found)
	case len(out) == 0:
		return nil, errors.New("it contains no certificate; name a PEM file with a block BEGIN CERTIFICATE")
	}
	return out, nil
}

// privateKey checks that a PEM file has a private key that needs no passphrase.
func privateKey(data []byte) error {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue
		}
		if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
			return errors.New("the key needs a passphrase, which no one can type when a node starts; " +
				"write it without one (openssl pkey -in FILE -out FILE2) and let only this user read it")
		}
		return nil
	}
	return errors.New("it contains no private key; name a PEM file with a block BEGIN PRIVATE KEY")
}

// checkOwn checks that a certificate is one that a node can show.
func (o *Options) checkOwn(c *x509.Certificate, now time.Time) error {
	const day = "2006-01-02 15:04:05 MST"
	switch {
	case now.After(c.NotAfter):
		return fmt.Errorf("the certificate expired at %s, and it is %s; issue a new one, or correct the clock", c.NotAfter.UTC().Format(day), now.UTC().Format(day))
	case now.Before(c.NotBefore):
		return fmt.Errorf("the certificate is not valid before %s, and it is %s; wait, or correct the clock", c.NotBefore.UTC().Format(day), now.UTC().Format(day))
	case !o.Guest && !slices.Contains(c.DNSNames, o.NodeName):
		return o.noNode(c)
	}
	for _, usage := range []struct {
		is   x509.ExtKeyUsage
		name string
	}{{x509.ExtKeyUsageServerAuth, "serverAuth"}, {x509.ExtKeyUsageClientAuth, "clientAuth"}} {
		if !hasUsage(c, usage.is) {
			return fmt.Errorf("the certificate is not for %s, and a node both serves and calls others; issue it with the extended key usages serverAuth and clientAuth", usage.name)
		}
	}
	return nil
}

// noNode is the error of a certificate that other nodes do not take for that of a node.
func (o *Options) noNode(c *x509.Certificate) error {
	return fmt.Errorf("the certificate does not carry the DNS name %q (tls-node-name), by which nodes know each other; it carries %q: "+
		"issue it with that name as well, or set tls-node-name to a name that only certificates of nodes carry", o.NodeName, Names(c))
}

// hasUsage reports whether a certificate may be used for something. One that names no usages
// may be used for everything.
func hasUsage(c *x509.Certificate, usage x509.ExtKeyUsage) bool {
	return len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 ||
		slices.Contains(c.ExtKeyUsage, usage) || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny)
}

// issuers verifies that the authorities have issued the node's certificate, both as that of a
// server and of a client. It returns when the first of those that vouch for it expires.
func (o *Options) issuers(chain []*x509.Certificate, roots *x509.CertPool, now time.Time) (expire time.Time, err error) {
	opts := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool(), CurrentTime: now}
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	var chains [][]*x509.Certificate
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		opts.KeyUsages = []x509.ExtKeyUsage{usage}
		if chains, err = chain[0].Verify(opts); err != nil {
			return time.Time{}, fmt.Errorf("%s %s was not issued by an authority of %s %s: %s; "+
				"name the file of the authority that issued it, and put the certificates between the two behind the node's own",
				certKey, o.CertFile, caKey, o.CAFile, strings.TrimPrefix(err.Error(), "x509: "))
		}
	}
	for _, one := range chains { // the chain that lasts longest counts
		first := one[len(one)-1].NotAfter
		for _, c := range one[1:] {
			if c.NotAfter.Before(first) {
				first = c.NotAfter
			}
		}
		if first.After(expire) {
			expire = first
		}
	}
	return expire, nil
}

// warnings are what should not be, though the files can be used.
func (o *Options) warnings() []string {
	var out []string
	if fi, err := os.Stat(o.KeyFile); err == nil && fi.Mode().Perm()&0o007 != 0 {
		out = append(out, fmt.Sprintf("%s %s: every user of this machine may use it (mode %v); run chmod o= %s", keyKey, o.KeyFile, fi.Mode().Perm(), o.KeyFile))
	}
	return out
}
