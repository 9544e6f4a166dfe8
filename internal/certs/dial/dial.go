// Package dial opens connections to other nodes, with TLS or in the clear as the mode
// says. A node is recognised by the name in its certificate, not by its address; see
// internal/auth/DESIGN.md.
package dial

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/dkvdb/dkv/internal/certs"
	"github.com/dkvdb/dkv/internal/faults"
)

// Options configure a Dialer.
type Options struct {
	// Store has the mode and the certificates; nil opens connections in the clear.
	Store *certs.Store
	// Protocols are what the connections carry, as ALPN names it: gRPC needs "h2". Nil
	// offers none.
	Protocols []string
	// KeepAlive is how often TCP looks whether the other host is there; 0 is Go's default.
	// Unheard is after how long without an acknowledgement of what was sent a connection is
	// given up, on Linux; 0 leaves that to TCP, which takes a quarter of an hour.
	KeepAlive, Unheard time.Duration
	// Anonymous shows no certificate of this node: for connections that carry what others
	// ask, with their own credentials.
	Anonymous bool
	// Faults concern the connections; nil on a node that has not agreed to drills.
	Faults *faults.Faults
	Log    *slog.Logger

	// clearFor is how long a node that does not speak TLS is called in the clear at once;
	// 0 is defaultClearFor.
	clearFor time.Duration
}

const (
	// defaultClearFor is short, since the node may be restarted with TLS at any time. It
	// is also forgotten when the node closes a connection.
	defaultClearFor = time.Minute
	// handshakeTimeout bounds a handshake whose context allows more.
	handshakeTimeout = 5 * time.Second
)

// ErrHandshake is wrapped by the error of a node that was reached, and with which there was
// no TLS connection.
var ErrHandshake = errors.New("no TLS connection")

// errClear is the error of a handshake with a node that does not speak TLS.
var errClear = errors.New("it does not speak TLS, or is shutting down")

// Dialer opens connections to other nodes. A nil Dialer opens them in the clear.
type Dialer struct {
	opts Options
	tcp  *Names

	mu sync.Mutex
	// clear are the addresses that do not speak TLS, with the time until which that is
	// believed.
	clear map[string]time.Time
	// open are the TLS connections.
	open map[*Secured]struct{}
}

// New returns a Dialer.
func New(opts Options) *Dialer {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	opts.clearFor = cmp.Or(opts.clearFor, defaultClearFor)
	tcp := &net.Dialer{KeepAlive: opts.KeepAlive}
	if opts.Unheard > 0 {
		tcp.Control = giveUp(opts.Unheard)
	}
	return &Dialer{opts: opts, tcp: NewNames(tcp), clear: make(map[string]time.Time), open: make(map[*Secured]struct{})}
}

// Mode returns whether connections have TLS.
func (d *Dialer) Mode() certs.Mode {
	if d == nil {
		return certs.Off
	}
	return d.opts.Store.Mode()
}

// Dial connects to a node at host:port. The connection is a *Secured if it has TLS. ctx
// bounds the attempt, with the handshake, and not the connection.
func (d *Dialer) Dial(ctx context.Context, addr string) (net.Conn, error) {
	mode := d.Mode()
	switch {
	case d == nil:
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	case mode == certs.Off:
		return d.connect(ctx, addr)
	case mode == certs.Permissive && d.isClear(addr):
		return d.dialClear(ctx, addr)
	}
	conn, err := d.dialTLS(ctx, addr)
	switch {
	case err == nil:
		return conn, nil
	case !errors.Is(err, errClear):
		return nil, err
	case mode == certs.Permissive:
		return d.dialClear(ctx, addr)
	}
	return nil, fmt.Errorf("%w, and tls-mode is required here: set it to permissive on both nodes until both speak TLS", err)
}

// Faulty reports whether drills may concern the connections.
func (d *Dialer) Faulty() bool { return d != nil && d.opts.Faults != nil }

// connect opens a TCP connection. Of a name with several addresses each attempt begins with another one: one
// that can be connected to may hang, so that there is no handshake.
func (d *Dialer) connect(ctx context.Context, addr string) (net.Conn, error) {
	return d.opts.Faults.Dial(ctx, addr, func(ctx context.Context) (net.Conn, error) { return d.tcp.Dial(ctx, addr) })
}

// dialTLS connects with TLS. The error wraps errClear if the node does not speak it.
func (d *Dialer) dialTLS(ctx context.Context, addr string) (net.Conn, error) {
	config := d.opts.Store.ClientForNodes()
	config.NextProtos = d.opts.Protocols
	if d.opts.Anonymous {
		config.GetClientCertificate = nil
	}
	config.DynamicRecordSizingDisabled = true // small records save no node a round trip
	raw, err := d.connect(ctx, addr)
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	seen := &firstByte{Conn: raw}
	conn := tls.Client(seen, config)
	if err := conn.HandshakeContext(limited); err != nil {
		_ = raw.Close()
		if seen.isClear(err) {
			err = errClear
		}
		return nil, fmt.Errorf("%w with the node at %s: %w", ErrHandshake, addr, err)
	}
	out := &Secured{Conn: conn, of: d}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.clear, addr)
	d.open[out] = struct{}{}
	return out, nil
}

// dialClear connects to a node that does not speak TLS.
func (d *Dialer) dialClear(ctx context.Context, addr string) (net.Conn, error) {
	raw, err := d.connect(ctx, addr)
	if err != nil {
		d.forget(addr)
		return nil, err
	}
	return &unsecured{Conn: raw, of: d, addr: addr}, nil
}

// isClear reports whether a node is known not to speak TLS.
func (d *Dialer) isClear(addr string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	until, found := d.clear[addr]
	return found && time.Now().Before(until)
}

// note records that a node has answered in the clear.
func (d *Dialer) note(addr string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.clear[addr]; !known {
		d.opts.Log.Warn("connected in the clear to a node that does not speak TLS", "node", addr)
	}
	d.clear[addr] = time.Now().Add(d.opts.clearFor)
}

// forget has the next connection to a node try TLS first.
func (d *Dialer) forget(addr string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.clear[addr]; known {
		d.clear[addr] = time.Time{}
	}
}

// firstByte is a connection that remembers what came first.
type firstByte struct {
	net.Conn
	came bool
	byte byte
}

func (f *firstByte) Read(p []byte) (int, error) {
	n, err := f.Conn.Read(p)
	if n > 0 && !f.came {
		f.came, f.byte = true, p[0]
	}
	return n, err
}

// The types of the first record that a server sends.
const recordAlert, recordHandshake = 21, 22

// isClear reports whether a handshake failed because the other side does not speak TLS:
// what came is no TLS record, or it closed the connection without a word. A certificate
// that was rejected, an alert or silence are none of these.
func (f *firstByte) isClear(err error) bool {
	if f.came {
		return f.byte != recordAlert && f.byte != recordHandshake
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
