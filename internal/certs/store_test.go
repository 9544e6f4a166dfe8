package certs_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/certs"
	"github.com/dkvdb/dkv/internal/testkit"
	kit "github.com/dkvdb/dkv/internal/testkit/certs"
)

// files is a folder with the files of a node, in which a test replaces them.
type files struct {
	t   testing.TB
	dir string
	log testkit.Log
}

func newFiles(t testing.TB, of kit.Certificate, authority *kit.Authority) *files {
	f := &files{t: t, dir: t.TempDir()}
	f.put("cert", of.CertFile)
	f.put("key", of.KeyFile)
	f.put("ca", authority.File)
	return f
}

func (f *files) path(name string) string { return filepath.Join(f.dir, name) }

// put copies a file over one of the node's.
func (f *files) put(name, from string) {
	data, err := os.ReadFile(from)
	if err != nil {
		f.t.Fatal(err)
	}
	f.write(name, data)
}

func (f *files) write(name string, data []byte) {
	if err := os.WriteFile(f.path(name), data, 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func (f *files) read(name string) []byte {
	data, err := os.ReadFile(f.path(name))
	if err != nil {
		f.t.Fatal(err)
	}
	return data
}

func (f *files) options() certs.Options {
	return certs.Options{Mode: certs.Required, CertFile: f.path("cert"), KeyFile: f.path("key"), CAFile: f.path("ca"),
		Log: f.log.Logger(slog.LevelInfo)}
}

func (f *files) open() *certs.Store {
	s, err := certs.Open(f.options())
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

func TestFilesThatCannotBeUsed(t *testing.T) {
	authority, other := kit.New(t), kit.New(t)
	node := authority.Node(t)
	sign := func(r kit.Request) func(*files) {
		return func(f *files) {
			c := authority.Sign(t, r)
			f.put("cert", c.CertFile)
			f.put("key", c.KeyFile)
		}
	}
	day := 24 * time.Hour
	for name, c := range map[string]struct {
		change func(*files)
		want   []string
	}{
		"missing":      {func(f *files) { os.Remove(f.path("key")) }, []string{"tls-key-file", "no such file", "create it"}},
		"folder":       {func(f *files) { os.Remove(f.path("ca")); os.Mkdir(f.path("ca"), 0o700) }, []string{"tls-ca-file", "not a regular file"}},
		"no PEM":       {func(f *files) { f.write("cert", []byte("hello")) }, []string{"tls-cert-file", "contains no certificate"}},
		"key for cert": {func(f *files) { f.put("cert", node.KeyFile) }, []string{"tls-cert-file", `only a "PRIVATE KEY"`}},
		"empty CA":     {func(f *files) { f.write("ca", nil) }, []string{"tls-ca-file", "contains no certificate"}},
		"cut CA":       {func(f *files) { f.write("ca", append(f.read("ca"), f.read("ca")[:300]...)) }, []string{"tls-ca-file", "cut off"}},
		"no key":       {func(f *files) { f.put("key", node.CertFile) }, []string{"tls-key-file", "contains no private key"}},
		"encrypted": {func(f *files) {
			f.write("key", []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"))
		}, []string{"tls-key-file", "passphrase", "openssl"}},
		"other key":     {func(f *files) { f.put("key", authority.Node(t).KeyFile) }, []string{"tls-key-file", "does not belong to tls-cert-file"}},
		"other CA":      {func(f *files) { f.put("ca", other.File) }, []string{"tls-cert-file", "was not issued by an authority of tls-ca-file"}},
		"expired":       {sign(kit.Request{Hosts: []string{kit.NodeName}, NotBefore: time.Now().Add(-2 * day), NotAfter: time.Now().Add(-day)}), []string{"tls-cert-file", "expired at", "issue a new one"}},
		"not yet valid": {sign(kit.Request{Hosts: []string{kit.NodeName}, NotBefore: time.Now().Add(day)}), []string{"tls-cert-file", "not valid before", "clock"}},
		"no node name":  {sign(kit.Request{Hosts: []string{"db.example"}}), []string{"tls-cert-file", `the DNS name "dkv-node" (tls-node-name)`, `"db.example"`}},
		"client only":   {sign(kit.Request{Hosts: []string{kit.NodeName}, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}), []string{"tls-cert-file", "not for serverAuth"}},
		"server only":   {sign(kit.Request{Hosts: []string{kit.NodeName}, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}), []string{"tls-cert-file", "not for clientAuth"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFiles(t, node, authority)
			s := f.open()
			c.change(f)
			_, err := certs.Open(f.options())
			if err == nil {
				t.Fatal("they are used")
			}
			for _, want := range append(c.want, f.dir) {
				if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
					t.Errorf("%v\ndoes not say %q", err, want)
				}
			}
			if s.Reload() == nil || f.log.Count("those that were read before stay in use") != 1 {
				t.Error("a running node uses them, or does not say that it cannot")
			}
			if err := connect(t, s, s.ClientForNodes()); err != nil {
				t.Errorf("the set before is not in use: %v", err)
			}
		})
	}
}

func TestKeyThatOthersMayReadIsReported(t *testing.T) {
	authority := kit.New(t)
	f := newFiles(t, authority.Node(t), authority)
	if err := os.Chmod(f.path("key"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := f.open()
	if err := s.Reload(); err != nil || f.log.Count("chmod o= "+f.path("key")) != 1 {
		t.Errorf("%v, log: %s", err, f.log.String())
	}
}

func TestOffNeedsNoFiles(t *testing.T) {
	s, err := certs.Open(certs.Options{Mode: certs.Off})
	if s != nil || err != nil || s.Mode() != certs.Off || s.Reload() != nil || s.Expiries() != nil || s.ExpiresSoon(time.Now()) != "" {
		t.Errorf("%v, %v", s, err)
	}
}

// connect makes a connection to a port of a node that serves nodes, and returns why that
// fails.
func connect(t testing.TB, s *certs.Store, client *tls.Config) error {
	t.Helper()
	return connectTo(t, s.Server(certs.Nodes, "h2"), client)
}

// pair returns both ends of a connection. That of net.Pipe has no buffer, and so stands
// still when both sides write.
func pair(t testing.TB) (net.Conn, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return a, b
}

func connectTo(t testing.TB, server, client *tls.Config) error {
	t.Helper()
	a, b := pair(t)
	defer a.Close()
	defer b.Close()
	served := make(chan error, 1)
	go func() {
		c := tls.Server(a, server)
		err := c.Handshake()
		if err == nil {
			_, err = c.Write([]byte("x"))
		}
		if err != nil {
			_ = a.Close()
		}
		served <- err
	}()
	if client.ServerName == "" && !client.InsecureSkipVerify {
		client = client.Clone()
		client.ServerName = "localhost"
	}
	c := tls.Client(b, client)
	_, err := io.ReadFull(c, make([]byte, 1))
	if err != nil {
		_ = b.Close()
	}
	return errors.Join(err, <-served)
}

func TestNodesAcceptNodesOnly(t *testing.T) {
	authority, other := kit.New(t), kit.New(t)
	s := newFiles(t, authority.Node(t), authority).open()
	show := func(c kit.Certificate) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{c.Certificate}, RootCAs: authority.Pool}
	}
	day := 24 * time.Hour
	for name, c := range map[string]struct {
		client *tls.Config
		want   string
	}{
		"a node":               {s.ClientForNodes(), ""},
		"no certificate":       {&tls.Config{RootCAs: authority.Pool}, "didn't provide a certificate"},
		"a client":             {show(authority.Issue(t, "alice")), "not the certificate of a node"},
		"another authority":    {show(other.Node(t)), "unknown authority"},
		"expired":              {show(authority.Sign(t, kit.Request{Hosts: []string{kit.NodeName}, NotBefore: time.Now().Add(-2 * day), NotAfter: time.Now().Add(-day)})), "expired"},
		"not yet valid":        {show(authority.Sign(t, kit.Request{Hosts: []string{kit.NodeName}, NotBefore: time.Now().Add(day)})), "not yet valid"},
		"server only":          {show(authority.Sign(t, kit.Request{Hosts: []string{kit.NodeName}, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})), "incompatible key usage"},
		"the name in CN alone": {show(authority.Sign(t, kit.Request{Hosts: []string{"alice"}, Name: kit.NodeName})), "not the certificate of a node"},
		"an old version":       {&tls.Config{RootCAs: authority.Pool, MaxVersion: tls.VersionTLS12}, "unsupported versions"},
	} {
		err := connect(t, s, c.client)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNodesCallNodesOnly(t *testing.T) {
	authority, other := kit.New(t), kit.New(t)
	s := newFiles(t, authority.Node(t), authority).open()
	day := 24 * time.Hour
	for name, c := range map[string]struct {
		server kit.Certificate
		want   string
	}{
		"a node at another address": {authority.Issue(t, kit.NodeName, "192.0.2.1"), ""},
		"another service":           {authority.Issue(t, "localhost"), "not the certificate of a node"},
		"another authority":         {other.Node(t), "unknown authority"},
		"expired":                   {authority.Sign(t, kit.Request{Hosts: []string{kit.NodeName}, NotBefore: time.Now().Add(-2 * day), NotAfter: time.Now().Add(-day)}), "expired"},
		"a client":                  {authority.Sign(t, kit.Request{Hosts: []string{kit.NodeName}, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}), "incompatible key usage"},
	} {
		err := connectTo(t, &tls.Config{Certificates: []tls.Certificate{c.server.Certificate}}, s.ClientForNodes())
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A slave may show another certificate than that of a node; nodes would not call it as a master.
func TestCallableByNodes(t *testing.T) {
	authority := kit.New(t)
	f := newFiles(t, authority.Issue(t, "slave.dkv.test"), authority)
	opts := f.options()
	opts.Guest = true
	s, err := certs.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CallableByNodes(); err == nil || !strings.Contains(err.Error(), "tls-node-name") {
		t.Errorf("with the certificate of another: %v", err)
	}
	node := authority.Node(t)
	f.put("cert", node.CertFile)
	f.put("key", node.KeyFile)
	if err := cmp.Or(s.Reload(), s.CallableByNodes()); err != nil {
		t.Errorf("with the certificate of a node: %v", err)
	}
	if err := (*certs.Store)(nil).CallableByNodes(); err != nil {
		t.Errorf("without TLS: %v", err)
	}
}

// A connection that has shown a certificate leaves nothing behind by which a later one would
// be accepted without.
func TestNoSessionIsResumed(t *testing.T) {
	authority, other := kit.New(t), kit.New(t)
	f := newFiles(t, authority.Node(t), authority)
	s := f.open()
	client := s.ClientForNodes()
	client.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	client.ServerName = "x"
	for range 2 {
		if err := connect(t, s, client); err != nil {
			t.Fatal(err)
		}
	}
	if _, there := client.ClientSessionCache.Get("x"); there {
		t.Error("the client has a session ticket")
	}
	before := s.ClientForNodes()
	old := authority.Node(t)
	before.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &old.Certificate, nil }
	f.replaceAll(other)
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	if err := connect(t, s, before); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("a certificate of the authority that was removed: %v", err)
	}
	if err := connect(t, s, s.ClientForNodes()); err != nil {
		t.Errorf("a certificate of the new authority: %v", err)
	}
}

// replaceAll replaces all files with those of an authority.
func (f *files) replaceAll(authority *kit.Authority) {
	c := authority.Node(f.t)
	f.put("ca", authority.File)
	f.put("cert", c.CertFile)
	f.put("key", c.KeyFile)
}

// watched runs Watch in a bubble of its own time.
func watched(t *testing.T, test func(t *testing.T, f *files, s *certs.Store)) {
	synctest.Test(t, func(t *testing.T) {
		authority := kit.New(t)
		f := newFiles(t, authority.Node(t), authority)
		s := f.open()
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { s.Watch(ctx); close(done) }()
		test(t, f, s)
		stop()
		<-done
	})
}

const inUse = "new certificates are in use"

func TestChangedFilesAreUsed(t *testing.T) {
	watched(t, func(t *testing.T, f *files, s *certs.Store) {
		f.replaceAll(kit.New(t))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if f.log.Count(inUse) != 1 {
			t.Errorf("log: %s", f.log.String())
		}
		if err := connect(t, s, s.ClientForNodes()); err != nil {
			t.Error(err)
		}
	})
}

// Kubernetes replaces a folder by renaming a symbolic link over another one.
func TestSwappedLinkIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		authority := kit.New(t)
		first, second := newFiles(t, authority.Node(t), authority), newFiles(t, authority.Node(t), authority)
		link := &files{t: t, dir: filepath.Join(t.TempDir(), "data")}
		if err := os.Symlink(first.dir, link.dir); err != nil {
			t.Fatal(err)
		}
		s := link.open()
		go s.Watch(t.Context())
		next := link.dir + "-next"
		if err := errors.Join(os.Symlink(second.dir, next), os.Rename(next, link.dir)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if link.log.Count(inUse) != 1 {
			t.Errorf("log: %s", link.log.String())
		}
	})
}

// A certificate whose key comes a little later is waited for without a word, and what stays
// unusable is logged once.
func TestPairThatDoesNotMatchYetIsWaitedFor(t *testing.T) {
	watched(t, func(t *testing.T, f *files, s *certs.Store) {
		authority := kit.New(t)
		c := authority.Node(t)
		f.put("cert", c.CertFile)
		time.Sleep(8 * time.Second)
		f.put("key", c.KeyFile)
		time.Sleep(8 * time.Second)
		synctest.Wait()
		if f.log.Count("\n") != 0 || s.Fault(time.Now()) != "" {
			t.Errorf("%q; log: %s", s.Fault(time.Now()), f.log.String())
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if f.log.Count("those that were read before stay in use") != 1 || f.log.Count(inUse) != 0 {
			t.Errorf("log: %s", f.log.String())
		}
		if got := s.Fault(time.Now()); !strings.Contains(got, "cannot be used") || strings.Contains(got, f.dir) {
			t.Errorf("health: %q", got)
		}
		f.put("ca", authority.File)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if f.log.Count(inUse) != 1 || s.Fault(time.Now()) != "" {
			t.Errorf("%q; log: %s", s.Fault(time.Now()), f.log.String())
		}
	})
}

// Files that were changed and changed back can be used.
func TestFilesThatArePutBackAreNoFault(t *testing.T) {
	watched(t, func(t *testing.T, f *files, s *certs.Store) {
		before := f.read("ca")
		f.write("ca", []byte("x"))
		if s.Reload() == nil || s.Fault(time.Now()) == "" {
			t.Error("what is no certificate can be used")
		}
		f.write("ca", before)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := s.Fault(time.Now()); got != "" {
			t.Error(got)
		}
	})
}

// A bundle that is being written is not used before it is complete, even if what is there
// could be: clients of the authorities at its end would be rejected meanwhile.
func TestHalfWrittenBundleIsNotUsed(t *testing.T) {
	watched(t, func(t *testing.T, f *files, s *certs.Store) {
		first, second := f.read("ca"), []byte(nil)
		other := kit.New(t)
		second, err := os.ReadFile(other.File)
		if err != nil {
			t.Fatal(err)
		}
		bundle := bytes.Join([][]byte{second, first, second}, nil)
		f.write("ca", append(bytes.Clone(first), second...))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if f.log.Count(inUse) != 1 {
			t.Fatalf("log: %s", f.log.String())
		}
		for end := len(second) + len(first) - 100; end < len(bundle); end += 50 {
			f.write("ca", bundle[:end])
			time.Sleep(500 * time.Millisecond)
		}
		synctest.Wait()
		if f.log.Count(inUse) != 1 {
			t.Errorf("log: %s", f.log.String())
		}
		f.write("ca", bundle)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if f.log.Count(inUse) != 2 {
			t.Errorf("log: %s", f.log.String())
		}
	})
}

func TestExpiryIsReportedOnceADay(t *testing.T) {
	authority := kit.New(t)
	f := newFiles(t, authority.Node(t), authority)
	s := f.open()
	of := make(map[string]time.Time)
	for _, e := range s.Expiries() {
		of[e.Of] = e.At
	}
	if left := time.Until(of["node"]); left < 59*24*time.Hour || of["authority"].IsZero() || s.Fault(time.Now()) != "" {
		t.Errorf("%v: %q", of, s.ExpiresSoon(time.Now()))
	}
	begin := of["node"].Add(-15 * 24 * time.Hour)
	for at := begin; at.Before(begin.Add(4 * 24 * time.Hour)); at = at.Add(time.Minute) {
		s.Remind(at)
	}
	if got := s.ExpiresSoon(begin.Add(2 * 24 * time.Hour)); !strings.Contains(got, f.path("cert")+" expires at") {
		t.Errorf("%q", got)
	}
	if n := f.log.Count("level=WARN"); n != 3 {
		t.Errorf("%d lines in three days: %s", n, f.log.String())
	}
	if got := s.ExpiresSoon(of["node"].Add(time.Minute)); !strings.Contains(got, "expired at") {
		t.Errorf("%q", got)
	}
}
