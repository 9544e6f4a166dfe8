package ops

import (
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/certs"
	"github.com/dkvdb/dkv/internal/testkit"
	kit "github.com/dkvdb/dkv/internal/testkit/certs"
)

// secure runs a server with TLS. Below /who it answers with the names of the certificate that
// the client has shown.
func secure(t *testing.T, mode certs.Mode, change func(*Options)) (*running, *kit.Authority) {
	t.Helper()
	authority := kit.New(t)
	own := authority.Node(t)
	store, err := certs.Open(certs.Options{Mode: mode, CertFile: own.CertFile, KeyFile: own.KeyFile, CAFile: authority.File})
	if err != nil {
		t.Fatal(err)
	}
	o := options()
	o.TLS = store.Acceptor("http", certs.Anyone, "http/1.1")
	o.Handlers = map[string]http.Handler{"/who": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.TLS == nil:
			io.WriteString(w, "clear")
		case len(r.TLS.VerifiedChains) == 0:
			io.WriteString(w, "TLS")
		default:
			io.WriteString(w, strings.Join(certs.Names(r.TLS.PeerCertificates[0]), " "))
		}
	})}
	if change != nil {
		change(&o)
	}
	r := run(t, o)
	r.client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: authority.Pool, ServerName: "localhost"}
	r.client.Transport.(*http.Transport).ForceAttemptHTTP2 = true
	return r, authority
}

// who asks the server over a connection of its own.
func (r *running) who(t *testing.T, scheme string, shows ...tls.Certificate) (string, error) {
	t.Helper()
	transport := r.client.Transport.(*http.Transport).Clone()
	transport.TLSClientConfig.Certificates = shows
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport, Timeout: testkit.Patience}).Get(scheme + "://" + r.Addr().String() + "/who")
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

func TestHTTPOverTLS(t *testing.T) {
	r, authority := secure(t, certs.Required, nil)
	alice := authority.Sign(t, kit.Request{Hosts: []string{"alice"}, Name: "alice"})
	for _, c := range []struct {
		scheme string
		shows  []tls.Certificate
		want   string
	}{
		{"https", nil, "TLS"},
		{"https", []tls.Certificate{alice.Certificate}, "alice"},
		{"http", nil, "this port accepts TLS connections only (tls-mode: required); use https://\n"},
	} {
		if got, err := r.who(t, c.scheme, c.shows...); err != nil || got != c.want {
			t.Errorf("%s: %q, %v", c.scheme, got, err)
		}
	}
	if got, err := r.who(t, "https", kit.New(t).Issue(t, "alice").Certificate); err == nil {
		t.Errorf("a certificate of another authority: %q", got)
	}
}

func TestPermissiveHTTP(t *testing.T) {
	r, _ := secure(t, certs.Permissive, nil)
	for scheme, want := range map[string]string{"http": "clear", "https": "TLS"} {
		if got, err := r.who(t, scheme); err != nil || got != want {
			t.Errorf("%s: %q, %v", scheme, got, err)
		}
	}
}

// A connection with TLS counts as at work while it serves a request, in each mode.
func TestTLSConnectionAtWorkIsNotDisplaced(t *testing.T) {
	for _, mode := range []certs.Mode{certs.Required, certs.Permissive} {
		begun, release := make(chan struct{}), make(chan struct{})
		r, _ := secure(t, mode, func(o *Options) {
			o.MaxConnections = 1
			o.Handlers["/wait"] = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(begun); <-release })
		})
		scheme := "https://"
		if mode == certs.Permissive {
			scheme = "http://"
		}
		done := make(chan error, 1)
		go func() {
			response, err := r.client.Get(scheme + r.Addr().String() + "/wait")
			if err == nil {
				err = response.Body.Close()
			}
			done <- err
		}()
		<-begun
		if _, err := r.who(t, "https"); err == nil {
			t.Errorf("%s: another connection took its place", mode)
		}
		close(release)
		if err := <-done; err != nil {
			t.Errorf("%s: %v", mode, err)
		}
	}
}

// Handshakes that never end do not keep health checks out.
func TestUnfinishedHandshakesDoNotHideTheHealth(t *testing.T) {
	r, _ := secure(t, certs.Required, func(o *Options) { o.MaxConnections = 8 })
	for range 100 {
		c := dial(t, r.Addr().String())
		_, _ = c.Write([]byte{0x16, 3, 1})
	}
	testkit.Eventually(t, "a health check is answered", func() bool {
		got, err := r.who(t, "https")
		return err == nil && got == "TLS"
	})
}
