// Package peer calls other nodes: a pool of gRPC connections by address, calls
// whose errors say whether the request may have taken effect, and peers' errors in
// the terms of package kv.
//
// Pool.Call and Pool.Stream are enough for most callers. Pool.Reach and the methods
// of Peer are for those that treat the wait for a connection apart from the call.
package peer

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/dkvdb/dkv/internal/certs"
	"github.com/dkvdb/dkv/internal/certs/dial"
)

// Options configure a Pool.
type Options struct {
	// Credentials secure the connections; nil leaves them in the clear.
	Credentials credentials.TransportCredentials
	// PerRPC is sent with each call, for example a token; nil sends nothing.
	PerRPC credentials.PerRPCCredentials
	// MaxMessageSize bounds a message as that of the servers does, in bytes; a
	// response may be a little larger, for what goes around its pairs. Changes are
	// not bound by it: see replication.
	MaxMessageSize int
	// MaxConnections is how many connections one address may have: a further
	// one is opened when each has callsPerConnection calls under way. 0 is
	// DefaultConnections.
	MaxConnections int
	// Share: Peer.Forward sends calls over a stream that they share. It is for nodes whose
	// certificate, or address, says who they are: PerRPC credentials are those of a stream's
	// beginning and may run out, so that with them every call is sent alone.
	Share bool
	// DialTimeout bounds one attempt to connect. Raise it for addresses with a slow
	// way to them; 0 is two seconds.
	DialTimeout time.Duration
	// Window is how many bytes of a stream may come before its caller takes them; 0 is 1 MiB.
	// It does not change: to find out what suits a network gRPC would ping the node for each
	// message that arrives while no ping is under way, in a write of its own.
	Window int32
	// Count: Peer.Heard says how much has arrived.
	Count bool
	// Dialer connects to nodes with TLS or in the clear, as its mode says; it takes the place
	// of Credentials and Dial. Nil, and one without TLS, leave these in place.
	Dialer *dial.Dialer
	// Dial opens a connection; nil dials TCP, at any of the addresses that a name has.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// Extra are applied last and override what this package sets.
	Extra []grpc.DialOption
}

const (
	// DefaultConnections is enough for a node to forward all of its load: more
	// connections spread it over more goroutines, but fill each packet less.
	DefaultConnections = 4
	// callsPerConnection is the number of calls under way from which a connection
	// counts as busy. Up to there, calls gain from sharing its packets.
	callsPerConnection = 64
)

const (
	// keepaliveTime is how long a silent connection is trusted; gRPC allows no
	// less. keepaliveTimeout is how long a probe, or any data sent, may go
	// unacknowledged.
	keepaliveTime    = 10 * time.Second
	keepaliveTimeout = 3 * time.Second
	// Short pauses, so that a peer that restarts is soon found again; refused
	// connections cost little.
	dialBackoff    = 50 * time.Millisecond
	maxDialBackoff = time.Second

	defaultDialTimeout = 2 * time.Second
	// idleTimeout closes connections that are not used.
	idleTimeout = 5 * time.Minute
	// ioBuffer is as large as the servers'.
	ioBuffer = 128 << 10
	// defaultWindow suits answers, and a stream of 20 MB/s from 50 ms away. LargeWindow is what
	// gRPC itself grants at most.
	defaultWindow = 1 << 20
	LargeWindow   = 16 << 20
	// overhead is what a response may have beyond MaxMessageSize.
	overhead = 64 << 10
)

// NewDialer returns the Dialer of a Pool of connections to nodes.
func NewDialer(store *certs.Store, log *slog.Logger) *dial.Dialer {
	return dial.New(DialOptions(store, log))
}

// DialOptions are those of NewDialer.
func DialOptions(store *certs.Store, log *slog.Logger) dial.Options {
	return dial.Options{Store: store, Protocols: []string{"h2"}, Unheard: keepaliveTimeout, Log: log}
}

// ErrClosed is returned by a Pool after Close.
var ErrClosed = errors.New("the connections to other nodes are closed")

// Pool holds connections to other nodes, opened when they are first asked for
// and shared by all callers. Its methods are safe for concurrent use.
type Pool struct {
	options []grpc.DialOption
	// counts are the credentials of connections that count what arrives; nil if none do.
	counts credentials.TransportCredentials
	max    int
	shares bool
	// unwatch ends the watch for certificates that are read again.
	unwatch func()

	mu     sync.RWMutex
	peers  map[string]*Peer
	closed bool
}

// NewPool returns a pool without connections.
func NewPool(opts Options) *Pool {
	if opts.Dialer.Mode() != certs.Off {
		opts.Credentials, opts.Dial = handshaken{}, opts.Dialer.Dial
	} else if opts.Dialer.Faulty() {
		opts.Dial = opts.Dialer.Dial
	} else if opts.Dial == nil {
		keepAlive := net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: -1} // the system's, as gRPC has it
		opts.Dial = dial.NewNames(&net.Dialer{KeepAliveConfig: keepAlive}).Dial
	}
	if opts.Credentials == nil {
		opts.Credentials = insecure.NewCredentials()
	}
	if opts.MaxConnections <= 0 {
		opts.MaxConnections = DefaultConnections
	}
	var counts credentials.TransportCredentials
	if opts.Count {
		counts = opts.Credentials
	}
	return &Pool{options: dialOptions(opts), counts: counts, max: opts.MaxConnections, shares: opts.Share && opts.PerRPC == nil, unwatch: watch(opts.Dialer), peers: make(map[string]*Peer)}
}

