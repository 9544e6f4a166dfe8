package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dkvdb/dkv/clients/go/dkv"
	"github.com/dkvdb/dkv/internal/certs"
	"github.com/dkvdb/dkv/internal/testkit"
	tlskit "github.com/dkvdb/dkv/internal/testkit/certs"
)

// credentialed is a node with certificates of its own, in files that a test may replace.
type credentialed struct {
	*process
	cert, key, ca string
	// logged is how long the log was before the certificate with a serial number.
	logged int
	serial string
}

// with returns the arguments that give the node its certificates in a mode.
func (c *credentialed) with(mode certs.Mode) []string {
	if mode == certs.Off {
		return nil
	}
	return []string{"--tls-mode", string(mode), "--tls-cert-file", c.cert, "--tls-key-file", c.key, "--tls-ca-file", c.ca}
}

// restart starts the node again in a mode, and waits until it serves.
func (c *credentialed) restart(mode certs.Mode) {
	c.stop()
	c.begin(c.with(mode)...)
	c.grpc()
}

// copyOf replaces a file at once, as tools do that renew certificates.
func copyOf(t *testing.T, path string, from ...string) {
	t.Helper()
	var all []byte
	for _, f := range from {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, raw...)
	}
	if err := errors.Join(os.WriteFile(path+".new", all, 0o600), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
}

// credential gives a node a certificate, and the authorities that it trusts.
func (c *credentialed) credential(t *testing.T, own tlskit.Certificate, trusted ...string) {
	t.Helper()
	if c.cert == "" {
		dir := t.TempDir()
		c.cert, c.key, c.ca = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "ca.pem")
	}
	copyOf(t, c.ca, trusted...)
	copyOf(t, c.key, own.KeyFile)
	copyOf(t, c.cert, own.CertFile)
}

// nodeOf returns a certificate of a node at the addresses of this process.
func nodeOf(t *testing.T, a *tlskit.Authority) tlskit.Certificate {
	t.Helper()
	host, err := testkit.Host()
	if err != nil {
		t.Fatal(err)
	}
	return a.Issue(t, tlskit.NodeName, host)
}

// begun is a node that runs in a mode, with a certificate of an authority.
func begun(t *testing.T, a *tlskit.Authority, mode certs.Mode, args ...string) *credentialed {
	t.Helper()
	c := new(credentialed)
	c.credential(t, nodeOf(t, a), a.File)
	c.process = unstarted(t, args...)
	c.begin(c.with(mode)...)
	return c
}

// securedMasters is a cluster of masters in a mode.
func securedMasters(t *testing.T, a *tlskit.Authority, mode certs.Mode, n int, args ...string) []*credentialed {
	t.Helper()
	urls := make([]string, n)
	for i := range urls {
		urls[i] = "http://" + testkit.Address(t)
	}
	out := make([]*credentialed, n)
	for i := range out {
		out[i] = begun(t, a, mode, append([]string{"--role", "master", "--node-name", fmt.Sprint("n", i+1),
			"--nexus-node-url", urls[i], "--nexus-cluster-url", strings.Join(urls, ",")}, args...)...)
		out[i].url = urls[i]
	}
	for _, c := range out {
		c.grpc()
	}
	return out
}

// addressesOf are where nodes serve gRPC.
func addressesOf(nodes []*credentialed) string {
	var out []string
	for _, c := range nodes {
		out = append(out, c.listen)
	}
	return strings.Join(out, ",")
}

