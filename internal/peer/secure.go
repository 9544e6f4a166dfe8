package peer

import (
	"context"
	"errors"
	"net"

	"google.golang.org/grpc/credentials"

	"github.com/dkvdb/dkv/internal/certs/dial"
)

// handshaken are the credentials of connections whose dial.Dialer has done the handshake: it
// chooses between TLS and clear for each connection, which gRPC's own credentials cannot.
// The :authority of calls stays the address.
type handshaken struct{}

// clear says that a connection has no TLS.
type clear struct{ credentials.CommonAuthInfo }

// AuthType implements credentials.AuthInfo.
func (clear) AuthType() string { return "clear" }

// ClientHandshake implements credentials.TransportCredentials.
func (handshaken) ClientHandshake(_ context.Context, _ string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secure, is := conn.(*dial.Secured)
	if !is {
		return conn, clear{credentials.CommonAuthInfo{SecurityLevel: credentials.NoSecurity}}, nil
	}
	return conn, credentials.TLSInfo{
		State:          secure.ConnectionState(),
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
	}, nil
}

// ServerHandshake implements credentials.TransportCredentials.
func (handshaken) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are those of a client")
}

// Info implements credentials.TransportCredentials.
func (handshaken) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "node"}
}

// Clone implements credentials.TransportCredentials.
func (h handshaken) Clone() credentials.TransportCredentials { return h }

// OverrideServerName implements credentials.TransportCredentials.
func (handshaken) OverrideServerName(string) error { return nil }
