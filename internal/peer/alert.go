package peer

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"google.golang.org/grpc/credentials"
)

// TLS returns the credentials of TLS connections with a configuration. A connection that the
// server rejects fails with the server's reason.
func TLS(c *tls.Config) credentials.TransportCredentials { return alerting{credentials.NewTLS(c)} }

// Alerting makes connections of TLS credentials fail with the server's reason, as those of
// TLS do.
func Alerting(c credentials.TransportCredentials) credentials.TransportCredentials {
	return alerting{c}
}

// alerting are TLS credentials whose connections fail with the server's reason. A server
// rejects a client's certificate after the client's own handshake is done, so that the
// first write may fail before the reason has been read.
type alerting struct {
	credentials.TransportCredentials
}

func (a alerting) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := a.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		return nil, nil, err
	}
	return &alertConn{conn}, info, nil
}

func (a alerting) Clone() credentials.TransportCredentials {
	return alerting{a.TransportCredentials.Clone()}
}

type alertConn struct{ net.Conn }

// alertTime is how long a reason may take that the server has sent before it hung up.
const alertTime = time.Second

// Write returns what the server has said if that is why the write fails.
func (c *alertConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err == nil {
		return n, nil
	}
	if c.SetReadDeadline(time.Now().Add(alertTime)) == nil {
		if _, alert := c.Read(make([]byte, 1)); alert != nil {
			return n, alert
		}
	}
	return n, err
}
