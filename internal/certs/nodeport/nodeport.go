// Package nodeport accepts connections to a port that only nodes use: the Raft port. As the
// mode says they have TLS, with the certificate of a node, or are in the clear. The first
// byte of a connection decides; see internal/auth/DESIGN.md.
package nodeport

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/dkvdb/dkv/internal/certs"
)

// ErrRejected is wrapped by the error of a connection that is not one of a node: it is in the
// clear where TLS is required, or shows no certificate of a node.
var ErrRejected = errors.New("the connection is rejected")

// recordHandshake is the first byte of a TLS connection. No other protocol of the port
// begins with it.
const recordHandshake = 22

// Options configure a listener.
type Options struct {
	// Store has the mode and the certificates; nil is a port without TLS.
	Store *certs.Store
	// Protocols are what the port speaks, as ALPN names it; nil is whatever comes.
	Protocols []string
	// Clear, unless nil, returns an error for a connection in the clear that is rejected
	// because of where it comes from.
	Clear func(from net.Addr) error
	// Rejected, unless nil, is called with the error of each connection that is rejected.
	Rejected func(from net.Addr, err error)
}

// Listen returns a listener over another one. Its connections are *Conn, unless the port is
// one without TLS that anyone may use: then it is l itself.
func Listen(l net.Listener, o Options) net.Listener {
	switch {
	case o.Store.Mode() != certs.Off:
		return &listener{Listener: l, opts: o, config: o.Store.Server(certs.Nodes, o.Protocols...)}
	case o.Clear != nil:
		return &listener{Listener: l, opts: o}
	default:
		return l
	}
}

type listener struct {
	net.Listener
	opts   Options
	config *tls.Config
}

// Accept waits for a connection. It does not wait for what comes on it.
func (l *listener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &Conn{Conn: raw, of: l}, nil
}

// Conn is a connection to the port. The first Read or Write waits until the other side has
// begun, and does the handshake; deadlines bound that. Reads and writes before it is known
// whether the other side is a node go nowhere.
type Conn struct {
	net.Conn
	of *listener

	once sync.Once
	// over is what is read and written: TLS, or the connection with its first byte. It and
	// err are set by once.
	over  net.Conn
	err   error
	state *tls.ConnectionState
}

// Handshake decides what the connection is, unless it has been decided. Its error wraps
// ErrRejected, or is one of the network.
func (c *Conn) Handshake() error {
	c.once.Do(func() {
		c.err = c.handshake()
		if !errors.Is(c.err, ErrRejected) {
			return
		}
		c.of.opts.Store.CountFailure("raft", c.err)
		if rejected := c.of.opts.Rejected; rejected != nil {
			rejected(c.RemoteAddr(), c.err)
		}
	})
	return c.err
}

func (c *Conn) handshake() error {
	if c.of.opts.Store.Mode() == certs.Off {
		c.over = c.Conn
		return c.clear()
	}
	first := []byte{0}
	if _, err := c.Conn.Read(first); err != nil {
		return err
	}
	begun := &begun{Conn: c.Conn, first: first}
	switch {
	case first[0] == recordHandshake:
		secure := tls.Server(begun, c.of.config)
		if err := secure.Handshake(); err != nil {
			linger(c.Conn)
			return fmt.Errorf("%w: %w", ErrRejected, err)
		}
		state := secure.ConnectionState()
		c.over, c.state = secure, &state
	case c.of.opts.Store.Mode() == certs.Required:
		return fmt.Errorf("%w: it has no TLS: %w; it begins with %x", ErrRejected, certs.ErrClear, first)
	default:
		c.over = begun
		return c.clear()
	}
	return nil
}

// clear decides about a connection in the clear.
func (c *Conn) clear() error {
	if c.of.opts.Clear == nil {
		return nil
	}
	if err := c.of.opts.Clear(c.RemoteAddr()); err != nil {
		return fmt.Errorf("%w: %w", ErrRejected, err)
	}
	return nil
}

const (
	// lingerFor and lingerBytes bound what is read of a rejected connection.
	lingerFor   = time.Second
	lingerBytes = 64 << 10
)

// linger lets the other side read why it is rejected: closing a connection that has unread
// data discards what was written to it.
func linger(c net.Conn) {
	if c.SetReadDeadline(time.Now().Add(lingerFor)) == nil {
		_, _ = io.CopyN(io.Discard, c, lingerBytes)
	}
}

// Read reads what the other side has sent.
func (c *Conn) Read(p []byte) (int, error) {
	if err := c.Handshake(); err != nil {
		return 0, err
	}
	return c.over.Read(p)
}

// Write writes to the other side.
func (c *Conn) Write(p []byte) (int, error) {
	if err := c.Handshake(); err != nil {
		return 0, err
	}
	return c.over.Write(p)
}

// Close closes the connection at once, without a word about it as TLS has it: the messages
// of this port say themselves where they end.
func (c *Conn) Close() error { return c.Conn.Close() }

// NetConn returns the connection below TLS.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// State returns the state of TLS; nil if the connection is in the clear, or Handshake has
// not returned nil.
func (c *Conn) State() *tls.ConnectionState { return c.state }

// begun is a connection whose first byte has been read.
type begun struct {
	net.Conn
	first []byte
}

func (b *begun) Read(p []byte) (int, error) {
	if len(b.first) > 0 && len(p) > 0 {
		p[0], b.first = b.first[0], nil
		return 1, nil
	}
	return b.Conn.Read(p)
}

// Sometimes bounds how often something is logged that strangers can cause.
type Sometimes struct {
	mu    sync.Mutex
	last  time.Time
	quiet int
}

// logEvery is how often it is at the most.
const logEvery = 10 * time.Second

// Now returns how often it was called since it last did not return 0.
func (s *Sometimes) Now() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quiet++
	if time.Since(s.last) < logEvery {
		return 0
	}
	n := s.quiet
	s.last, s.quiet = time.Now(), 0
	return n
}
