package jwt

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// fetchTimeout is for one answer of the server.
	fetchTimeout = 10 * time.Second
	// refreshInterval is how often keys are fetched: a key that the issuer has withdrawn is
	// accepted that much longer.
	refreshInterval = 10 * time.Minute
	// retryInterval is the time between two attempts while the server does not answer, and
	// the least time between two that tokens with unknown keys cause.
	retryInterval = 30 * time.Second
	// maxWait is how long a call waits for keys, and maxWaiting how many calls do.
	maxWait    = 3 * time.Second
	maxWaiting = 64
)

// remote are the keys that a server publishes. Those that were fetched last stay in use while
// the server cannot be reached.
type remote struct {
	url    string
	client *http.Client
	log    *slog.Logger
	known  atomic.Pointer[Keys]
	// content is the hash of the last answer; only run uses it.
	content [sha256.Size]byte
	// wanted has room for one: an attempt is wanted now.
	wanted chan struct{}

	mu      sync.Mutex
	last    time.Time     // of the last attempt that a token has caused
	pending bool          // that attempt has not ended
	done    chan struct{} // closed at the end of the next attempt
	waiting int
}

func newRemote(url, caFile string, log *slog.Logger) (*remote, error) {
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   fetchTimeout,
		ResponseHeaderTimeout: fetchTimeout,
		DisableKeepAlives:     true, // minutes pass until the next request
	}
	if caFile != "" {
		data, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("ca-file of jwt: %w; name a PEM file with authorities", err)
		}
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("ca-file of jwt: %s has no certificate in PEM: name the file of the authority that has issued the server's", caFile)
		}
	}
	return &remote{
		url: url,
		client: &http.Client{Transport: transport, Timeout: fetchTimeout, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse // only the configured server is believed
		}},
		log:    log,
		wanted: make(chan struct{}, 1),
		done:   make(chan struct{}),
	}, nil
}

func (r *remote) current() *Keys { return r.known.Load() }

// refreshed waits for an attempt to fetch the keys, unless the last one was a short time ago
// or too many calls wait already.
func (r *remote) refreshed() *Keys {
	done := r.want()
	if done == nil {
		return r.known.Load()
	}
	patience := time.NewTimer(maxWait)
	defer patience.Stop()
	select {
	case <-done:
	case <-patience.C:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting--
	return r.known.Load()
}

// want asks for an attempt and returns what is closed at its end; nil if none is due, or too
// many calls wait for it.
func (r *remote) want() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); !r.pending && (r.last.IsZero() || now.Sub(r.last) >= retryInterval) {
		r.last, r.pending = now, true
		select {
		case r.wanted <- struct{}{}:
		default: // it is wanted already
		}
	}
	if !r.pending || r.waiting == maxWaiting {
		return nil
	}
	r.waiting++
	return r.done
}

// run fetches the keys at once, regularly, and when they are wanted, until ctx ends.
func (r *remote) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-r.wanted:
		}
		err := r.fetch(ctx)
		r.attempted()
		if ctx.Err() != nil {
			return
		}
		switch {
		case err != nil && !failing:
			r.log.Error("the keys of JWTs cannot be fetched; those that are known stay in use", "url", r.url, "error", err)
		case err == nil && failing:
			r.log.Info("the keys of JWTs are fetched again", "url", r.url)
		}
		next := refreshInterval
		if failing = err != nil; failing {
			next = retryInterval
		}
		timer.Reset(next)
	}
}

// attempted lets the calls go on that wait for the attempt.
func (r *remote) attempted() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.done)
	r.done, r.pending = make(chan struct{}), false
}

// fetch gets the keys. They are another set only if the answer has changed.
func (r *remote) fetch(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "application/json")
	response, err := r.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close() // only read
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the server answers %s: give the URL of its JWKS", response.Status)
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, maxKeysSize+1))
	if err != nil {
		return err
	}
	if len(data) > maxKeysSize {
		return fmt.Errorf("the answer has more than %d bytes: give the URL of a JWKS", maxKeysSize)
	}
	content := sha256.Sum256(data)
	if content == r.content {
		return nil
	}
	k, rejected, err := parseJWKS(data)
	if err != nil {
		return err
	}
	if len(rejected) > 0 {
		r.log.Info("some keys of the JWKS are not used", "url", r.url, "error", errors.Join(rejected...))
	}
	r.content = content
	r.known.Store(k)
	return nil
}

// Run fetches the keys of a server, at once and again from time to time, until ctx ends.
func (v *Verifier) Run(ctx context.Context) {
	if r, ok := v.keys.(*remote); ok {
		r.run(ctx)
	}
}
