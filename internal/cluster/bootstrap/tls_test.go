package bootstrap

import (
	"errors"
	"testing"

	"github.com/dkvdb/dkv/internal/certs"
	"github.com/dkvdb/dkv/internal/testkit"
	tlskit "github.com/dkvdb/dkv/internal/testkit/certs"
)

const nodeName = "node.dkv.test"

// storeOf returns the certificates of a node, which an authority has issued.
func storeOf(t *testing.T, mode certs.Mode, a *tlskit.Authority) *certs.Store {
	t.Helper()
	own := a.Issue(t, nodeName)
	s, err := certs.Open(certs.Options{Mode: mode, CertFile: own.CertFile, KeyFile: own.KeyFile, CAFile: a.File, NodeName: nodeName})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestFormWithTLS forms a cluster whose nodes require TLS. Those without it, or without the
// certificate of a node, can neither ask nor invite a node that waits.
func TestFormWithTLS(t *testing.T) {
	authority := tlskit.New(t)
	own := storeOf(t, certs.Required, authority)
	urls := reserve(t, 2)
	member, founder := newNode(t, urls[1], urls...), newNode(t, urls[0], urls...)
	member.Certs, founder.Certs = own, own
	waiting := member.start(t.Context())
	friend := NewClient(own, nil)
	testkit.Eventually(t, "it waits", func() bool { _, err := friend.Probe(t.Context(), urls[1]); return err == nil })

	stranger := NewClient(storeOf(t, certs.Permissive, tlskit.New(t)), nil)
	for name, c := range map[string]*Client{"without TLS": testClient(t), "of another authority": stranger} {
		if _, err := c.Probe(t.Context(), urls[1]); !errors.Is(err, ErrMember) {
			t.Errorf("%s: %v", name, err)
		}
		if err := c.Invite(t.Context(), urls[1], Invitation{}); !errors.Is(err, ErrMember) {
			t.Errorf("%s: %v", name, err)
		}
	}
	testkit.Eventually(t, "the log says that strangers called", func() bool { return member.text.Has("a connection to the Raft port is closed") })
	_, done := lead(t, t.Context(), founder)
	must(t, waiting)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestFormInNeighbouringModes forms clusters of nodes in different modes, as they are while a
// cluster goes from clear to TLS.
func TestFormInNeighbouringModes(t *testing.T) {
	for _, modes := range [][2]certs.Mode{
		{certs.Off, certs.Permissive}, {certs.Permissive, certs.Off}, {certs.Permissive, certs.Required}, {certs.Required, certs.Permissive},
	} {
		t.Run(string(modes[0]+" founds, "+modes[1]+" waits"), func(t *testing.T) {
			authority := tlskit.New(t)
			urls := reserve(t, 2)
			member, founder := newNode(t, urls[1], urls...), newNode(t, urls[0], urls...)
			founder.Certs, member.Certs = storeOf(t, modes[0], authority), storeOf(t, modes[1], authority)
			waiting := member.start(t.Context())
			_, done := lead(t, t.Context(), founder)
			must(t, waiting)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		})
	}
}
