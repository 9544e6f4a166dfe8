// Package certs holds the TLS certificates of a node: it reads them from files, reads
// them again when they change, makes the TLS configurations of servers and clients from
// them, and decides whose certificate belongs to a node of the cluster. The rules are in
// internal/auth/DESIGN.md.
package certs

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"slices"
)

// Mode is whether connections use TLS.
type Mode string

// The modes, in the order in which a running cluster goes through them.
const (
	// Off accepts and opens connections in the clear.
	Off Mode = "off"
	// Permissive accepts both kinds, and opens connections in the clear only to nodes that
	// do not speak TLS.
	Permissive Mode = "permissive"
	// Required accepts and opens TLS connections only.
	Required Mode = "required"
)

// Options say where the certificates are and what they have to fulfil.
type Options struct {
	Mode Mode
	// CertFile and KeyFile are the PEM files of the node's own certificate, with which it
	// serves and calls other nodes; CAFile is that of the authorities that must have issued
	// the certificates of nodes and clients.
	CertFile, KeyFile, CAFile string
	// MinVersion is the oldest TLS version, as crypto/tls numbers it; 0 is TLS 1.3.
	MinVersion uint16
	// Guest is set for a slave, whose own certificate need not be one of a node: its masters
	// may know it by another name, or by a token.
	Guest bool
	// NodeName is the DNS name that the certificates of nodes carry and no other ones.
	NodeName string
	Log      *slog.Logger
}

// Names returns the names that a certificate carries: its DNS names, URIs and e-mail
// addresses, and its common name.
func Names(c *x509.Certificate) []string {
	names := slices.Clone(c.DNSNames)
	for _, u := range c.URIs {
		names = append(names, u.String())
	}
	names = append(names, c.EmailAddresses...)
	if cn := c.Subject.CommonName; cn != "" && !slices.Contains(names, cn) {
		names = append(names, cn)
	}
	return names
}

// OfNode reports whether the other side of a connection has shown the certificate of a
// node. The chain has been verified by the handshake.
func OfNode(state *tls.ConnectionState, nodeName string) bool {
	return state != nil && len(state.VerifiedChains) > 0 && slices.Contains(state.PeerCertificates[0].DNSNames, nodeName)
}
