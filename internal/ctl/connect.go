package ctl

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/internal/ctl/bench"
	"github.com/dkvdb/dkv/internal/ctl/options"
	"github.com/dkvdb/dkv/internal/ctl/output"
)

// maxMessage is the largest answer that is accepted, in bytes: several times
// what a server sends by default, and a bound all the same.
const maxMessage = 64 << 20

// session is what a command works with: its options, where results go and the
// connections to the nodes, which are made at first use and kept.
type session struct {
	*options.Options
	out    *output.Printer
	stdin  io.Reader
	stderr io.Writer
	dial   []grpc.DialOption
	conns  map[string]*grpc.ClientConn
}

func newSession(o *options.Options, out *output.Printer, stdin io.Reader, stderr io.Writer) (*session, error) {
	dial, err := dialOptions(o)
	if err != nil {
		return nil, err
	}
	return &session{Options: o, out: out, stdin: stdin, stderr: stderr, dial: dial,
		conns: make(map[string]*grpc.ClientConn)}, nil
}

// to returns a session of the same options that knows only these addresses and
// has connections of its own, which the caller closes: a session is not for two
// requests at once.
func (s *session) to(addrs ...string) *session {
	o := *s.Options
	o.Addrs = addrs
	return &session{Options: &o, out: s.out, stdin: s.stdin, stderr: s.stderr, dial: s.dial,
		conns: make(map[string]*grpc.ClientConn)}
}

func (s *session) close() {
	for _, conn := range s.conns {
		conn.Close() // its only error is that it was closed before
	}
}

// dialOptions never consult the environment for a proxy: nodes are named by
// their own address. There is no keepalive, since every request carries a time
// limit, and pings may be refused by a server that was not told to expect them.
func dialOptions(o *options.Options) ([]grpc.DialOption, error) {
	creds, err := transportCredentials(o)
	if err != nil {
		return nil, err
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		// Try again soon: a load generator is to see a restarted server at once.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: dialTimeout,
		}),
	}
	if o.Authority != "" {
		opts = append(opts, grpc.WithAuthority(o.Authority))
	}
	if o.Token != "" {
		if err := mayCarryToken(o); err != nil {
			return nil, err
		}
		opts = append(opts, grpc.WithPerRPCCredentials(bearer(o.Token)))
	}
	return opts, nil
}

// dialTimeout is how long one attempt to connect may take.
const dialTimeout = 5 * time.Second

func usesTLS(o *options.Options) bool {
	return o.TLS || o.CAFile != "" || o.CertFile != "" || o.KeyFile != ""
}

func transportCredentials(o *options.Options) (credentials.TransportCredentials, error) {
	if !usesTLS(o) {
		return insecure.NewCredentials(), nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("-caCert: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("-caCert: %s holds no PEM certificate", o.CAFile)
		}
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		return nil, options.Usagef("-cert and -key belong together: give both")
	}
	if o.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("-cert, -key: %w", err)
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	return credentials.NewTLS(cfg), nil
}

// mayCarryToken refuses to send a token in the clear over a network.
func mayCarryToken(o *options.Options) error {
	if usesTLS(o) {
		return nil
	}
	for _, addr := range append([]string{o.Reference}, o.Addrs...) {
		host, _, _ := net.SplitHostPort(addr)
		if addr != "" && !bench.IsLoopback(host) {
			return options.Usagef("the token would go to %s unencrypted: use -tls, or leave out -token (and unset DKV_TOKEN)", addr)
		}
	}
	return nil
}

// mayAsk is mayCarryToken for an address that a server told of: it decides no
// more about where a token goes than one that was typed.
func (s *session) mayAsk(addr string) error {
	if s.Token == "" {
		return nil
	}
	o := *s.Options
	o.Addrs, o.Reference = []string{addr}, ""
	return mayCarryToken(&o)
}

// bearer sends a token with every request. mayCarryToken has decided that it
// may travel.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (b bearer) RequireTransportSecurity() bool { return false }

// newConn makes a connection that connects at first use.
func (s *session) newConn(addr string) (*grpc.ClientConn, error) {
	// passthrough: the dialer resolves names, trying each of their addresses.
	conn, err := grpc.NewClient("passthrough:///"+addr, s.dial...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", addr, err)
	}
	return conn, nil
}

// connect returns a connection to addr that is ready for use, or an
// *unreachableError.
func (s *session) connect(ctx context.Context, addr string) (*grpc.ClientConn, error) {
	conn := s.conns[addr]
	if conn == nil {
		var err error
		if conn, err = s.newConn(addr); err != nil {
			return nil, err
		}
		s.conns[addr] = conn
	}
	return conn, awaitReady(ctx, conn, addr)
}

func awaitReady(ctx context.Context, conn *grpc.ClientConn, addr string) error {
	for {
		state := conn.GetState()
		switch state {
		case connectivity.Ready:
			return nil
		case connectivity.Idle:
			conn.Connect()
		case connectivity.TransientFailure:
			return &unreachableError{addr, connectionFault(ctx, conn)}
		}
		if !conn.WaitForStateChange(ctx, state) {
			return &unreachableError{addr, "no answer in time"}
		}
	}
}

// connectionFault learns from a failed connection what was wrong with it: only
// a request's error carries that.
func connectionFault(ctx context.Context, conn *grpc.ClientConn) string {
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

// unreachableError is a server that no connection could be made to: no request
// was sent.
type unreachableError struct {
	addr, reason string
}

func (e *unreachableError) Error() string {
	return fmt.Sprintf("cannot reach %s: %s; is dkvsrv running there? -a HOST:PORT names another address", e.addr, e.reason)
}
