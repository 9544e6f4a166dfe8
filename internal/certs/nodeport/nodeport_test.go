package nodeport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	"github.com/dkvdb/dkv/internal/certs"
	"github.com/dkvdb/dkv/internal/testkit"
	tlskit "github.com/dkvdb/dkv/internal/testkit/certs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const nodeName = "node.dkv.test"

func storeOf(t *testing.T, mode certs.Mode, a *tlskit.Authority) *certs.Store {
	t.Helper()
	own := a.Issue(t, nodeName)
	s, err := certs.Open(certs.Options{Mode: mode, CertFile: own.CertFile, KeyFile: own.KeyFile, CAFile: a.File, NodeName: nodeName})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// caller opens the client's side of a connection.
type caller func(raw net.Conn) net.Conn

func inTheClear(raw net.Conn) net.Conn { return raw }

// withTLS calls with a certificate, unless it is nil.
func withTLS(trusted *x509.CertPool, own *tlskit.Certificate) caller {
	return func(raw net.Conn) net.Conn {
		c := &tls.Config{RootCAs: trusted, ServerName: nodeName}
		if own != nil {
			// Sent whatever the server asks for, as an attacker would.
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own.Certificate, nil }
		}
		return tls.Client(raw, c)
	}
}

// TestWhoIsAccepted calls a port in each mode.
func TestWhoIsAccepted(t *testing.T) {
	authority, other := tlskit.New(t), tlskit.New(t)
	node, client, stranger := authority.Issue(t, nodeName), authority.Issue(t, "client.dkv.test"), other.Issue(t, nodeName)
	for _, c := range []struct {
		name string
		call caller
		// permissive and required are part of the error of the port; "" is none. reason is
		// how the rejection is counted.
		permissive, required, reason string
	}{
		{"a node", withTLS(authority.Pool, &node), "", "", ""},
		{"in the clear", inTheClear, "", "it has no TLS", "clear-text"},
		{"a client", withTLS(authority.Pool, &client), "not the certificate of a node", "not the certificate of a node", "not-of-node"},
		{"a node of another authority", withTLS(authority.Pool, &stranger), "unknown authority", "unknown authority", "authority"},
		{"without a certificate", withTLS(authority.Pool, nil), "didn't provide a certificate", "didn't provide a certificate", "no-certificate"},
	} {
		for mode, rejected := range map[certs.Mode]string{certs.Permissive: c.permissive, certs.Required: c.required} {
			t.Run(c.name+"/"+string(mode), func(t *testing.T) {
				var calls atomic.Int32
				store := storeOf(t, mode, authority)
				l := Listen(testkit.Listen(t), Options{
					Store: store, Rejected: func(net.Addr, error) { calls.Add(1) },
				})
				defer l.Close()
				raw, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer raw.Close()
				_ = raw.SetDeadline(time.Now().Add(testkit.Patience))
				accepted, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				_ = accepted.SetDeadline(time.Now().Add(testkit.Patience))
				answer := make(chan error, 1)
				go func() { answer <- talk(c.call(raw)); raw.Close() }()
				got, err := echo(accepted)
				accepted.Close()
				told := <-answer
				if rejected == "" {
					if err != nil || told != nil || got != "a" || calls.Load() != 0 {
						t.Errorf("%q, %v; the caller: %v", got, err, told)
					}
					if secure := accepted.(*Conn).State() != nil; secure != (c.name == "a node") {
						t.Errorf("TLS: %v", secure)
					}
					return
				}
				if !errors.Is(err, ErrRejected) || !strings.Contains(err.Error(), rejected) || got != "" || calls.Load() != 1 {
					t.Errorf("%q, %v", got, err)
				}
				if n := counted(t, store, c.reason); n != 1 {
					t.Errorf("%v rejections are counted as %s", n, c.reason)
				}
				if told == nil || c.name != "in the clear" && !strings.Contains(told.Error(), "remote error: tls") {
					t.Errorf("the caller is told %v", told)
				}
			})
		}
	}
}

// counted returns how often the port has rejected connections for a reason.
func counted(t *testing.T, s *certs.Store, reason string) (n float64) {
	t.Helper()
	metrics := make(chan prometheus.Metric, 16)
	s.Collect(metrics)
	close(metrics)
	for m := range metrics {
		var out dto.Metric
		if err := m.Write(&out); err != nil {
			t.Fatal(err)
		}
		if l := out.GetLabel(); len(l) == 2 && l[0].GetValue() == "raft" && l[1].GetValue() == reason {
			n += out.GetCounter().GetValue()
		}
	}
	return n
}

// talk sends a byte and awaits it.
func talk(c net.Conn) error {
	if _, err := c.Write([]byte("a")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

// echo sends back a byte and returns it.
func echo(c net.Conn) (string, error) {
	p := make([]byte, 1)
	if _, err := io.ReadFull(c, p); err != nil {
		return "", err
	}
	_, err := c.Write(p)
	return string(p), err
}

// TestWithoutTLSNothingChanges: the listener is the one below.
func TestWithoutTLSNothingChanges(t *testing.T) {
	l := testkit.Listen(t)
	defer l.Close()
	if Listen(l, Options{}) != l {
		t.Error("another listener")
	}
}

// TestSometimes logs the first stranger at once, and then one line for all of ten seconds.
func TestSometimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Sometimes
		for i, want := range []int{1, 0, 0} {
			if n := s.Now(); n != want {
				t.Errorf("call %d: %d", i, n)
			}
		}
		time.Sleep(logEvery)
		if n := s.Now(); n != 3 {
			t.Errorf("%d after a while", n)
		}
	})
}
