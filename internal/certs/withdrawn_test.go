package certs_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/certs"
	"github.com/dkvdb/dkv/internal/testkit"
	kit "github.com/dkvdb/dkv/internal/testkit/certs"
)

// connections are those of a port, by name.
type connections struct {
	open    map[string]*tls.ConnectionState
	dropped chan []string
}

func (c *connections) Drop(gone func(*tls.ConnectionState) bool) int {
	var names []string
	for name, state := range c.open {
		if gone(state) {
			names = append(names, name)
		}
	}
	c.dropped <- names
	return len(names)
}

// TestWithdrawnAuthoritiesEndConnections: connections end with the authority of their
// certificates, and not with the certificates themselves, whose dates the handshake has checked.
func TestWithdrawnAuthoritiesEndConnections(t *testing.T) {
	old, next := kit.New(t), kit.New(t)
	f := newFiles(t, old.Node(t), old)
	s := f.open()
	shown := func(c kit.Certificate) *tls.ConnectionState {
		return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c.Leaf}, VerifiedChains: [][]*x509.Certificate{{c.Leaf}}}
	}
	expired := func(a *kit.Authority) kit.Certificate {
		return a.Sign(t, kit.Request{Hosts: []string{"a"}, NotBefore: time.Now().Add(-30 * time.Minute), NotAfter: time.Now().Add(-time.Minute)})
	}
	c := &connections{dropped: make(chan []string), open: map[string]*tls.ConnectionState{
		"old": shown(old.Issue(t, "a")), "new": shown(next.Issue(t, "a")), "old, expired": shown(expired(old)), "new, expired": shown(expired(next)), "none": {},
	}}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.Acceptor("test", certs.Anyone).Watch(ctx, c) }()
	for _, step := range []struct {
		with []string
		want map[string]bool
	}{
		{[]string{old.File}, map[string]bool{"new": true, "new, expired": true}},
		{[]string{old.File, next.File}, nil},
		{[]string{next.File}, map[string]bool{"old": true, "old, expired": true}},
	} {
		if len(step.with) > 1 || step.with[0] == next.File {
			node := next.Node(t)
			f.put("cert", node.CertFile)
			f.put("key", node.KeyFile)
			var bundle []byte
			for _, file := range step.with {
				f.put("ca", file)
				bundle = append(bundle, f.read("ca")...)
			}
			f.write("ca", bundle)
			if err := s.Reload(); err != nil {
				t.Fatal(err)
			}
		}
		var got []string
		select {
		case got = <-c.dropped:
		case <-time.After(testkit.Patience):
			t.Fatal("the connections are not looked at")
		}
		if len(got) != len(step.want) {
			t.Errorf("%q, not %v", got, step.want)
		}
		for _, name := range got {
			if !step.want[name] {
				t.Errorf("%q ends", name)
			}
		}
	}
	stop()
	<-done
}
