package dkv

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc"
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
	tlsFiles    *tlsFiles
	failed      []error // of options
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
	ack         Ack
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

// WithTLS makes all connections use TLS. The configuration is not changed; nil is one
// without settings, as in crypto/tls. It is used for every node: set ServerName only if all
// certificates contain that name.
func WithTLS(config *tls.Config) Option {
	if config == nil {
		config = new(tls.Config)
	}
	return func(o *options) { o.tls = config }
}

// WithTLSFiles makes all connections use TLS, with certificates from files. Each new
// connection uses the files as they are then: certificates that are renewed, and
// authorities that are added, need no new client. Files that cannot be used, such as a
// pair of which only one file has been replaced yet, leave those before in use.
func WithTLSFiles(files TLSFiles) Option {
	return func(o *options) {
		f, err := newTLSFiles(files)
		if err != nil {
			o.failed = append(o.failed, err)
		}
		o.tlsFiles = f
	}
}

// WithToken sends a bearer token with each request. Without TLS that is an error,
// unless the connections stay on this machine or WithInsecureToken allows it.
func WithToken(token string) Option {
	return func(o *options) {
		if err := checkToken(token); err != nil {
			o.failed = append(o.failed, err)
		}
		WithTokenSource(func(context.Context) (string, error) { return token, nil })(o)
	}
}

// WithTokenFile is WithToken for the token in a file, which is read again when it has
// changed. Give a name a second token, replace the file, and revoke the first a few
// seconds later: no request fails.
func WithTokenFile(path string) Option {
	f := tokenFile{path: path}
	return WithTokenSource(f.token)
}

// WithTokenSource is WithToken for a token that changes, such as one that an OpenID
// provider issues: source is called for each request, concurrently by several goroutines,
// and should return a token that it keeps until shortly before its end. If it fails, so
// does the request, which is not sent.
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
// instead of being retried. It is for servers of the earlier system too, which would apply
// a repeat again.
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
	case o.tls != nil && o.tlsFiles != nil:
		return errorf(ErrInvalid, "WithTLS and WithTLSFiles are both given: leave out one of them")
	case o.token != nil && !o.secure() && !o.plainToken && !allLoopback(t.addrs):
		return errorf(ErrInvalid, "the token would travel unencrypted: use WithTLS, or accept that by WithInsecureToken")
	}
	return nil
}

// secure reports whether connections use TLS.
func (o *options) secure() bool { return o.tls != nil || o.tlsFiles != nil }

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

// mayDial reports whether the client may connect to an address, which may be one that it
// learned from others: those must not decide where a token is sent unencrypted.
func (o *options) mayDial(addr string) bool {
	return o.token == nil || o.secure() || o.plainToken || loopback(addr)
}

func (o *options) pool() *peer.Pool {
	out := peer.Options{MaxMessageSize: o.maxMessage, MaxConnections: o.connections, Dial: o.dial}
	switch {
	case o.tls != nil:
		out.Credentials = peer.TLS(o.tls)
	case o.tlsFiles != nil:
		o.tlsFiles.log = o.log
		out.Credentials = peer.Alerting(o.tlsFiles)
	}
	if o.token != nil {
		out.PerRPC = &bearer{source: o.token}
	}
	if o.authority != "" {
		out.Extra = append(out.Extra, grpc.WithAuthority(o.authority))
	}
	if o.keepalive != nil {
		out.Extra = append(out.Extra, grpc.WithKeepaliveParams(*o.keepalive))
	}
	return peer.NewPool(out)
}
