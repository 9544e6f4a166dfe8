package dkv

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/internal/peer"
)

// Client is a connection to a database. Its methods are safe for concurrent use,
// and do not change or keep the slices they are given; those they return are the
// caller's.
type Client struct {
	opts     options
	target   target
	pool     *peer.Pool
	sessions *sessions // nil if requests carry no ids

	topology atomic.Pointer[topology] // nil until it is known
	// changed fires when the topology does, and when what keeps it from being
	// known does.
	changed signal
	learner *learner
	limits  *timeLimits

	mu    sync.Mutex
	nodes map[string]*node // by address

	ctx    context.Context // ends at Close
	cancel context.CancelFunc
	closed atomic.Bool
	tasks  sync.WaitGroup
}

// Open makes a client of the nodes at "host:port,host:port", or of those that
// registries tell of: "discovery://host:port,host:port/database". Any of the
// addresses may be dead, as long as one is not.
//
// It does not wait for them: a client may be opened before its servers start, and
// its requests then wait for as long as they may take. WaitReady waits. The
// context gives its values to what goes on in the background; its end ends nothing.
//
// Its error is ErrInvalid, where the target or an option cannot be.
func Open(ctx context.Context, targets string, opts ...Option) (*Client, error) {
	t, err := parseTarget(targets)
	if err != nil {
		return nil, err
	}
	c := &Client{opts: defaultOptions(), target: t, nodes: make(map[string]*node)}
	for _, o := range opts {
		o(&c.opts)
	}
	if err := c.opts.check(t); err != nil {
		return nil, err
	}
	if c.opts.database == "" {
		c.opts.database = t.database
	}
	if !c.opts.plain {
		c.sessions = newSessions()
	}
	c.pool, c.limits = c.opts.pool(), newTimeLimits(c.opts.timeout)
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if c.opts.fixed {
		return c, c.fix()
	}
	c.learner = newLearner(c)
	c.learner.begin()
	return c, nil
}

// fix makes a topology of nothing but the target's addresses.
func (c *Client) fix() error {
	t := &topology{vBuckets: make([]vBucket, 1)}
	for _, addr := range c.target.addrs {
		n, err := c.node(addr)
		if err != nil {
			return err
		}
		t.masters = append(t.masters, n)
	}
	t.vBuckets[0].replicas = t.masters
	c.topology.Store(t)
	return nil
}

// Close ends all connections and everything that goes on in the background, and
// waits for it. Requests under way end in ErrClosed, as do later ones. It is
// idempotent; its error is always nil.
func (c *Client) Close() error {
	c.closed.Store(true)
	c.cancel()
	c.limits.end()
	err := c.pool.Close()
	c.tasks.Wait()
	return err
}

// WaitReady waits until the client knows who serves the database, and all of its
// vBuckets have leaders that can be reached. It fails at once where waiting cannot
// help, for example with ErrTLS or ErrUnauthenticated, and else when ctx ends.
func (c *Client) WaitReady(ctx context.Context) error {
	for {
		woken := c.changed.wait()
		t, err := c.awaitTopology(ctx)
		if err != nil {
			return err
		}
		if c.opts.fixed {
			return c.anyReachable(ctx, t)
		}
		if t.led() {
			return nil
		}
		select {
		case <-woken:
		case <-time.After(slowPause):
			c.learner.poke() // a call waits
		case <-c.ctx.Done():
		case <-ctx.Done():
			return c.notReady(context.Cause(ctx))
		}
	}
}

func (c *Client) notReady(cause error) error {
	if foreign := c.learner.stranger(); foreign != nil {
		cause = fmt.Errorf("%w; %w", cause, foreign)
	}
	return errorf(ErrUnavailable, "not all vBuckets have a leader: %w", cause)
}

// anyReachable waits for a connection to one of the nodes.
func (c *Client) anyReachable(ctx context.Context, t *topology) error {
	for pause := firstPause; ; pause = nextPause(pause) {
		for _, n := range t.masters {
			if err := n.connect(ctx); err == nil && n.peer.Load().Ready() {
				return nil
			}
		}
		if err := c.sleep(ctx, pause); err != nil {
			return errorf(ErrUnavailable, "none of the addresses can be reached: %w", err)
		}
	}
}

// node returns the node at an address, host:port.
func (c *Client) node(addr string) (*node, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.nodes[addr]; n != nil {
		return n, nil
	}
	p, err := c.pool.Peer(addr)
	if err != nil {
		return nil, toError(err, addr, false)
	}
	n := &node{addr: addr}
	n.peer.Store(p)
	c.nodes[addr] = n
	return n, nil
}

// renew cuts the connections to a node, and with them the calls under way to it,
// and makes new ones.
func (c *Client) renew(n *node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.nodes[n.addr] != n {
		return
	}
	others := make([]string, 0, len(c.nodes))
	for addr := range c.nodes {
		if addr != n.addr {
			others = append(others, addr)
		}
	}
	c.pool.Retain(others...)
	if p, err := c.pool.Peer(n.addr); err == nil { // else the client is closed
		n.peer.Store(p)
	}
}

// retain forgets all nodes but those at these addresses.
func (c *Client) retain(addrs []string) {
	keep := make(map[string]bool, len(addrs))
	for _, a := range addrs {
		keep[a] = true
	}
	c.mu.Lock()
	for addr := range c.nodes {
		if !keep[addr] {
			delete(c.nodes, addr)
		}
	}
	c.mu.Unlock()
	c.pool.Retain(addrs...)
}

// awaitTopology returns the topology once it is known.
func (c *Client) awaitTopology(ctx context.Context) (*topology, error) {
	for {
		woken := c.changed.wait()
		if c.closed.Load() {
			return nil, errClosed()
		}
		if t := c.topology.Load(); t != nil {
			return t, nil
		}
		if err := c.learner.lasting(); err != nil {
			return nil, err
		}
		select {
		case <-woken:
		case <-time.After(slowPause):
			c.learner.poke() // a call waits
		case <-c.ctx.Done():
		case <-ctx.Done():
			return nil, c.learner.unknown(context.Cause(ctx))
		}
	}
}

func errClosed() *Error { return &Error{Kind: ErrClosed, Err: ErrClosed} }

// signal wakes all who wait for it.
type signal struct {
	mu sync.Mutex
	ch chan struct{}
}

// wait returns a channel that is closed when the signal fires next.
func (s *signal) wait() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

func (s *signal) fire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}
