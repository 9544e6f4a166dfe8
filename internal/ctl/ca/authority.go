// Package ca is the certificate authority of dkvctl -certs: a folder with the authority's
// certificate and key, the certificates that it has issued, and their renewal.
//
// Keys are ECDSA on P-256, which every TLS client since Java 8 knows. Files of other
// authorities (RSA, chains, keys in older PEM forms) can be shown, and an authority with
// such a key can issue.
package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/dkvdb/dkv/internal/ctl/files"
	"github.com/dkvdb/dkv/internal/durable"
)

// The files of an authority in its folder. A next key is one that a change of the
// authority has made and that does not issue yet.
const (
	CertFile = "ca.pem"
	KeyFile  = "ca.key"
	nextKey  = "ca-next.key"
)

// How long certificates are valid unless the caller says otherwise, in days.
const (
	AuthorityDays = 3650
	LeafDays      = 365
)

// backdated is how much earlier certificates begin, for hosts whose clocks are behind.
const backdated = time.Hour

// Authority issues certificates. It holds the lock of its folder until Close.
type Authority struct {
	dir  string
	lock *os.File
	// trusted are the certificates of ca.pem: several while the authority changes.
	trusted []*x509.Certificate
	// cert is the one that key belongs to.
	cert *x509.Certificate
	key  crypto.Signer
}

// Init makes an authority in a folder that has none. days is 0 for AuthorityDays.
func Init(dir string, days int) (*Authority, error) {
	if err := makeFolder(dir); err != nil {
		return nil, err
	}
	lock, err := files.Lock(dir)
	if err != nil {
		return nil, err
	}
	a := &Authority{dir: dir, lock: lock}
	if err := a.init(days); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

func (a *Authority) init(days int) error {
	for _, name := range []string{CertFile, KeyFile} {
		if _, err := os.Lstat(a.path(name)); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s exists already, and nothing is overwritten: name another folder with -dir, or remove the files of an -init that did not finish", a.path(name))
		}
	}
	key, err := newKey()
	if err != nil {
		return err
	}
	if a.cert, err = selfSigned(key, days); err != nil {
		return err
	}
	if err := writeKey(a.path(KeyFile), key); err != nil {
		return err
	}
	if err := files.WriteNew(a.path(CertFile), encodeCertificates(a.cert), certMode); err != nil {
		return err
	}
	a.key, a.trusted = key, []*x509.Certificate{a.cert}
	return durable.SyncDir(a.dir)
}

// Open opens the authority in a folder.
func Open(dir string) (*Authority, error) {
	if _, err := os.Stat(filepath.Join(dir, KeyFile)); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s holds no authority (%s is missing): run this on the host and in the folder that has it (-dir), or make one with dkvctl -certs init", dir, KeyFile)
	}
	lock, err := files.Lock(dir)
	if err != nil {
		return nil, err
	}
	a := &Authority{dir: dir, lock: lock}
	if err := a.load(); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

func (a *Authority) load() (err error) {
	if err := keyIsPrivate(a.path(KeyFile)); err != nil {
		return err
	}
	if a.key, err = ReadKey(a.path(KeyFile)); err != nil {
		return err
	}
	if a.trusted, err = ReadCertificates(a.path(CertFile)); err != nil {
		return err
	}
	if a.cert = holder(a.trusted, a.key); a.cert == nil {
		return fmt.Errorf("%s has no certificate for the key in %s", a.path(CertFile), a.path(KeyFile))
	}
	if !a.cert.IsCA {
		return fmt.Errorf("the certificate in %s for the key in %s is not that of an authority", a.path(CertFile), a.path(KeyFile))
	}
	return nil
}

// Close ends the use of the authority.
func (a *Authority) Close() { _ = a.lock.Close() } // opened for its lock alone

func (a *Authority) path(name string) string { return filepath.Join(a.dir, name) }

// holder returns the certificate of a key; nil if there is none.
func holder(certs []*x509.Certificate, key crypto.Signer) *x509.Certificate {
	i := slices.IndexFunc(certs, func(c *x509.Certificate) bool { return belongs(key, c) })
	if i < 0 {
		return nil
	}
	return certs[i]
}

// belongs reports whether a key is that of a certificate.
func belongs(key crypto.Signer, cert *x509.Certificate) bool {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(cert.PublicKey)
}

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// selfSigned returns an authority's certificate for a key. It may issue no further
// authorities.
func selfSigned(key crypto.Signer, days int) (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	if days == 0 {
		days = AuthorityDays
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		// Two authorities of one cluster must have different names.
		Subject:   pkix.Name{CommonName: fmt.Sprintf("DKV authority %s %x", now.Format(time.DateOnly), serial.Bytes()[:4])},
		NotBefore: now.Add(-backdated), NotAfter: now.AddDate(0, 0, days),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	return sign(template, template, key.Public(), key)
}

// newSerial returns a positive random number of 127 bits.
func newSerial() (*big.Int, error) {
	const bits = 127
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), bits-1))
	if err != nil {
		return nil, err
	}
	return n.SetBit(n, bits-1, 1), nil
}

func sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}
