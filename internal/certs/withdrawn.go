package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"time"
)

// Connections are the open ones of a port.
type Connections interface {
	// Drop closes those for whose handshakes gone returns true, and returns how many.
	Drop(gone func(*tls.ConnectionState) bool) int
}

// Watch closes the connections of the port whose certificates were issued by an authority that
// is no longer accepted, each time that certificates were read again, until ctx ends. A stream
// would otherwise last as long as its client wants.
func (a *Acceptor) Watch(ctx context.Context, open Connections) {
	if a == nil {
		return
	}
	// A handshake that is under way may have begun with the authorities before.
	again := time.NewTimer(handshakeTime)
	defer again.Stop()
	for changed := a.store.Changed(); ; {
		if n := open.Drop(a.store.withdrawn); n > 0 {
			a.store.opts.Log.Warn("connections are closed, since the authorities of their certificates are no longer accepted", "port", a.failures.port, "connections", n)
		}
		select {
		case <-changed:
			changed = a.store.Changed()
			again.Reset(handshakeTime)
		case <-again.C:
		case <-ctx.Done():
			return
		}
	}
}

// withdrawn reports whether no authority vouches any more for the certificate that the client
// of a connection has shown. Certificates may have expired since.
func (s *Store) withdrawn(state *tls.ConnectionState) bool {
	if len(state.VerifiedChains) == 0 {
		return false // it has shown none
	}
	opts := x509.VerifyOptions{
		Roots:         s.current.Load().roots,
		Intermediates: x509.NewCertPool(),
		CurrentTime:   time.Now(),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, c := range state.PeerCertificates[1:] {
		opts.Intermediates.AddCert(c)
	}
	for _, c := range state.VerifiedChains[0] {
		if c.NotAfter.Before(opts.CurrentTime) {
			opts.CurrentTime = c.NotAfter
		}
	}
	_, err := state.PeerCertificates[0].Verify(opts)
	return err != nil
}
