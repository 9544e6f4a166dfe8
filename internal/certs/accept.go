package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// handshakeTime bounds how long a connection may take until its handshake is complete.
// Only tests change it.
var handshakeTime = 10 * time.Second

// handshakeByte is the first byte of a TLS connection: that of a handshake record. Neither
// HTTP/1, HTTP/2 nor the Raft port's format begins with it.
const handshakeByte = 0x16

// Acceptor makes the connections that a port has accepted ready for use. A nil Acceptor is
// that of a port in the clear.
type Acceptor struct {
	store    *Store
	config   *tls.Config
	failures *failures
}

// Acceptor returns that of a port, whose name is for the log and the metrics; nil if the mode
// is Off. The other arguments are those of Server.
func (s *Store) Acceptor(port string, serves Callers, protocols ...string) *Acceptor {
	if s == nil {
		return nil
	}
	return &Acceptor{store: s, config: s.Server(serves, protocols...), failures: s.failuresOf(port)}
}

// Mode returns whether the port's connections use TLS.
func (a *Acceptor) Mode() Mode {
	if a == nil {
		return Off
	}
	return a.store.opts.Mode
}

// Peeker is a connection whose first byte can be looked at before it is read.
type Peeker interface {
	net.Conn
	// Peek waits for data and returns its first byte, which stays to be read.
	Peek() (byte, error)
}

// Handshake completes the handshake of a connection, and returns what is to be used from then
// on: a *tls.Conn, or c itself for one in the clear that the mode permits. It takes ten
// seconds at most, and leaves that deadline to the connection for its first request. A
// failure has been counted and, if there are not too many, logged; the caller has to close
// the connection.
func (a *Acceptor) Handshake(ctx context.Context, c Peeker) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	out, err := a.handshake(ctx, c)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		if !errors.Is(err, io.EOF) { // it was closed before it said anything, as by a port scan
			a.failures.add(reasonOf(err), c.RemoteAddr(), err)
		}
		return nil, fmt.Errorf("TLS handshake with %v: %w", c.RemoteAddr(), err)
	}
	return out, nil
}

func (a *Acceptor) handshake(ctx context.Context, c Peeker) (net.Conn, error) {
	first, err := c.Peek()
	switch {
	case err != nil:
		return nil, err
	case first == handshakeByte:
		secure := tls.Server(c, a.config)
		err := secure.HandshakeContext(ctx)
		if err != nil && ctx.Err() == nil && !errors.Is(err, io.EOF) {
			linger(c)
		}
		return secure, err
	case a.store.opts.Mode == Permissive:
		return c, nil
	}
	refuseClear(ctx, c)
	return nil, ErrClear
}
