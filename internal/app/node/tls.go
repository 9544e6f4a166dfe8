package node

import (
	"context"

	"github.com/dkvdb/dkv/internal/certs"
	"github.com/dkvdb/dkv/internal/config"
)

// openCerts opens the certificates, unless tls-mode is off, and has them read again at
// SIGHUP and when they change.
func (n *Node) openCerts() (err error) {
	opts := certOptions(n.Config)
	opts.Log = n.Log
	if n.Certs, err = certs.Open(opts); err != nil || n.Certs == nil {
		return err
	}
	n.Collectors = append(n.Collectors, n.Certs)
	n.OnReload(func() { _ = n.Certs.Reload() }) // it has logged the error
	n.RunBeside(func(ctx context.Context) error { n.Certs.Watch(ctx); return nil })
	return nil
}

// checkCerts checks the certificates that a start would read.
func checkCerts(cfg *config.Config) error {
	_, err := certs.Open(certOptions(cfg))
	return err
}

func certOptions(cfg *config.Config) certs.Options {
	s := &cfg.Security
	return certs.Options{
		Mode:       certs.Mode(s.TLSMode),
		CertFile:   s.TLSCertFile,
		KeyFile:    s.TLSKeyFile,
		CAFile:     s.TLSCAFile,
		MinVersion: uint16(s.TLSMinVersion),
		NodeName:   s.TLSNodeName,
		Guest:      cfg.Role == config.RoleSlave || cfg.ConfiguredRole() == config.RoleSlave,
	}
}

// GRPCAcceptor completes the handshakes of the gRPC port; nil if tls-mode is off.
func (n *Node) GRPCAcceptor() *certs.Acceptor { return n.Certs.Acceptor("grpc", certs.Anyone, "h2") }
