package dkv

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/dkvdb/dkv/internal/peer"
)

// Defaults of the options.
const (
	// DefaultTimeout bounds a call whose context has no deadline.
	DefaultTimeout = 5 * time.Second
	// DefaultConnections is how many connections one node may get; a further one
	// is opened only where the others are busy.
	DefaultConnections = peer.DefaultConnections
	// DefaultMaxMessageSize bounds a response, in bytes.
	DefaultMaxMessageSize = 64 << 20
)

type options struct {
	tls         *tls.Config
	token       func(context.Context) (string, error)
	plainToken  bool
	authority   string
	database    string
	dc          string
	cluster     string
	connections int
	keepalive   *keepalive.ClientParameters
	dial        func(context.Context, string) (net.Conn, error)
	maxMessage  int
	timeout     time.Duration
	plain       bool // no request ids
	fixed       bool
	log         *slog.Logger
}

func defaultOptions() options {
	return options{
		connections: DefaultConnections,
		maxMessage:  DefaultMaxMessageSize,
		timeout:     DefaultTimeout,
		log:         slog.New(slog.DiscardHandler),
	}
}

// Option changes what Open does by default.
type Option func(*options)

// WithTLS makes all connections speak TLS. The configuration is not changed; it
// is used for every node, so that it names a server only where all have that name
// in their certificates.
func WithTLS(config *tls.Config) Option { return func(o *options) { o.tls = config } }

// WithToken sends a bearer token with each request. It is an error to do so over
// connections without TLS, unless they stay on this machine or the other option
// allows it: see WithInsecureToken.
func WithToken(token string) Option {
	return WithTokenSource(func(context.Context) (string, error) { return token, nil })
}

// WithTokenSource is WithToken for a token that changes: source is called for each
// request, at the same time from several goroutines.
func WithTokenSource(source func(context.Context) (string, error)) Option {
	return func(o *options) { o.token = source }
}

// WithInsecureToken lets a token travel over connections without TLS: whoever sees
// the packets sees the token.
func WithInsecureToken() Option { return func(o *options) { o.plainToken = true } }

// WithAuthority sets the :authority of requests, by which a proxy routes, and with
// TLS the name that certificates must have.
func WithAuthority(name string) Option { return func(o *options) { o.authority = name } }

// WithDatabase makes the client refuse nodes of another database.
func WithDatabase(name string) Option { return func(o *options) { o.database = name } }

// WithCluster binds the client to the cluster with an id from the start, where it would
// be bound to the first one that it meets: that of the whole as dkvctl -status tells it,
// or of any of its vBuckets.
func WithCluster(id string) Option { return func(o *options) { o.cluster = id } }

// WithDC tells in which data centre the client is: sequential reads go to the
// replicas there, as long as one of them lives.
func WithDC(id string) Option { return func(o *options) { o.dc = id } }

// WithConnections bounds the connections to one node.
func WithConnections(most int) Option { return func(o *options) { o.connections = most } }

// WithKeepalive changes how soon a silent connection is probed, at least 10 s, and
// how long the probe may take; 10 s and 3 s by default.
func WithKeepalive(after, timeout time.Duration) Option {
	return func(o *options) { o.keepalive = &keepalive.ClientParameters{Time: after, Timeout: timeout} }
}

// WithDialer opens connections to addresses, host:port, in another way than TCP.
func WithDialer(dial func(ctx context.Context, addr string) (net.Conn, error)) Option {
	return func(o *options) { o.dial = dial }
}

// WithMaxMessageSize bounds a response, in bytes.
func WithMaxMessageSize(bytes int) Option { return func(o *options) { o.maxMessage = bytes } }

// WithTimeout bounds a call whose context has no deadline.
func WithTimeout(d time.Duration) Option { return func(o *options) { o.timeout = d } }

// WithoutIdempotency sends mutations without request ids. Servers then keep no
// results for them, and a mutation whose answer was lost ends in ErrOutcomeUnknown
// instead of being tried again.
func WithoutIdempotency() Option { return func(o *options) { o.plain = true } }

// WithFixedAddresses sends requests to the addresses of the target only, in turn
// where one fails, and leaves it to them to reach the leaders: for proxies, and
// where the addresses that nodes know of each other cannot be reached.
func WithFixedAddresses() Option { return func(o *options) { o.fixed = true } }

// WithLogger logs what happens to nodes and leaders; nothing is logged by default.
func WithLogger(log *slog.Logger) Option { return func(o *options) { o.log = log } }

func (o *options) check(t target) error {
	switch {
	case o.timeout <= 0:
		return errorf(ErrInvalid, "the timeout is %s; it must be positive", o.timeout)
	case o.connections <= 0:
		return errorf(ErrInvalid, "%d connections: a node needs one at least", o.connections)
	case o.maxMessage <= 0:
		return errorf(ErrInvalid, "the message size is %d; it must be positive", o.maxMessage)
	case o.log == nil:
		return errorf(ErrInvalid, "the logger is nil")
	case o.fixed && t.discovery:
		return errorf(ErrInvalid, "the addresses are those of registries, which serve no keys: leave out WithFixedAddresses")
	case t.database != "" && o.database != "" && t.database != o.database:
		return errorf(ErrInvalid, "the target names database %q, the option %q", t.database, o.database)
	case o.token != nil && o.tls == nil && !o.plainToken && !allLoopback(t.addrs):
		return errorf(ErrInvalid, "the token would travel unencrypted: use WithTLS, or accept that by WithInsecureToken")
	}
	return nil
}

func allLoopback(addrs []string) bool {
	for _, a := range addrs {
		if !loopback(a) {
			return false
		}
	}
	return true
}

func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// mayDial tells whether a node that the client was told of may be connected to:
// others do not decide where a token goes in the clear.
func (o *options) mayDial(addr string) bool {
	return o.token == nil || o.tls != nil || o.plainToken || loopback(addr)
}

func (o *options) pool() *peer.Pool {
	out := peer.Options{MaxMessageSize: o.maxMessage, MaxConnections: o.connections, Dial: o.dial}
	if o.tls != nil {
		out.Credentials = credentials.NewTLS(o.tls)
	}
	if o.token != nil {
		out.PerRPC = bearer(o.token)
	}
	if o.authority != "" {
		out.Extra = append(out.Extra, grpc.WithAuthority(o.authority))
	}
	if o.keepalive != nil {
		out.Extra = append(out.Extra, grpc.WithKeepaliveParams(*o.keepalive))
	}
	return peer.NewPool(out)
}

// bearer sends a token with each request.
type bearer func(context.Context) (string, error)

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (b bearer) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	token, err := b(ctx)
	if err != nil {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials: options.check
// has decided that the token may travel.
func (bearer) RequireTransportSecurity() bool { return false }
