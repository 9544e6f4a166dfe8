package peer

import (
	"context"
	"net"
	"sync/atomic"

	"google.golang.org/grpc/credentials"
)

// Heard returns how many bytes have arrived from the node, over all connections; 0 unless the pool
// counts them (Options.Count). gRPC does not show how much of a message has arrived.
func (p *Peer) Heard() uint64 { return p.heard.Load() }

// counting are credentials whose connections count what arrives.
type counting struct {
	credentials.TransportCredentials
	heard *atomic.Uint64
}

// ClientHandshake implements credentials.TransportCredentials.
func (c counting) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		return nil, nil, err
	}
	return heardConn{conn, c.heard}, info, nil
}

// Clone implements credentials.TransportCredentials.
func (c counting) Clone() credentials.TransportCredentials {
	return counting{c.TransportCredentials.Clone(), c.heard}
}

type heardConn struct {
	net.Conn
	heard *atomic.Uint64
}

// Read implements net.Conn.
func (c heardConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.heard.Add(uint64(n))
	return n, err
}
