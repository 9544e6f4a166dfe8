package certs

import (
	"os"
	"strings"
	"testing"
	"time"

	kit "github.com/dkvdb/dkv/internal/testkit/certs"
)

// FuzzFiles reads anything as the files of certificates. What is accepted can be used, and
// no error quotes what is in the file of the key.
func FuzzFiles(f *testing.F) {
	authority := kit.New(f)
	of := authority.Node(f)
	read := func(path string) []byte {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		return data
	}
	cert, key, ca := read(of.CertFile), read(of.KeyFile), read(authority.File)
	f.Add(cert, key, ca)
	f.Add(append(append([]byte{}, cert...), ca...), key, ca)
	f.Add(key, cert, ca)
	f.Add(cert, []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMC4=\n-----END ENCRYPTED PRIVATE KEY-----\n"), ca)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nMC4=\n-----END CERTIFICATE-----\n"), key, cert)
	f.Add([]byte(nil), []byte(nil), []byte(nil))
	secret := strings.Split(string(key), "\n")[1]
	o := Options{Mode: Required, CertFile: "cert", KeyFile: "key", CAFile: "ca", NodeName: "dkv-node"}
	f.Fuzz(func(t *testing.T, cert, key, ca []byte) {
		s, err := o.parse(material{cert: cert, key: key, ca: ca}, time.Now())
		switch {
		case err == nil && (s == nil || len(s.cert.Certificate) == 0 || s.roots == nil):
			t.Errorf("accepted, and nothing to use: %+v", s)
		case err != nil && strings.Contains(err.Error(), secret):
			t.Errorf("the error contains the key: %v", err)
		}
	})
}
