// Package transport carries what the Raft groups of a cluster say to each other, in
// place of Dragonboat's own sockets; see DESIGN.md.
package transport

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/dragonboat/v4/raftpb"
	"golang.org/x/sync/semaphore"

	"github.com/dkvdb/dkv/internal/certs"
	"github.com/dkvdb/dkv/internal/certs/dial"
	"github.com/dkvdb/dkv/internal/certs/nodeport"
	"github.com/dkvdb/dkv/internal/conns"
	"github.com/dkvdb/dkv/internal/faults"
)

// Options are what a transport is made of. Of its functions each may be nil.
type Options struct {
	// Snapshots decides about snapshots that other nodes offer; nil takes all.
	Snapshots Receiver
	// Size estimates, in bytes, the snapshot that this node is about to send of a shard.
	Size func(shard uint64) uint64
	// Seen is called with each message that is sent or has come. It must not wait, nor
	// keep the message.
	Seen func(m *raftpb.Message)
	// Durable returns the last entry that this node has on disk of a replica's log. It must not
	// wait.
	Durable func(shard, replica uint64) uint64
	// Rejected is called for each connection to the port that is not one of this cluster's.
	Rejected func()
	// Ended is called when the process of a member, by its Raft address, has ended without
	// closing its groups first. It must not wait.
	Ended func(address string)
	// Traffic counts what is sent and received.
	Traffic *Traffic
	// Certs secure the connections; nil leaves them in the clear.
	Certs *certs.Store
	// Faults concern the connections; nil on a node that has not agreed to drills.
	Faults *faults.Faults
	Log    *slog.Logger
	limits limits
}

// limits are what tests make shorter.
type limits struct {
	// connections bounds those that others have made, perHost those of one address.
	connections, perHost int
	// preface is how long a connection may take to say what it is, idle how long it
	// may be silent then. A sender closes one that it has not used for a minute.
	preface, idle time.Duration
	// step is how long a peer may take for each step of a frame.
	step time.Duration
	// unheard is after how long without a sign from the peer's host, of what was sent
	// to it, a connection is given up.
	unheard time.Duration
	// room is how long an offered snapshot waits for room. It ends well before answer,
	// which is how long the sender waits.
	room, answer time.Duration
}

var defaultLimits = limits{
	connections: 512,
	perHost:     128,
	preface:     5 * time.Second,
	idle:        90 * time.Second,
	step:        10 * time.Second,
	unheard:     5 * time.Second,
	room:        15 * time.Second,
	answer:      2 * time.Minute,
}

// largeFrames bounds, in bytes, the frames in memory that are larger than keepBuffer.
const largeFrames = 256 << 20

// Factory makes transports for Dragonboat.
type Factory struct {
	opts Options
	// made is the last one.
	made atomic.Pointer[transport]
	// valid are the addresses that Validate has accepted lately.
	valid atomic.Pointer[[]string]
}

// validKept is how many addresses Validate remembers: those of all members, and some more.
const validKept = 16

