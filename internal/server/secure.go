package server

import (
	"context"
	"crypto/tls"
	"errors"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/dkvdb/dkv/internal/certs"
)

// handshake completes the handshake of a connection, which then reads and writes through TLS
// or, in permissive mode, remains in the clear.
func (c *conn) handshake(ctx context.Context, by *certs.Acceptor) error {
	out, err := by.Handshake(ctx, &c.socket)
	if err != nil {
		return err
	}
	secure, ok := out.(*tls.Conn)
	if !ok {
		c.Ready(nil)
		return nil
	}
	state := secure.ConnectionState()
	c.secure = secure
	c.Ready(&state)
	return nil
}

// handshakes is how gRPC's server has a connection complete its handshake: in the goroutine
// of that connection.
type handshakes struct {
	by *certs.Acceptor
	// until ends the unfinished ones.
	until context.Context
}

// secured returns the options by which gRPC's server uses TLS; none in the clear.
func secured(by *certs.Acceptor, until context.Context) []grpc.ServerOption {
	if by == nil {
		return nil
	}
	return []grpc.ServerOption{grpc.Creds(handshakes{by, until})}
}

// ServerHandshake implements credentials.TransportCredentials. The connection remains the
// one that gRPC knows.
func (h handshakes) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c := raw.(*conn)
	if err := c.handshake(h.until, h.by); err != nil {
		return nil, nil, err
	}
	state := c.TLS()
	if state == nil {
		return c, nil, nil
	}
	return c, credentials.TLSInfo{State: *state, CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}, nil
}

// ClientHandshake implements credentials.TransportCredentials.
func (handshakes) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these are the credentials of a server")
}

// Info implements credentials.TransportCredentials.
func (handshakes) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials.
func (h handshakes) Clone() credentials.TransportCredentials { return h }

// OverrideServerName implements credentials.TransportCredentials.
func (handshakes) OverrideServerName(string) error { return nil }
