// Package peer is a node's connections to the other nodes of its cluster: a pool
// of gRPC connections by address, calls that know whether their request has left,
// and the errors of peers in the terms of package kv.
package peer

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// Options are what a Pool is made of.
type Options struct {
	// Credentials secure the connections; nil leaves them in the clear.
	Credentials credentials.TransportCredentials
	// PerRPC goes with each call, for example a token; nil is nothing.
	PerRPC credentials.PerRPCCredentials
	// MaxMessageSize bounds a message as that of the servers does, in bytes; a
	// response may be a little larger, for what goes around its pairs. Changes are
	// not bound by it: see replication.
	MaxMessageSize int
	// MaxConnections is how many connections one address may have: a further
	// one is opened where each has callsPerConnection calls under way. 0 is
	// DefaultConnections.
	MaxConnections int
	// Dial opens a connection; nil dials TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// Extra come after all that this package sets, and win.
	Extra []grpc.DialOption
}

const (
	// DefaultConnections is enough for a node to hand all of its load on: more
	// connections spread it over more goroutines, but fill each packet less.
	DefaultConnections = 4
	// callsPerConnection is from how many calls under way a connection is taken
	// for busy. Up to there, calls gain from sharing its packets.
	callsPerConnection = 64
)

const (
	// keepaliveTime is how long a silent connection is trusted; gRPC allows no
	// less. keepaliveTimeout is how long a probe, or any data sent, may go
	// unacknowledged.
	keepaliveTime    = 10 * time.Second
	keepaliveTimeout = 3 * time.Second
	// A peer that restarts is to be found again soon; refused connections cost
	// little.
	dialBackoff    = 50 * time.Millisecond
	maxDialBackoff = time.Second
	dialTimeout    = 2 * time.Second
	// idleTimeout closes connections that nobody uses.
	idleTimeout = 5 * time.Minute
	// ioBuffer is that of the servers.
	ioBuffer = 128 << 10
	// overhead is what a response may have beyond MaxMessageSize.
	overhead = 64 << 10
)

// ErrClosed is returned by a Pool after Close.
var ErrClosed = errors.New("the connections to other nodes are closed")

// Pool holds connections to other nodes, opened when they are first asked for
// and shared by all callers. Its methods are safe for concurrent use.
type Pool struct {
	options []grpc.DialOption
	max     int

	mu     sync.RWMutex
	peers  map[string]*Peer
	closed bool
}

// NewPool makes a pool without connections.
func NewPool(opts Options) *Pool {
	if opts.Credentials == nil {
		opts.Credentials = insecure.NewCredentials()
	}
	if opts.MaxConnections <= 0 {
		opts.MaxConnections = DefaultConnections
	}
	return &Pool{options: dialOptions(opts), max: opts.MaxConnections, peers: make(map[string]*Peer)}
}

func dialOptions(opts Options) []grpc.DialOption {
	out := []grpc.DialOption{
		grpc.WithTransportCredentials(opts.Credentials),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: dialBackoff, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxDialBackoff},
			MinConnectTimeout: dialTimeout,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.WithIdleTimeout(idleTimeout),
		grpc.WithReadBufferSize(ioBuffer),
		grpc.WithWriteBufferSize(ioBuffer),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(opts.MaxMessageSize + overhead)),
		// Only the caller knows what may be sent twice.
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
		// The way between members does not depend on the environment.
		grpc.WithNoProxy(),
	}
	if opts.PerRPC != nil {
		out = append(out, grpc.WithPerRPCCredentials(opts.PerRPC))
	}
	if opts.Dial != nil {
		out = append(out, grpc.WithContextDialer(opts.Dial))
	}
	return append(out, opts.Extra...)
}

// Peer returns the connections to an address, host:port. It does not wait for
// any of them to stand.
func (p *Pool) Peer(addr string) (*Peer, error) {
	p.mu.RLock()
	found, closed := p.peers[addr], p.closed
	p.mu.RUnlock()
	switch {
	case closed:
		return nil, ErrClosed
	case found != nil:
		return found, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	if found := p.peers[addr]; found != nil {
		return found, nil
	}
	out := &Peer{addr: addr, pool: p}
	first, err := out.dial()
	if err != nil {
		return nil, err
	}
	out.conns.Store(&[]*conn{first})
	p.peers[addr] = out
	return out, nil
}

// Retain closes the connections to all addresses but these: those of the members
// that a cluster has. Calls under way to the others end in an error.
func (p *Pool) Retain(addrs ...string) {
	keep := make(map[string]bool, len(addrs))
	for _, a := range addrs {
		keep[a] = true
	}
	p.drop(func(addr string) bool { return !keep[addr] }, false)
}

// Close closes all connections for good. It is idempotent.
func (p *Pool) Close() error {
	p.drop(func(string) bool { return true }, true)
	return nil
}

func (p *Pool) drop(gone func(addr string) bool, closed bool) {
	var dropped []*Peer
	p.mu.Lock()
	p.closed = p.closed || closed
	for addr, peer := range p.peers {
		if gone(addr) {
			dropped = append(dropped, peer)
			delete(p.peers, addr)
		}
	}
	p.mu.Unlock()
	for _, peer := range dropped {
		peer.close()
	}
}

// Peer is the connections to one address.
type Peer struct {
	addr string
	pool *Pool
	// conns are never less than one; the slice is replaced, not changed.
	conns atomic.Pointer[[]*conn]

	mu     sync.Mutex // while conns is replaced
	closed bool
}

// conn is one connection with the number of calls under way.
type conn struct {
	*grpc.ClientConn
	calls atomic.Int64
}

// Addr is the peer's address, host:port.
func (p *Peer) Addr() string { return p.addr }

func (p *Peer) dial() (*conn, error) {
	// passthrough leaves names to the dialer, which looks them up for each
	// connection anew.
	cc, err := grpc.NewClient("passthrough:///"+p.addr, p.pool.options...)
	if err != nil {
		return nil, err
	}
	return &conn{ClientConn: cc}, nil
}

// pick returns the connection for a call: the first that stands and is not busy,
// so that few calls share few connections.
func (p *Peer) pick() *conn {
	conns := *p.conns.Load()
	least := conns[0]
	for _, c := range conns {
		if c.GetState() != connectivity.Ready {
			continue
		}
		n := c.calls.Load()
		if n < callsPerConnection {
			return c
		}
		if n < least.calls.Load() || least.GetState() != connectivity.Ready {
			least = c
		}
	}
	if len(conns) < p.pool.max && least.calls.Load() >= callsPerConnection {
		p.grow(len(conns))
	}
	return least
}

// grow adds a connection to those that there are; calls use it once it stands.
func (p *Peer) grow(have int) {
	if !p.mu.TryLock() {
		return // somebody else is at it
	}
	defer p.mu.Unlock()
	conns := *p.conns.Load()
	if p.closed || len(conns) != have {
		return
	}
	c, err := p.dial()
	if err != nil {
		return // the first one's error is the one to tell
	}
	c.Connect()
	grown := append(append(make([]*conn, 0, have+1), conns...), c)
	p.conns.Store(&grown)
}

func (p *Peer) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, c := range *p.conns.Load() {
		_ = c.Close() // fails only where it is closed already
	}
}
