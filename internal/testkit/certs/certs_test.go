package certs

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
)

func TestIssuedCertificates(t *testing.T) {
	a, other := New(t), New(t)
	c := a.Issue(t, "127.0.0.1", "dkv.test")
	for name, trust := range map[string]struct {
		pool *x509.CertPool
		host string
		ok   bool
	}{
		"name":              {a.Pool, "dkv.test", true},
		"address":           {a.Pool, "127.0.0.1", true},
		"another name":      {a.Pool, "else.test", false},
		"another authority": {other.Pool, "dkv.test", false},
	} {
		_, err := c.Leaf.Verify(x509.VerifyOptions{Roots: trust.pool, DNSName: trust.host})
		if (err == nil) != trust.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	loaded, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
	if err != nil || !loaded.Leaf.Equal(c.Leaf) {
		t.Errorf("the files hold another certificate: %v", err)
	}
	if a.Issue(t, "x").Leaf.SerialNumber.Cmp(c.Leaf.SerialNumber) == 0 {
		t.Error("two certificates have one serial number")
	}
}
