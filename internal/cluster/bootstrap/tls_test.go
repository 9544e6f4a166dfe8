package bootstrap

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/internal/testkit/certs"
)

// guard returns the TLS of a node that an authority of its own vouches for.
func guard(t *testing.T) *TLS {
	t.Helper()
	host, err := testkit.Host()
	if err != nil {
		t.Fatal(err)
	}
	authority := certs.New(t)
	node := authority.Issue(t, host)
	return &TLS{CA: authority.File, Cert: node.CertFile, Key: node.KeyFile}
}

func TestFormWithTLS(t *testing.T) {
	own := guard(t)
	urls := reserve(t, 2)
	member, founder := newNode(t, urls[1], urls...), newNode(t, urls[0], urls...)
	member.TLS, founder.TLS = own, own
	waiting := member.start(t.Context())
	friend, err := NewClient(own)
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "it waits", func() bool { _, err := friend.Probe(t.Context(), urls[1]); return err == nil })

	stranger, err := NewClient(guard(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*Client{"without TLS": testClient(t), "of another authority": stranger} {
		if _, err := c.Probe(t.Context(), urls[1]); !errors.Is(err, ErrMember) {
			t.Errorf("%s: %v", name, err)
		}
		if err := c.Invite(t.Context(), urls[1], Invitation{}); !errors.Is(err, ErrMember) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, done := lead(t, t.Context(), founder)
	must(t, waiting)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestTLSFiles(t *testing.T) {
	own := guard(t)
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]TLS{
		"no authority":    {CA: empty + "x", Cert: own.Cert, Key: own.Key},
		"empty authority": {CA: empty, Cert: own.Cert, Key: own.Key},
		"empty":           {CA: own.CA, Cert: empty, Key: own.Key},
		"wrong key":       {CA: own.CA, Cert: own.CA, Key: own.Key},
	} {
		if _, err := NewClient(&bad); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
