package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"maps"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// The reasons for which handshakes fail, as dkv_tls_handshake_failures_total names them.
const (
	reasonAuthority   = "authority"
	reasonExpired     = "expired"
	reasonMissing     = "no-certificate"
	reasonNotOfNode   = "not-of-node"
	reasonCertificate = "certificate"
	reasonClear       = "clear-text"
	reasonVersion     = "version"
	reasonRejected    = "rejected-by-client"
	reasonTimeout     = "timeout"
	reasonOther       = "other"
)

// reasonOf returns why a handshake has failed. crypto/tls has no error values for two of the
// reasons; a test keeps their texts up to date.
func reasonOf(err error) string {
	var (
		authority x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
		verify    *tls.CertificateVerificationError
		remote    *net.OpError
	)
	switch {
	case errors.Is(err, ErrClear):
		return reasonClear
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return reasonTimeout
	case errors.Is(err, ErrNotOfNode):
		return reasonNotOfNode
	case errors.As(err, &authority):
		return reasonAuthority
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return reasonExpired
	case errors.As(err, &verify), errors.As(err, &invalid):
		return reasonCertificate
	case strings.Contains(err.Error(), "didn't provide a certificate"):
		return reasonMissing
	case strings.Contains(err.Error(), "unsupported versions"):
		return reasonVersion
	case errors.As(err, &remote) && remote.Op == "remote error":
		return reasonRejected
	}
	return reasonOther
}

// logEvery bounds how often failures of one reason are logged.
const logEvery = 10 * time.Second

// failures counts the handshakes of a port that failed, and logs some of them.
type failures struct {
	port string
	log  *slog.Logger

	mu    sync.Mutex
	count map[string]uint64
	// logged is when a reason was logged last, omitted how many were not since then.
	logged  map[string]time.Time
	omitted map[string]uint64
}

// failuresOf returns the counts of a port, which are the same each time.
func (s *Store) failuresOf(port string) *failures {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.ports {
		if f.port == port {
			return f
		}
	}
	f := &failures{port: port, log: s.opts.Log, count: make(map[string]uint64), logged: make(map[string]time.Time), omitted: make(map[string]uint64)}
	s.ports = append(s.ports, f)
	return f
}

// CountFailure counts a connection to a port that its own package has rejected, and logged. A
// node without TLS has no such count.
func (s *Store) CountFailure(port string, err error) {
	if s == nil {
		return
	}
	f := s.failuresOf(port)
	f.mu.Lock()
	f.count[reasonOf(err)]++
	f.mu.Unlock()
}

func (f *failures) add(reason string, from net.Addr, err error) {
	now := time.Now()
	f.mu.Lock()
	f.count[reason]++
	if last, ever := f.logged[reason]; ever && now.Sub(last) < logEvery {
		f.omitted[reason]++
		f.mu.Unlock()
		return
	}
	omitted := f.omitted[reason]
	f.logged[reason], f.omitted[reason] = now, 0
	f.mu.Unlock()
	f.log.Warn("a TLS handshake failed", "port", f.port, "reason", reason, "peer", from.String(), "omitted", omitted, "error", err)
}

func (f *failures) all() map[string]uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.count)
}
