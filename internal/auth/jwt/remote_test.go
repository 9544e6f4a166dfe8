package jwt

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/auth/policy"
	"github.com/dkvdb/dkv/internal/telemetry"
)

// issuer answers as a server of keys, without a network.
type issuer struct {
	mu      sync.Mutex
	answer  []byte // nil: it cannot be reached
	delay   time.Duration
	fetches int
}

func (i *issuer) RoundTrip(*http.Request) (*http.Response, error) {
	i.mu.Lock()
	answer, delay := i.answer, i.delay
	i.fetches++
	i.mu.Unlock()
	time.Sleep(delay)
	if answer == nil {
		return nil, errors.New("connection refused")
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(answer))}, nil
}

func (i *issuer) set(answer []byte) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.answer = answer
}

func (i *issuer) count() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fetches
}

// start returns a verifier that fetches its keys from an issuer until the test ends. It is
// called in a bubble.
func start(t *testing.T, from *issuer) *Verifier {
	t.Helper()
	v, err := New(remotePolicy("https://issuer/keys", ""), telemetry.NewLogger(telemetry.LogOptions{Writer: io.Discard}))
	if err != nil {
		t.Fatal(err)
	}
	v.keys.(*remote).client.Transport = from
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		v.Run(ctx)
	}()
	t.Cleanup(func() { stop(); <-done })
	synctest.Wait()
	return v
}

func remotePolicy(url, caFile string) policy.JWT {
	return policy.JWT{Issuer: "https://issuer", Audience: "dkv", URL: url, CAFile: caFile, NameClaim: "sub", Algorithms: []string{"ES256"}}
}

func expect(t *testing.T, v *Verifier, s signer, want bool) {
	t.Helper()
	if _, err := v.Verify(s.sign(t, claims(nil))); (err == nil) != want {
		t.Errorf("a token of %s: %v", s.id, err)
	}
}

// TestUnknownKeyIsFetched rotates the issuer's key: the first token of the new one is
// accepted, and soon after the old one is not.
func TestUnknownKeyIsFetched(t *testing.T) {
	first, second := newEC(t, "1"), newEC(t, "2")
	synctest.Test(t, func(t *testing.T) {
		server := &issuer{answer: jwks(t, first)}
		v := start(t, server)
		set := v.Keys()
		expect(t, v, first, true)
		server.set(jwks(t, first, second))
		expect(t, v, second, true)
		expect(t, v, first, true)
		if v.Keys() == set {
			t.Error("the set of keys is said to be the same")
		}
		server.set(jwks(t, second))
		time.Sleep(refreshInterval + time.Second)
		expect(t, v, first, false)
		expect(t, v, second, true)
		set = v.Keys()
		time.Sleep(refreshInterval)
		if v.Keys() != set {
			t.Error("the same keys are said to be another set")
		}
	})
}

// TestUnreachableIssuerLeavesItsKeys has the server vanish for some time, and answer nonsense.
func TestUnreachableIssuerLeavesItsKeys(t *testing.T) {
	s := newEC(t, "1")
	synctest.Test(t, func(t *testing.T) {
		server := new(issuer)
		v := start(t, server)
		if _, err := v.Verify(s.sign(t, claims(nil))); !errors.Is(err, ErrUnavailable) {
			t.Errorf("without keys: %v", err)
		}
		server.set(jwks(t, s))
		time.Sleep(retryInterval)
		expect(t, v, s, true)
		for _, answer := range [][]byte{nil, []byte("{}"), []byte("<html>"), bytes.Repeat([]byte(" "), maxKeysSize+1)} {
			server.set(answer)
			time.Sleep(3 * refreshInterval)
			expect(t, v, s, true)
		}
	})
}

// TestUnknownKeysCauseFewFetches sends tokens with keys that do not exist.
func TestUnknownKeysCauseFewFetches(t *testing.T) {
	known, unknown := newEC(t, "1"), newEC(t, "2")
	text := unknown.sign(t, claims(nil))
	synctest.Test(t, func(t *testing.T) {
		server := &issuer{answer: jwks(t, known)}
		v := start(t, server)
		server.mu.Lock()
		server.delay = 5 * time.Second // longer than calls wait
		server.mu.Unlock()
		var calls sync.WaitGroup
		began := time.Now()
		for range 10 * maxWaiting {
			calls.Go(func() {
				if _, err := v.Verify(text); err == nil {
					t.Error("a token of an unknown key is accepted")
				}
			})
		}
		synctest.Wait()
		r := v.keys.(*remote)
		r.mu.Lock()
		if r.waiting != maxWaiting {
			t.Errorf("%d calls wait", r.waiting)
		}
		r.mu.Unlock()
		expect(t, v, known, true) // meanwhile
		calls.Wait()
		if took := time.Since(began); took != maxWait {
			t.Errorf("calls waited for %v", took)
		}
		before := server.count()
		for time.Since(began) < 10*retryInterval {
			expect(t, v, unknown, false)
			time.Sleep(time.Second)
		}
		if n := server.count() - before; n > 10 {
			t.Errorf("%d fetches in %v", n, time.Since(began))
		}
	})
}

// TestOnlyTheServerItselfIsBelieved fetches over TLS: by the authority that is configured,
// and without following to other places.
func TestOnlyTheServerItselfIsBelieved(t *testing.T) {
	s := newEC(t, "1")
	handler := http.NewServeMux()
	handler.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(jwks(t, s)) })
	handler.Handle("/moved", http.RedirectHandler("/keys", http.StatusFound))
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that are meant to fail
	server.StartTLS()
	t.Cleanup(server.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path, ca string
		want     bool
	}{{"/keys", ca, true}, {"/keys", "", false}, {"/moved", ca, false}, {"/none", ca, false}} {
		r, err := newRemote(server.URL+c.path, c.ca, telemetry.NewLogger(telemetry.LogOptions{Writer: io.Discard}))
		if err != nil {
			t.Fatal(err)
		}
		if err := r.fetch(t.Context()); (err == nil) != c.want || (r.current() != nil) != c.want {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for _, file := range []string{filepath.Join(t.TempDir(), "none"), os.Args[0]} {
		if _, err := newRemote(server.URL, file, nil); err == nil {
			t.Errorf("the authorities of %s are accepted", file)
		}
	}
}