// watch closes the connections to nodes whose certificates are no longer accepted, until the
// function that it returns is called.
func watch(d *dial.Dialer) (end func()) {
	if d.Mode() == certs.Off {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { d.Watch(ctx) })
	return func() { cancel(); wg.Wait() }
}

func dialOptions(opts Options) []grpc.DialOption {
	out := []grpc.DialOption{
		grpc.WithTransportCredentials(opts.Credentials),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: dialBackoff, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxDialBackoff},
			MinConnectTimeout: cmp.Or(opts.DialTimeout, defaultDialTimeout),
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.WithIdleTimeout(idleTimeout),
		grpc.WithReadBufferSize(ioBuffer),
		grpc.WithWriteBufferSize(ioBuffer),
		grpc.WithStaticStreamWindowSize(cmp.Or(opts.Window, defaultWindow)),
		grpc.WithStaticConnWindowSize(LargeWindow),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(opts.MaxMessageSize + overhead)),
		// Only the caller knows what may be sent twice.
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
		// A proxy in the environment is not meant for traffic between nodes.
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

// Peer returns the connections to an address, host:port, without waiting for one
// to stand. Its error is ErrClosed, or that of an address that cannot be one.
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

// Retain closes the connections to all addresses but these: the current members'.
// Calls under way to other addresses fail.
func (p *Pool) Retain(addrs ...string) {
	keep := setOf(addrs)
	p.drop(func(peer *Peer) bool { return !keep[peer.addr] }, false)
}

// Release closes the connections to all addresses but these that no call uses at present: for
// callers that cannot say of all calls where they go.
func (p *Pool) Release(needed ...string) {
	keep := setOf(needed)
	p.drop(func(peer *Peer) bool { return !keep[peer.addr] && !peer.used() }, false)
}

func setOf(addrs []string) map[string]bool {
	out := make(map[string]bool, len(addrs))
	for _, a := range addrs {
		out[a] = true
	}
	return out
}

// Close closes all connections for good. It is idempotent.
func (p *Pool) Close() error {
	p.drop(func(*Peer) bool { return true }, true)
	p.unwatch()
	return nil
}

func (p *Pool) drop(gone func(*Peer) bool, closed bool) {
	var dropped []*Peer
	p.mu.Lock()
	p.closed = p.closed || closed
	for addr, peer := range p.peers {
		if gone(peer) {
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
	// conns has at least one element; the slice is replaced, never changed.
	conns  atomic.Pointer[[]*conn]
	shared shared
	// heard is what Heard returns.
	heard atomic.Uint64

	mu     sync.Mutex // while conns is replaced, and lines is added to
	closed bool
	// lines are the goroutines of shared.
	lines sync.WaitGroup
}

// conn is one connection with the number of calls under way.
type conn struct {
	*grpc.ClientConn
	calls atomic.Int64
}

// Addr is the peer's address, host:port.
func (p *Peer) Addr() string { return p.addr }

// used reports whether a call is under way.
func (p *Peer) used() bool {
	return slices.ContainsFunc(*p.conns.Load(), func(c *conn) bool { return c.calls.Load() > 0 })
}

func (p *Peer) dial() (*conn, error) {
	// passthrough leaves names to the dialer, which looks them up again for each
	// connection. The zone of an IPv6 address begins with a %, which a target escapes.
	options := p.pool.options
	if p.pool.counts != nil {
		options = append(slices.Clip(options), grpc.WithTransportCredentials(counting{p.pool.counts, &p.heard}))
	}
	cc, err := grpc.NewClient("passthrough:///"+strings.ReplaceAll(p.addr, "%", "%25"), options...)
	if err != nil {
		return nil, err
	}
	return &conn{ClientConn: cc}, nil
}

// pick returns the connection for a call: the first that stands and is not busy,
// so that few calls use few connections.
func (p *Peer) pick() *conn {
	conns := *p.conns.Load()
	least := conns[0]
	var idle *conn
	for _, c := range conns {
		if state := c.GetState(); state != connectivity.Ready {
			if state == connectivity.Idle {
				idle = c
			}
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
	if least.calls.Load() >= callsPerConnection {
		switch {
		case idle != nil:
			idle.Connect() // it was closed meanwhile; calls use it once it stands
		case len(conns) < p.pool.max:
			p.grow(len(conns))
		}
	}
	return least
}

// grow adds a connection; calls use it once it stands.
func (p *Peer) grow(have int) {
	if !p.mu.TryLock() {
		return // another call is adding one
	}
	defer p.mu.Unlock()
	conns := *p.conns.Load()
	if p.closed || len(conns) != have {
		return
	}
	c, err := p.dial()
	if err != nil {
		return // the first connection reports the error
	}
	c.Connect()
	grown := append(append(make([]*conn, 0, have+1), conns...), c)
	p.conns.Store(&grown)
}

func (p *Peer) close() {
	p.mu.Lock()
	p.closed = true
	for _, c := range *p.conns.Load() {
		_ = c.Close() // fails only if it is closed already
	}
	p.mu.Unlock()
	p.lines.Wait() // they end with their connection
}

// Loopback reports whether a host, a name or an address, is reached without leaving
// this machine, so that what is sent there in the clear is seen by no other.
func Loopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}
