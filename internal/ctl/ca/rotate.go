package ca

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dkvdb/dkv/internal/ctl/files"
	"github.com/dkvdb/dkv/internal/durable"
)

// KeyOf returns the file of the key that belongs to a certificate's file.
func KeyOf(certFile string) string { return strings.TrimSuffix(certFile, ".pem") + ".key" }

// leaves returns the files of the certificates in the folder that are not the authority's.
func (a *Authority) leaves() []string {
	files, _ := Folder(a.dir) // it is open
	return slices.DeleteFunc(files, func(f string) bool { return filepath.Base(f) == CertFile })
}

// Due returns the certificates in the folder that have lived for two thirds of their time,
// or were issued by an authority that is being replaced.
func (a *Authority) Due() (files []string, err error) {
	for _, file := range a.leaves() {
		certs, err := ReadCertificates(file)
		if err != nil {
			return nil, err
		}
		if c := certs[0]; a.trusts(c) && (a.former(c) || ageing(c) || hasOtherKey(file, c)) {
			files = append(files, file)
		}
	}
	return files, nil
}

// ageing reports whether a certificate has lived for two thirds of its time.
func ageing(c *x509.Certificate) bool {
	return time.Until(c.NotAfter) < c.NotAfter.Sub(c.NotBefore)/3
}

// hasOtherKey reports whether the file of a certificate's key holds another one, as after a
// renewal that was interrupted. The key may be kept elsewhere.
func hasOtherKey(file string, c *x509.Certificate) bool {
	key, err := ReadKey(KeyOf(file))
	return err == nil && !belongs(key, c)
}

// former reports whether a certificate was issued by another of the authorities of ca.pem
// than the one that issues now.
func (a *Authority) former(c *x509.Certificate) bool { return c.CheckSignatureFrom(a.cert) != nil }

// trusts reports whether a certificate was issued by one of the authorities of ca.pem.
func (a *Authority) trusts(c *x509.Certificate) bool {
	return slices.ContainsFunc(a.trusted, func(by *x509.Certificate) bool { return c.CheckSignatureFrom(by) == nil })
}

// Renew replaces a certificate and its key by new ones with the same names. days is 0 for
// the time that the present certificate was issued for.
func (a *Authority) Renew(file string, days int) error {
	certs, err := ReadCertificates(file)
	if err != nil {
		return err
	}
	old := certs[0]
	switch {
	case old.IsCA:
		return fmt.Errorf("%s is the certificate of an authority: dkvctl -certs rotate ca replaces it", file)
	case !a.trusts(old):
		return fmt.Errorf("%s was issued by another authority (%s), which has to renew it", file, old.Issuer)
	}
	if days == 0 {
		days = int(old.NotAfter.Sub(old.NotBefore) / (24 * time.Hour))
	}
	key, cert, err := a.certify(&x509.Certificate{
		Subject: old.Subject, ExtKeyUsage: old.ExtKeyUsage,
		DNSNames: old.DNSNames, IPAddresses: old.IPAddresses, URIs: old.URIs, EmailAddresses: old.EmailAddresses,
	}, max(days, 1))
	if err != nil {
		return err
	}
	return replacePair(file, key, cert)
}

func replacePair(file string, key crypto.Signer, cert *x509.Certificate) error {
	raw, err := encodeKey(key)
	if err != nil {
		return err
	}
	return files.Replace(
		files.Replacement{File: KeyOf(file), Content: raw, Mode: keyMode},
		files.Replacement{File: file, Content: encodeCertificates(cert), Mode: certMode})
}

// Step is what a change of the authority has come to.
type Step int

// The steps of a change of the authority. Before each, what the one before has written
// must be in use on every node and at every client.
const (
	// Announced: ca.pem trusts the present authority and the next one.
	Announced Step = 1 + iota
	// Switched: the next authority has issued all certificates again.
	Switched
	// Finished: ca.pem trusts the new authority alone.
	Finished
)

// Rotate does the next step of replacing the authority. It returns the step that was done
// and the files that have changed. days is for a new authority; 0 is AuthorityDays.
func (a *Authority) Rotate(days int) (done Step, files []string, err error) {
	next, err := ReadKey(a.path(nextKey))
	switch {
	case err == nil && holder(a.trusted, next) != nil:
		files, err = a.switchTo(next)
		return Switched, files, err
	case err == nil: // the step was interrupted before ca.pem was written
		return Announced, []string{a.path(CertFile)}, a.announce(next, days)
	case !errors.Is(err, fs.ErrNotExist):
		return 0, nil, err
	case len(a.trusted) > 1:
		return Finished, []string{a.path(CertFile)}, a.finish()
	}
	key, err := newKey()
	if err != nil {
		return 0, nil, err
	}
	if err := writeKey(a.path(nextKey), key); err != nil {
		return 0, nil, err
	}
	return Announced, []string{a.path(CertFile)}, a.announce(key, days)
}

func (a *Authority) announce(next crypto.Signer, days int) error {
	cert, err := selfSigned(next, days)
	if err != nil {
		return err
	}
	return a.trust(append(slices.Clone(a.trusted), cert))
}

// trust replaces ca.pem.
func (a *Authority) trust(certs []*x509.Certificate) error {
	err := files.Replace(files.Replacement{File: a.path(CertFile), Content: encodeCertificates(certs...), Mode: certMode})
	if err == nil {
		a.trusted = certs
	}
	return err
}

// switchTo makes the next key the one that issues, and renews what the former has issued.
func (a *Authority) switchTo(next crypto.Signer) (changed []string, err error) {
	raw, err := encodeKey(next)
	if err != nil {
		return nil, err
	}
	// The key may be kept elsewhere, where a link leads. If this is interrupted the step is repeated.
	if err := files.Replace(files.Replacement{File: a.path(KeyFile), Content: raw, Mode: keyMode}); err != nil {
		return nil, err
	}
	if err := errors.Join(os.Remove(a.path(nextKey)), durable.SyncDir(a.dir)); err != nil {
		return nil, err
	}
	a.key, a.cert = next, holder(a.trusted, next)
	due, err := a.Due()
	for _, file := range due {
		if err = a.Renew(file, 0); err != nil {
			break
		}
		changed = append(changed, file, KeyOf(file))
	}
	if err != nil {
		err = fmt.Errorf("the next authority issues from now on, but not all certificates are renewed: %w; renew the others with dkvctl -certs rotate", err)
	}
	return changed, err
}

func (a *Authority) finish() error {
	for _, file := range a.leaves() {
		certs, err := ReadCertificates(file)
		if err != nil {
			return err
		}
		if c := certs[0]; a.trusts(c) && a.former(c) {
			return fmt.Errorf("%s was issued by the former authority and would not be accepted any more: dkvctl -certs rotate renews such certificates; put them into use first", file)
		}
	}
	return a.trust([]*x509.Certificate{a.cert})
}
