// Package nodes calls the nodes that dkvctl's options name: the credentials and the
// token, the connections, one address after the other until one answers, and errors in
// words for people.
package nodes

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/clients/go/dkv"
	"github.com/dkvdb/dkv/internal/ctl/ca"
	"github.com/dkvdb/dkv/internal/ctl/options"
	"github.com/dkvdb/dkv/internal/peer"
)

// MaxMessage is the largest answer that is accepted, in bytes: several times what a
// server sends by default, but a bound.
const MaxMessage = 64 << 20

// Client calls the nodes of its options' addresses. Connections are made at first use
// and kept. It calls exactly these nodes and repeats nothing that may have had an
// effect, unlike the Go client, which looks for the node to ask itself: an operator's
// tool must show what the named node says.
type Client struct {
	*options.Options
	dial peer.Options
	pool *peer.Pool
}

// NewClient returns a client without connections.
func NewClient(o *options.Options) (*Client, error) {
	dial, err := dialOptions(o)
	if err != nil {
		return nil, err
	}
	return &Client{Options: o, dial: dial, pool: peer.NewPool(dial)}, nil
}

// To returns a client with the same options for these addresses alone. It has
// connections of its own, which the caller closes.
func (c *Client) To(addrs ...string) *Client {
	o := *c.Options
	o.Addrs = addrs
	return &Client{Options: &o, dial: c.dial, pool: peer.NewPool(c.dial)}
}

// Close closes the connections.
func (c *Client) Close() {
	_ = c.pool.Close() // always nil
}

// dialOptions returns how nodes are connected to. There is no keepalive: every request
// has a time limit, and a server that does not expect pings may reject them. Each
// address has one connection; a load generator has pools of its own.
func dialOptions(o *options.Options) (peer.Options, error) {
	creds, err := transportCredentials(o)
	if err != nil {
		return peer.Options{}, err
	}
	opts := peer.Options{Credentials: creds, MaxMessageSize: MaxMessage, MaxConnections: 1, DialTimeout: dialTimeout,
		Extra: []grpc.DialOption{grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: math.MaxInt64})}}
	if o.Authority != "" {
		opts.Extra = append(opts.Extra, grpc.WithAuthority(o.Authority))
	}
	if o.Token != "" {
		if err := mayCarryToken(o); err != nil {
			return peer.Options{}, err
		}
		opts.PerRPC = bearer(o.Token)
	}
	return opts, nil
}

// Database opens a client of the database at addresses, with the credentials of the options.
func (c *Client) Database(ctx context.Context, addrs []string, opts ...dkv.Option) (*dkv.Client, error) {
	cfg, err := tlsConfig(c.Options)
	if err != nil {
		return nil, err
	}
	if cfg != nil {
		opts = append(opts, dkv.WithTLS(cfg))
	}
	if c.Authority != "" {
		opts = append(opts, dkv.WithAuthority(c.Authority))
	}
	if c.Token != "" {
		opts = append(opts, dkv.WithToken(c.Token))
	}
	return dkv.Open(ctx, strings.Join(addrs, ","), opts...)
}

// dialTimeout is how long one attempt to connect may take.
const dialTimeout = 5 * time.Second

func usesTLS(o *options.Options) bool {
	return o.TLS || o.CAFile != "" || o.CertFile != "" || o.KeyFile != ""
}

func transportCredentials(o *options.Options) (credentials.TransportCredentials, error) {
	cfg, err := tlsConfig(o)
	if err != nil {
		return nil, err
	}
	if cfg == nil {
		return insecure.NewCredentials(), nil
	}
	return peer.TLS(cfg), nil
}