// clientOf returns a client of nodes, in the clear unless it has a TLS configuration.
func clientOf(t *testing.T, addresses string, config *tls.Config) *dkv.Client {
	t.Helper()
	var opts []dkv.Option
	if config != nil {
		opts = append(opts, dkv.WithTLS(config))
	}
	client, err := dkv.Open(t.Context(), addresses, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// load is puts and gets by a client until it is stopped. Each failure is an error of the
// test, and so is a value older than one that was acknowledged.
type load struct {
	t      *testing.T
	client *dkv.Client
	ops    atomic.Int64
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// under has a client put and get keys of a name.
func under(t *testing.T, name string, client *dkv.Client) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{t: t, client: client, cancel: cancel}
	for i := range 2 {
		l.done.Go(func() { l.run(ctx, fmt.Sprint(name, i)) })
	}
	t.Cleanup(func() { l.stop() })
	return l
}

// run makes a put and a get every few milliseconds, which meets each step of a restart and
// leaves the processors to the nodes.
func (l *load) run(ctx context.Context, key string) {
	pace := time.NewTicker(5 * time.Millisecond)
	defer pace.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		<-pace.C
		value := fmt.Sprint(n)
		limited, end := context.WithTimeout(context.WithoutCancel(ctx), testkit.Patience)
		_, err := l.client.Put(limited, []byte(key), []byte(value))
		if err != nil {
			l.t.Errorf("put %d of %s: %v", n, key, err)
		}
		got, rerr := l.client.Get(limited, []byte(key))
		if rerr != nil || err == nil && string(got.Bytes) != value {
			l.t.Errorf("get %d of %s: %q, %v", n, key, got.Bytes, rerr)
		}
		end()
		l.ops.Add(2)
	}
}

// goesOn waits until the load has made so many further requests.
func (l *load) goesOn(n int64) {
	l.t.Helper()
	from := l.ops.Load()
	testkit.Eventually(l.t, "requests are answered", func() bool { return l.ops.Load() >= from+n })
}

// stop ends the load and returns how many requests it has made.
func (l *load) stop() int64 {
	l.cancel()
	l.done.Wait()
	return l.ops.Load()
}

// TestRollFromClearToTLSAndBack restarts a cluster node by node, from off to permissive to
// required and back, while clients put and get. No request fails.
func TestRollFromClearToTLSAndBack(t *testing.T) {
	authority := tlskit.New(t)
	nodes := securedMasters(t, authority, certs.Off, 3, "--disable-discovery-client")
	addresses, config := addressesOf(nodes), &tls.Config{RootCAs: authority.Pool}
	all := func(mode certs.Mode) {
		t.Helper()
		for _, c := range nodes {
			c.restart(mode)
		}
	}
	began := time.Now()
	inClear := under(t, "clear", clientOf(t, addresses, nil))
	inClear.goesOn(20)
	all(certs.Permissive)
	inTLS := under(t, "tls", clientOf(t, addresses, config))
	inTLS.goesOn(20)
	n := inClear.stop()
	all(certs.Required)
	inTLS.goesOn(20)
	all(certs.Permissive)
	inClear = under(t, "clear", clientOf(t, addresses, nil))
	n += inTLS.stop()
	all(certs.Off)
	inClear.goesOn(20)
	n += inClear.stop()
	t.Logf("%d requests in %v, 12 restarts", n, time.Since(began).Round(time.Second))
}

// TestRotateCertificatesAndAuthority replaces the certificates of all nodes, and then their
// authority by way of both, while clients put and get. No request fails.
func TestRotateCertificatesAndAuthority(t *testing.T) {
	first, second := tlskit.New(t), tlskit.New(t)
	nodes := securedMasters(t, first, certs.Required, 3, "--disable-discovery-client")
	both := &tls.Config{RootCAs: first.Pool.Clone()}
	second.Trust(both.RootCAs)
	l := under(t, "both", clientOf(t, addressesOf(nodes), both))
	l.goesOn(20)
	replace := func(issuer *tlskit.Authority, trusted ...string) {
		t.Helper()
		for _, c := range nodes {
			c.logged = len(c.log.String())
			own := nodeOf(t, issuer)
			c.credential(t, own, trusted...)
			c.serial = "serial=" + own.Leaf.SerialNumber.Text(16) + " "
		}
		for _, c := range nodes {
			testkit.Eventually(t, "the node uses the new files", func() bool { return strings.Contains(c.log.String()[c.logged:], c.serial) })
		}
		l.goesOn(20)
	}
	replace(first, first.File)               // new certificates
	replace(first, first.File, second.File)  // both authorities are trusted
	replace(second, first.File, second.File) // certificates of the new one
	replace(second, second.File)             // the old one is gone
	// Connections of now are made with the new authority alone.
	fresh := under(t, "new", clientOf(t, addressesOf(nodes), &tls.Config{RootCAs: second.Pool}))
	nodes[0].restart(certs.Required)
	fresh.goesOn(20)
	l.goesOn(20)
	t.Logf("%d requests, 4 replacements on each node", l.stop()+fresh.stop())
}
