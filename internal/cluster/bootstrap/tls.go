package bootstrap

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// TLS is how the Raft port is guarded: both sides show a certificate. The
// fields are PEM files.
type TLS struct {
	CA, Cert, Key string
}

// credentials returns those of the server's and of the client's side.
func (t *TLS) credentials() (server, client credentials.TransportCredentials, err error) {
	if t == nil {
		return insecure.NewCredentials(), insecure.NewCredentials(), nil
	}
	cert, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: certificate %s with key %s: %w", ErrConfig, t.Cert, t.Key, err)
	}
	pem, err := os.ReadFile(t.CA)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: certificate authority: %w", ErrConfig, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, nil, fmt.Errorf("%w: certificate authority: %s holds no PEM certificate", ErrConfig, t.CA)
	}
	server = credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{cert}, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12,
	})
	client = credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{cert}, RootCAs: pool, MinVersion: tls.VersionTLS12,
	})
	return server, client, nil
}