// tlsConfig returns how TLS is spoken; nil if it is not.
func tlsConfig(o *options.Options) (*tls.Config, error) {
	if !usesTLS(o) {
		return nil, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		authorities, err := ca.ReadCertificates(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("-caCert: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		for _, c := range authorities {
			cfg.RootCAs.AddCert(c)
		}
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		return nil, options.Usagef("-cert and -key belong together: give both")
	}
	if o.CertFile != "" {
		cert, err := ca.LoadPair(o.CertFile, o.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("-cert, -key: %w", err)
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	return cfg, nil
}

// mayCarryToken rejects a token that would be sent unencrypted over a network.
func mayCarryToken(o *options.Options) error {
	if usesTLS(o) {
		return nil
	}
	for _, addr := range append([]string{o.Reference}, o.Addrs...) {
		host, _, _ := net.SplitHostPort(addr)
		if addr != "" && !peer.Loopback(host) {
			return options.Usagef("the token would go to %s unencrypted: use -tls or -caCert, or leave out -tokenFile (and unset DKVCTL_TOKEN_FILE and DKVCTL_TOKEN)", addr)
		}
	}
	return nil
}

// MayAsk returns an error if an address that a server named must not be asked: the
// token is sent unencrypted to no address, whether typed or received.
func (c *Client) MayAsk(addr string) error {
	if c.Token == "" {
		return nil
	}
	o := *c.Options
	o.Addrs, o.Reference = []string{addr}, ""
	return mayCarryToken(&o)
}

// bearer sends a token with every request, after mayCarryToken has allowed it.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (b bearer) RequireTransportSecurity() bool { return false }

// Connect returns the connection to an address once it is ready for use, or an
// *UnreachableError.
func (c *Client) Connect(ctx context.Context, addr string) (grpc.ClientConnInterface, error) {
	return c.connect(ctx, c.pool, addr)
}

// Open is Connect with a connection that is shared with no other caller. The caller
// closes it.
func (c *Client) Open(ctx context.Context, addr string) (conn grpc.ClientConnInterface, closeConn func(), err error) {
	pool := peer.NewPool(c.dial)
	if conn, err = c.connect(ctx, pool, addr); err != nil {
		_ = pool.Close() // always nil
		return nil, nil, err
	}
	return conn, func() { _ = pool.Close() }, nil
}

func (c *Client) connect(ctx context.Context, pool *peer.Pool, addr string) (grpc.ClientConnInterface, error) {
	p, err := pool.Peer(addr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", addr, err)
	}
	if p.Reach(ctx) != nil {
		if errors.Is(ctx.Err(), context.Canceled) {
			return nil, errInterrupted
		}
		return nil, &UnreachableError{addr, "no answer in time", notRunning}
	}
	if !p.Ready() {
		fault := connectionFault(ctx, p.Conn())
		if errors.Is(ctx.Err(), context.Canceled) {
			return nil, errInterrupted // the fault would be that
		}
		return nil, &UnreachableError{addr, fault, advice(c.Options, fault)}
	}
	return p.Conn(), nil
}

// errInterrupted is the error of a connection that the user has not waited for.
var errInterrupted error = interrupted{}

type interrupted struct{}

func (interrupted) Error() string { return "interrupted: nothing was sent" }
func (interrupted) Unwrap() error { return context.Canceled }

// connectionFault returns why a connection failed: only a request's error says that.
func connectionFault(ctx context.Context, conn grpc.ClientConnInterface) string {
	_, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	if err == nil {
		return "the connection was lost and came back"
	}
	text := status.Convert(err).Message()
	for _, noise := range []string{`connection error: desc = "`, "transport: ", "Error while dialing: ", "last connection error: "} {
		text = strings.ReplaceAll(text, noise, "")
	}
	return strings.TrimRight(text, `"`)
}

// UnreachableError says that no connection to a server could be made: no request was
// sent.
type UnreachableError struct {
	Addr, Reason string
	advice       string // what to do
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("cannot reach %s: %s; %s", e.Addr, e.Reason, e.advice)
}

// Why returns the reason, with what to do if that is not always the same.
func (e *UnreachableError) Why() string {
	if e.advice == notRunning {
		return e.Reason
	}
	return e.Reason + "; " + e.advice
}
