package ca

import (
	"crypto/x509"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dkvdb/dkv/internal/certs"
)

// The kinds of certificates.
const (
	OfAuthority = "authority"
	OfNode      = "node"
	OfServer    = "server" // without the name of nodes
	OfClient    = "client"
)

// Report describes one certificate.
type Report struct {
	File     string    `json:"file"`
	Kind     string    `json:"kind,omitempty"`
	Names    []string  `json:"names,omitempty"`
	Issuer   string    `json:"issuer,omitempty"`
	NotAfter time.Time `json:"not_after,omitzero"`
	DaysLeft int       `json:"days_left"`
	// Problem says why the file cannot be used; "" if nothing is known.
	Problem string `json:"problem,omitempty"`
}

// Show describes the certificates of files: each authority, and the first of each chain.
// caFile is what they are checked against; "" checks nothing.
func Show(files []string, caFile, nodeName string) []Report {
	if nodeName == "" {
		nodeName = DefaultNodeName
	}
	authorities, caErr := trustedBy(caFile)
	var out []Report
	for _, file := range files {
		certs, err := ReadCertificates(file)
		if err != nil {
			out = append(out, Report{File: file, Problem: err.Error()})
			continue
		}
		if !certs[0].IsCA {
			r := describe(file, certs[0], nodeName)
			r.check(certs, authorities, caErr)
			out = append(out, r)
			continue
		}
		for _, c := range certs {
			r := describe(file, c, nodeName)
			r.checkTime(c)
			out = append(out, r)
		}
	}
	return out
}

// Folder returns the files of the certificates in a folder, the authority's first.
func Folder(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".pem") {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	slices.SortStableFunc(files, func(a, b string) int { return rank(a) - rank(b) })
	return files, nil
}

func rank(file string) int {
	if filepath.Base(file) == CertFile {
		return 0
	}
	return 1
}

func trustedBy(caFile string) (*x509.CertPool, error) {
	if caFile == "" {
		return nil, nil
	}
	certs, err := ReadCertificates(caFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	return pool, nil
}

func describe(file string, c *x509.Certificate, nodeName string) Report {
	r := Report{File: file, Names: certs.Names(c), Issuer: c.Issuer.CommonName, NotAfter: c.NotAfter.UTC(),
		DaysLeft: int(math.Floor((time.Until(c.NotAfter) + time.Hour).Hours() / 24)), Kind: OfClient}
	for _, ip := range c.IPAddresses {
		if name := ip.String(); !slices.Contains(r.Names, name) { // it may be the common name
			r.Names = append(r.Names, name)
		}
	}
	switch {
	case c.IsCA:
		r.Kind = OfAuthority
	case slices.Contains(c.DNSNames, nodeName):
		r.Kind = OfNode
	case serves(c):
		r.Kind = OfServer
	}
	return r
}

func (r *Report) checkTime(c *x509.Certificate) {
	switch now := time.Now(); {
	case now.Before(c.NotBefore):
		r.Problem = "it is not valid before " + c.NotBefore.UTC().Format(time.RFC3339)
	case now.After(c.NotAfter):
		r.Problem = "it has expired"
	}
}

// check looks for what would keep a chain from being used.
func (r *Report) check(chain []*x509.Certificate, authorities *x509.CertPool, caErr error) {
	r.checkTime(chain[0])
	switch {
	case r.Problem != "":
		return
	case caErr != nil:
		r.Problem = "it cannot be checked: " + caErr.Error()
		return
	}
	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	if authorities != nil {
		if _, err := chain[0].Verify(x509.VerifyOptions{Roots: authorities, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
			r.Problem = "it is not accepted: " + err.Error()
			return
		}
	}
	if _, err := os.Stat(KeyOf(r.File)); errors.Is(err, fs.ErrNotExist) {
		return // kept elsewhere
	}
	if key, err := ReadKey(KeyOf(r.File)); err != nil {
		r.Problem = err.Error()
	} else if !belongs(key, chain[0]) {
		r.Problem = KeyOf(r.File) + " is not its key: dkvctl -certs rotate makes a new pair"
	}
}
