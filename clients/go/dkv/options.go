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
	// DefaultConnections is the most connections to one node; another one is opened
	// only when the others are busy.
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
	withoutIDs  bool // no request ids
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

// Option changes a default of Open.
type Option func(*options)

// WithTLS makes all connections use TLS. The configuration is not changed. It is used
// for every node: set ServerName only if all certificates contain that name.
func WithTLS(config *tls.Config) Option { return func(o *options) { o.tls = config } }

// WithToken sends a bearer token with each request. Without TLS that is an error,
// unless the connections stay on this machine or WithInsecureToken allows it.
func WithToken(token string) Option {
	return WithTokenSource(func(context.Context) (string, error) { return token, nil })
}

// WithTokenSource is WithToken for a token that changes: source is called for each
// request, concurrently by several goroutines.
func WithTokenSource(source func(context.Context) (string, error)) Option {
	return func(o *options) { o.token = source }
}

// WithInsecureToken allows a token to be sent over connections without TLS, where
// anyone who can read the packets can read the token.
func WithInsecureToken() Option { return func(o *options) { o.plainToken = true } }

// WithAuthority sets the :authority of requests, by which a proxy routes, and with
// TLS the name that certificates must contain.
func WithAuthority(name string) Option { return func(o *options) { o.authority = name } }

// WithDatabase makes the client reject nodes of another database.
func WithDatabase(name string) Option { return func(o *options) { o.database = name } }

// WithCluster binds the client to the cluster with this id from the start, instead of
// to the first one that answers. The id is that of the cluster as dkvctl -status shows
// it, or that of any of its vBuckets.
func WithCluster(id string) Option { return func(o *options) { o.cluster = id } }

// WithDC sets the data centre of the client: sequential reads go to the replicas
// there as long as one of them is alive.
func WithDC(id string) Option { return func(o *options) { o.dc = id } }

// WithConnections bounds the connections to one node.
func WithConnections(most int) Option { return func(o *options) { o.connections = most } }

// WithKeepalive sets the time after which an idle connection is probed, at least
// 10 s, and how long the probe may take; 10 s and 3 s by default.
func WithKeepalive(after, timeout time.Duration) Option {
	return func(o *options) { o.keepalive = &keepalive.ClientParameters{Time: after, Timeout: timeout} }
}

// WithDialer sets the function that opens a connection to an address, host:port, in
// place of a TCP dial.
func WithDialer(dial func(ctx context.Context, addr string) (net.Conn, error)) Option {
	return func(o *options) { o.dial = dial }
}

// WithMaxMessageSize bounds a response, in bytes.
func WithMaxMessageSize(bytes int) Option { return func(o *options) { o.maxMessage = bytes } }

// WithTimeout bounds a call whose context has no deadline.
func WithTimeout(d time.Duration) Option { return func(o *options) { o.timeout = d } }

// WithoutIdempotency sends mutations without request ids. Servers then keep no
// results for them, and a mutation whose answer is lost fails with ErrOutcomeUnknown
// instead of being retried.
func WithoutIdempotency() Option { return func(o *options) { o.withoutIDs = true } }

// WithFixedAddresses sends requests to the addresses of the target only, to the next
// one when one fails, and leaves it to those nodes to reach the leaders. Use it with
// proxies, or if the addresses that nodes advertise cannot be reached.
func WithFixedAddresses() Option { return func(o *options) { o.fixed = true } }

// WithLogger logs changes of nodes and leaders; nothing is logged by default.
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
	return err == nil && peer.Loopback(host)
}

// mayDial reports whether the client may connect to an address that it learned from
// others: those must not decide where a token is sent unencrypted.
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
