package transport

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/certs"
	"github.com/dkvdb/dkv/internal/testkit"
	tlskit "github.com/dkvdb/dkv/internal/testkit/certs"
)

const nodeName = "node.dkv.test"

// files are those of a node's certificates.
type files struct{ cert, key, ca string }

// fileOf returns a copy of a file, which a test may replace.
func fileOf(t testing.TB, from ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "copy.pem")
	replace(t, path, from...)
	return path
}

// replace replaces a file by what others hold.
func replace(t testing.TB, path string, from ...string) {
	t.Helper()
	var all []byte
	for _, f := range from {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, raw...)
	}
	if err := os.WriteFile(path, all, 0o600); err != nil {
		t.Fatal(err)
	}
}

// issued returns the files of a node whose certificate an authority has issued.
func issued(t testing.TB, a *tlskit.Authority) files {
	own := a.Issue(t, nodeName)
	return files{cert: fileOf(t, own.CertFile), key: fileOf(t, own.KeyFile), ca: fileOf(t, a.File)}
}

func (f files) open(t testing.TB, mode certs.Mode) *certs.Store {
	t.Helper()
	s, err := certs.Open(certs.Options{Mode: mode, CertFile: f.cert, KeyFile: f.key, CAFile: f.ca, NodeName: nodeName})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// withCerts starts a node with certificates.
func withCerts(t *testing.T, s *certs.Store) *node {
	return start(t, func(_ *node, o *Options) { o.Certs = s })
}

// TestConnectionsAreSecured: messages and snapshots come over TLS.
func TestConnectionsAreSecured(t *testing.T) {
	authority := tlskit.New(t)
	a, b := withCerts(t, issued(t, authority).open(t, certs.Required)), withCerts(t, issued(t, authority).open(t, certs.Required))
	line := a.connect(t.Context(), b.addr)
	for i := range uint64(3) {
		if err := line.SendMessageBatch(batch(i, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, "messages come", func() bool { return len(b.received()) == 3 })
	if err := send(t, a, b.addr, chunksOf(3)); err != nil {
		t.Error(err)
	}
}

// TestModesOfThePort: two nodes in neighbouring modes understand each other, and no others.
func TestModesOfThePort(t *testing.T) {
	authority := tlskit.New(t)
	for _, c := range []struct {
		from, to certs.Mode
		ok       bool
	}{
		{certs.Off, certs.Off, true}, {certs.Off, certs.Permissive, true}, {certs.Off, certs.Required, false},
		{certs.Permissive, certs.Off, true}, {certs.Permissive, certs.Permissive, true}, {certs.Permissive, certs.Required, true},
		{certs.Required, certs.Off, false}, {certs.Required, certs.Permissive, true}, {certs.Required, certs.Required, true},
	} {
		t.Run(string(c.from+" to "+c.to), func(t *testing.T) {
			a, b := withCerts(t, issued(t, authority).open(t, c.from)), withCerts(t, issued(t, authority).open(t, c.to))
			line, err := a.GetConnection(t.Context(), b.addr)
			if (err == nil) != c.ok {
				t.Fatal(err)
			}
			if !c.ok {
				return
			}
			defer line.Close()
			if err := line.SendMessageBatch(batch(1, 10)); err != nil {
				t.Fatal(err)
			}
			testkit.Eventually(t, "it comes", func() bool { return len(b.received()) == 1 })
			if err := send(t, a, b.addr, chunksOf(2)); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestStrangersAreRejected: what shows no certificate of a node is counted and logged, and
// none of it is read.
func TestStrangersAreRejected(t *testing.T) {
	authority, other := tlskit.New(t), tlskit.New(t)
	var rejected atomic.Int32
	b := start(t, func(_ *node, o *Options) {
		o.Certs, o.Rejected = issued(t, authority).open(t, certs.Required), func() { rejected.Add(1) }
	})
	alien := issued(t, other) // trusts the cluster, which does not trust it
	replace(t, alien.ca, other.File, authority.File)
	for i, n := range []*node{start(t), withCerts(t, alien.open(t, certs.Required)), withCerts(t, alien.open(t, certs.Permissive))} {
		line, err := n.GetConnection(t.Context(), b.addr)
		if err == nil {
			line.Close()
			t.Errorf("stranger %d gets in", i)
		}
		testkit.Eventually(t, "it is counted", func() bool { return int(rejected.Load()) == i+1 })
	}
	if !b.log.Has("a connection to the Raft port is closed") || strings.Count(b.log.String(), "is closed") != 1 {
		t.Errorf("the log: %s", b.log.String())
	}
	if len(b.received()) != 0 {
		t.Error("messages of strangers were handed over")
	}
}

// TestWithdrawnAuthorityEndsConnections: when a node's certificates are read again, its
// connections to and from nodes of an authority that is gone are closed. Others stay.
func TestWithdrawnAuthorityEndsConnections(t *testing.T) {
	first, second := tlskit.New(t), tlskit.New(t)
	both := func(of *tlskit.Authority) files {
		f := issued(t, of)
		replace(t, f.ca, first.File, second.File)
		return f
	}
	own := both(second)
	store := own.open(t, certs.Required)
	old, fresh, b := withCerts(t, both(first).open(t, certs.Required)), withCerts(t, both(second).open(t, certs.Required)), withCerts(t, store)
	from, stays, to := old.connect(t.Context(), b.addr), fresh.connect(t.Context(), b.addr), b.connect(t.Context(), old.addr)
	replace(t, own.ca, second.File)
	if err := store.Reload(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the connection of the old node is closed", func() bool { return from.SendMessageBatch(batch(1, 1)) != nil })
	testkit.Eventually(t, "the connection to the old node is closed", func() bool { return to.SendMessageBatch(batch(1, 1)) != nil })
	n := len(b.received())
	if err := stays.SendMessageBatch(batch(2, 1)); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "messages of the other node come", func() bool { return len(b.received()) > n })
	if line, err := old.GetConnection(t.Context(), b.addr); err == nil {
		line.Close()
		t.Error("the old node gets in again")
	}
}

// TestFullPortIsNotTakenForClear: a node without room for a connection does not lead others to
// believe that it does not speak TLS, and to go on in the clear.
func TestFullPortIsNotTakenForClear(t *testing.T) {
	authority := tlskit.New(t)
	for _, mode := range []certs.Mode{certs.Permissive, certs.Required} {
		full := start(t, func(_ *node, o *Options) {
			o.Certs, o.limits.connections = issued(t, authority).open(t, mode), 1
		})
		first := withCerts(t, issued(t, authority).open(t, certs.Required))
		first.connect(t.Context(), full.addr)
		for _, caller := range []certs.Mode{certs.Permissive, certs.Required} {
			n := withCerts(t, issued(t, authority).open(t, caller))
			_, err := n.GetConnection(t.Context(), full.addr)
			if err == nil || strings.Contains(err.Error(), "does not speak TLS") || strings.Contains(n.log.String(), "in the clear") {
				t.Errorf("%s to %s: %v\n%s", caller, mode, err, n.log.String())
			}
		}
	}
}

// TestWithdrawnAuthorityEndsBeginnings: a connection that has shown a certificate, and not yet
// said what it is for, when its authority is withdrawn.
func TestWithdrawnAuthorityEndsBeginnings(t *testing.T) {
	first, second := tlskit.New(t), tlskit.New(t)
	own, other := issued(t, second), issued(t, first)
	for _, f := range []files{own, other} {
		replace(t, f.ca, first.File, second.File)
	}
	store, old := own.open(t, certs.Required), other.open(t, certs.Required)
	b := start(t, func(_ *node, o *Options) { o.Certs, o.limits.idle = store, time.Hour })
	known := withCerts(t, old).connect(t.Context(), b.addr)
	begun := tls.Client(b.raw(), old.ClientForNodes())
	if err := begun.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	replace(t, own.ca, second.File)
	if err := store.Reload(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "connections are checked again", func() bool { return known.SendMessageBatch(batch(1, 1)) != nil })
	_ = introduce(begun, preface{version, forMessages, deployment}, testkit.Patience)
	wantClosed(t, begun)
}
