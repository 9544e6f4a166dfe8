package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
)

// Callers are those that a port serves.
type Callers int

const (
	// Anyone may connect; who shows a certificate must have it from one of the authorities.
	Anyone Callers = iota
	// Nodes may connect, and no one else.
	Nodes
)

// Server returns the configuration of a port, which speaks protocols such as "h2". Each
// connection uses the set that is current when it begins. There are no session tickets:
// with one, a client whose certificate or authority was removed could resume its session.
func (s *Store) Server(serves Callers, protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion:             s.opts.MinVersion,
		SessionTicketsDisabled: true,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return s.server(s.current.Load(), serves, protocols), nil
		},
	}
}

// server is the configuration of a connection to a port.
func (s *Store) server(with *set, serves Callers, protocols []string) *tls.Config {
	c := &tls.Config{
		Certificates:           []tls.Certificate{with.cert},
		ClientCAs:              with.roots,
		ClientAuth:             tls.VerifyClientCertIfGiven,
		MinVersion:             s.opts.MinVersion,
		NextProtos:             protocols,
		SessionTicketsDisabled: true,
		// Small records save a browser a round trip, and cost a system call each.
		DynamicRecordSizingDisabled: true,
	}
	if serves == Nodes {
		c.ClientAuth = tls.RequireAndVerifyClientCert
		c.VerifyConnection = func(state tls.ConnectionState) error {
			if !OfNode(&state, s.opts.NodeName) {
				return notOfNode(state.PeerCertificates, s.opts.NodeName)
			}
			return nil
		}
	}
	return c
}

// ErrNotOfNode is the error of a connection whose other side has shown a certificate that is
// not one of a node.
var ErrNotOfNode = errors.New("not the certificate of a node")

func notOfNode(chain []*x509.Certificate, name string) error {
	return &tls.CertificateVerificationError{UnverifiedCertificates: chain, Err: fmt.Errorf(
		"%w: it does not carry the DNS name %q (tls-node-name); it carries %q", ErrNotOfNode, name, Names(chain[0]))}
}

// ClientForNodes returns the configuration of connections to other nodes. They show the
// node's certificate, and accept that of any node of the cluster, whatever address it is
// reached at. New connections use the set that is current then.
func (s *Store) ClientForNodes() *tls.Config {
	return &tls.Config{
		MinVersion: s.opts.MinVersion,
		// VerifyConnection verifies instead: against the authorities of the moment, and the
		// name of nodes in place of the address.
		InsecureSkipVerify: true,
		VerifyConnection:   s.verifyNode,
		GetClientCertificate: func(asked *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			own := &s.current.Load().cert
			if s.opts.Guest && asked.SupportsCertificate(own) != nil {
				return new(tls.Certificate), nil // none: the other side would reject it, and may take a token
			}
			return own, nil
		},
	}
}

// verifyNode verifies that the other side of a connection that this node has opened is a node.
func (s *Store) verifyNode(state tls.ConnectionState) error {
	chain := state.PeerCertificates
	if len(chain) == 0 {
		return errors.New("the other side has shown no certificate")
	}
	opts := x509.VerifyOptions{
		Roots:         s.current.Load().roots,
		Intermediates: x509.NewCertPool(),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	if _, err := chain[0].Verify(opts); err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: chain, Err: err}
	}
	if !slices.Contains(chain[0].DNSNames, s.opts.NodeName) {
		return notOfNode(chain, s.opts.NodeName)
	}
	return nil
}
