package dkv

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync/atomic"

	"google.golang.org/grpc/credentials"
)

// TLSFiles name the PEM files of WithTLSFiles.
type TLSFiles struct {
	// CA holds the authorities that may issue the certificates of nodes; "" trusts those of
	// the system.
	CA string
	// Cert and Key are the client's own certificate and its key; both are "" if it has none.
	Cert, Key string
	// ServerName is a name that the certificates of all nodes carry; "" expects the host of
	// each address. The certificates of nodes carry dkv-node, unless tls-node-name says
	// otherwise.
	ServerName string
}

// tlsFiles are transport credentials that read their files for each connection.
type tlsFiles struct {
	TLSFiles
	log *slog.Logger
	// last is the configuration of the files when they could last be used.
	last atomic.Pointer[tls.Config]
}

// newTLSFiles returns the credentials of files, which must be usable now.
func newTLSFiles(files TLSFiles) (*tlsFiles, error) {
	f := &tlsFiles{TLSFiles: files, log: slog.New(slog.DiscardHandler)}
	c, err := f.load()
	if err != nil {
		return nil, err
	}
	f.last.Store(c)
	return f, nil
}

func (f *tlsFiles) load() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: f.ServerName}
	if f.CA != "" {
		raw, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, fmt.Errorf("the authorities: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(raw) {
			return nil, fmt.Errorf("the authorities: %s holds no PEM certificate", f.CA)
		}
	}
	switch {
	case f.Cert == "" && f.Key == "":
		return c, nil
	case f.Cert == "" || f.Key == "":
		return nil, errors.New("a certificate and its key belong together: name both files")
	}
	pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("the certificate %s with the key %s: %w", f.Cert, f.Key, err)
	}
	c.Certificates = []tls.Certificate{pair}
	return c, nil
}

// ClientHandshake implements credentials.TransportCredentials.
func (f *tlsFiles) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, err := f.load()
	if err != nil {
		f.log.Warn("TLS files cannot be used, those before stay in use", "error", err)
		c = f.last.Load()
	} else {
		f.last.Store(c)
	}
	return credentials.NewTLS(c).ClientHandshake(ctx, authority, raw)
}

// ServerHandshake implements credentials.TransportCredentials.
func (f *tlsFiles) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these are the credentials of a client")
}

// Info implements credentials.TransportCredentials.
func (f *tlsFiles) Info() credentials.ProtocolInfo {
	return credentials.NewTLS(f.last.Load()).Info()
}

// Clone implements credentials.TransportCredentials: there is nothing to copy.
func (f *tlsFiles) Clone() credentials.TransportCredentials { return f }

// OverrideServerName implements credentials.TransportCredentials. It is deprecated, and
// gRPC does not call it.
func (f *tlsFiles) OverrideServerName(string) error {
	return errors.New("use WithAuthority")
}
