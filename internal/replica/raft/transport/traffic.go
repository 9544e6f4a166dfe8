package transport

import (
	"net"
	"sync/atomic"
)

// Traffic counts the bytes that a transport has sent and received, without those of TLS.
type Traffic struct{ Sent, Received atomic.Uint64 }

// metered is a connection whose bytes are counted.
type metered struct {
	net.Conn
	traffic *Traffic
}

// Read implements net.Conn.
func (m metered) Read(p []byte) (int, error) {
	n, err := m.Conn.Read(p)
	m.traffic.Received.Add(uint64(n))
	return n, err
}

// Write implements net.Conn.
func (m metered) Write(p []byte) (int, error) {
	n, err := m.Conn.Write(p)
	m.traffic.Sent.Add(uint64(n))
	return n, err
}