// New returns a factory.
func New(opts Options) *Factory {
	if opts.limits == (limits{}) {
		opts.limits = defaultLimits
	}
	if opts.Snapshots == nil {
		opts.Snapshots = takeAll{}
	}
	if opts.Traffic == nil {
		opts.Traffic = new(Traffic)
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	return &Factory{opts: opts}
}

// Create implements config.TransportFactory.
func (f *Factory) Create(c config.NodeHostConfig, messages raftio.MessageHandler, chunks raftio.ChunkHandler) raftio.ITransport {
	ctx, cancel := context.WithCancel(context.Background())
	t := &transport{
		opts:    f.opts,
		dialer:  dial.New(dial.Options{Store: f.opts.Certs, KeepAlive: keepAlive, Unheard: f.opts.limits.unheard, Faults: f.opts.Faults, Log: f.opts.Log}),
		address: c.GetListenAddress(), deployment: c.GetDeploymentID(),
		messages: messages, chunks: chunks,
		ctx: ctx, cancel: cancel, open: make(map[net.Conn]*tls.ConnectionState), large: semaphore.NewWeighted(largeFrames),
		probing: make(map[string]bool),
	}
	f.made.Store(t)
	return t
}

// Validate implements config.TransportFactory. Dragonboat asks for each batch of messages about its
// sender, and the answer takes several regular expressions.
func (f *Factory) Validate(address string) bool {
	var known []string
	if p := f.valid.Load(); p != nil {
		known = *p
	}
	if slices.Contains(known, address) {
		return true
	}
	if !config.IsValidAddress(address) {
		return false
	}
	now := append(slices.Clone(known[max(0, len(known)+1-validKept):]), address)
	f.valid.Store(&now)
	return true
}

// transport implements raftio.ITransport.
type transport struct {
	opts       Options
	dialer     *dial.Dialer
	address    string
	deployment uint64
	messages   raftio.MessageHandler
	chunks     raftio.ChunkHandler

	// ctx ends when the transport is closed.
	ctx      context.Context
	cancel   context.CancelFunc
	listener net.Listener
	running  sync.WaitGroup
	large    *semaphore.Weighted
	strange  nodeport.Sometimes
	full     full

	mu sync.Mutex
	// open are the connections that others have made, with the state of their TLS once
	// they have shown a certificate.
	open map[net.Conn]*tls.ConnectionState
	// probing are the members that are being asked whether they have ended.
	probing map[string]bool
}

// Name implements raftio.ITransport.
func (t *transport) Name() string { return "dkv" }

// Start implements raftio.ITransport: it listens.
func (t *transport) Start() error {
	l, err := net.Listen("tcp", t.address)
	if err != nil {
		return err
	}
	limited := conns.Limit(t.opts.Faults.Listen(l, true), conns.Options{
		Max: t.opts.limits.connections, MaxPerHost: t.opts.limits.perHost,
		Key: "of the Raft port", HostKey: "of the Raft port",
		Refusal: t.refusal,
		Log:     t.opts.Log,
	})
	t.listener = nodeport.Listen(limited, nodeport.Options{Store: t.opts.Certs})
	t.running.Go(t.accept)
	t.running.Go(t.recheck)
	return nil
}

// refusal is what a connection is sent for which there is no room.
func (t *transport) refusal(string) []byte {
	if t.opts.Certs.Mode() != certs.Off {
		return certs.NoRoom()
	}
	return encodeAnswer(tooMany)
}

// Close implements raftio.ITransport. When it returns no handler is called any more.
func (t *transport) Close() error {
	t.mu.Lock()
	t.cancel()
	for c := range t.open {
		_ = c.Close() // what it serves ends
	}
	t.mu.Unlock()
	var err error
	if t.listener != nil {
		err = t.listener.Close()
	}
	t.running.Wait()
	return err
}

// acceptAgain is how long to wait when no connection can be accepted, mostly for want of
// file descriptors.
const acceptAgain = 100 * time.Millisecond

func (t *transport) accept() {
	for {
		c, err := t.listener.Accept()
		switch {
		case t.ctx.Err() != nil:
			if err == nil {
				_ = c.Close()
			}
			return
		case err != nil:
			if n := t.strange.Now(); n > 0 {
				t.opts.Log.Warn("the Raft port does not accept connections", "error", err, "times", n)
			}
			select {
			case <-time.After(acceptAgain):
			case <-t.ctx.Done():
			}
		case t.opened(c):
			t.running.Go(func() {
				defer t.ended(c)
				t.serve(c)
			})
		}
	}
}

// recheck closes the connections to and from nodes whose certificates are no longer
// accepted, each time that certificates were read again. Raft connects again at once, with
// the certificates of the moment.
func (t *transport) recheck() {
	for {
		changed := t.opts.Certs.Changed()
		t.dialer.Recheck()
		for _, c := range t.withdrawn() {
			t.opts.Log.Warn("a connection from a node is closed, since its certificate is no longer accepted", "peer", c.RemoteAddr().String())
			_ = c.Close()
		}
		select {
		case <-changed:
		case <-t.ctx.Done():
			return
		}
	}
}

// withdrawn returns the connections that others have made with certificates which are no
// longer accepted.
func (t *transport) withdrawn() (out []net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c, state := range t.open {
		if state != nil && t.opts.Certs.ClientForNodes().VerifyConnection(*state) != nil {
			out = append(out, c)
		}
	}
	return out
}

// opened notes a connection, unless the transport is closed.
func (t *transport) opened(c net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ctx.Err() != nil {
		_ = c.Close()
		return false
	}
	t.open[c] = nil
	return true
}

// shown notes the certificate that a connection has shown. Its error is that of one that was
// accepted when the connection began, and is not any more.
func (t *transport) shown(c net.Conn) error {
	secure, is := c.(*nodeport.Conn)
	if !is || secure.State() == nil {
		return nil
	}
	t.mu.Lock()
	t.open[c] = secure.State()
	t.mu.Unlock()
	return t.opts.Certs.ClientForNodes().VerifyConnection(*secure.State())
}

func (t *transport) ended(c net.Conn) {
	_ = c.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, c)
}

const (
	dialTimeout = 5 * time.Second
	keepAlive   = 10 * time.Second
)

// dial connects to another node. The connection closes when ctx ends, which ends what
// waits on it.
func (t *transport) dial(ctx context.Context, target string, p purpose) (*outgoing, error) {
	limited, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := t.dialer.Dial(limited, target)
	if err != nil {
		return nil, err
	}
	out := &outgoing{Conn: metered{conn, t.opts.Traffic}}
	out.forget = context.AfterFunc(ctx, func() { _ = conn.Close() })
	if err := introduce(out.Conn, preface{version, p, t.deployment}, dialTimeout); err != nil {
		out.Close()
		return nil, fmt.Errorf("node at %s: %w", target, err)
	}
	return out, nil
}

// outgoing is a connection that this node has made.
type outgoing struct {
	net.Conn
	forget func() bool
}

// Close closes the connection. What was written still goes out.
func (o *outgoing) Close() {
	o.forget()
	_ = o.Conn.Close()
}
