package dkv

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/signal"
)

// Client is a connection to a database. Its methods are safe for concurrent use.
// They neither change nor keep the slices that they are given, and the caller owns
// those that they return.
type Client struct {
	opts     options
	target   target
	pool     *peer.Pool
	sessions *sessions // nil if requests carry no ids

	topology atomic.Pointer[topology] // nil until it is known
	// changed fires when the topology changes, or the reason why it is not known.
	changed signal.Signal
	learner *learner
	// limits are those of calls, and shares those of their first attempts if others may follow: see shareOf.
	limits, shares *timeLimits

	mu    sync.Mutex
	nodes map[string]*node // by address

	ctx    context.Context // ends at Close
	cancel context.CancelFunc
	closed atomic.Bool
	tasks  sync.WaitGroup
}

// Open returns a client of the nodes at "host:port,host:port", or of those that
// registries list: "discovery://host:port,host:port/database". One live address
// suffices.
//
// Open does not wait for the nodes: a client may be opened before its servers start,
// and its requests then wait within their time limits. Use WaitReady to wait. The
// context's values are passed to the background tasks; cancelling it has no effect.
//
// Its error is ErrInvalid if the target or an option is not valid.
func Open(ctx context.Context, targets string, opts ...Option) (*Client, error) {
	t, err := parseTarget(targets)
	if err != nil {
		return nil, err
	}
	c := &Client{opts: defaultOptions(), target: t, nodes: make(map[string]*node)}
	for _, o := range opts {
		o(&c.opts)
	}
	if err := errors.Join(c.opts.failed...); err != nil {
		return nil, errorf(ErrInvalid, "%w", err)
	}
	if err := c.opts.check(t); err != nil {
		return nil, err
	}
	if c.opts.database == "" {
		c.opts.database = t.database
	}
	if !c.opts.withoutIDs {
		c.sessions = newSessions()
	}
	c.pool, c.limits, c.shares = c.opts.pool(), newTimeLimits(c.opts.timeout), newTimeLimits(c.opts.timeout-c.opts.timeout/4)
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if c.opts.fixed {
		return c, c.useFixed()
	}
	c.learner = newLearner(c)
	c.learner.start()
	return c, nil
}

// useFixed sets a topology that consists of the target's addresses alone.
func (c *Client) useFixed() error {
	t := &topology{vBuckets: make([]vBucket, 1)}
	for _, addr := range c.target.addrs {
		n, err := c.node(addr)
		if err != nil {
			return err
		}
		n.fixed = true
		t.masters = append(t.masters, n)
	}
	t.vBuckets[0].replicas = t.masters
	c.topology.Store(t)
	return nil
}

// Close ends all connections and background tasks, and waits for them. Requests in
// progress fail with ErrClosed, as do later ones. It may be called more than once;
// its error is always nil.
func (c *Client) Close() error {
	c.closed.Store(true)
	c.cancel()
	c.limits.end()
	c.shares.end()
	err := c.pool.Close()
	c.tasks.Wait()
	return err
}

// WaitReady waits until the client knows which nodes serve the database, and all of
// its vBuckets have leaders that can be reached. It fails at once if waiting cannot
// help, for example with ErrTLS or ErrUnauthenticated, and otherwise when ctx ends.
func (c *Client) WaitReady(ctx context.Context) error {
	for {
		changed := c.changed.Changed()
		t, err := c.awaitTopology(ctx)
		if err != nil {
			return err
		}
		if c.opts.fixed {
			return c.anyReachable(ctx, t)
		}
		if t.allLed() {
			return nil
		}
		select {
		case <-changed:
		case <-time.After(slowPause):
			c.learner.probeSoon() // a call waits
		case <-c.ctx.Done():
		case <-ctx.Done():
			return c.notReady(causeOf(ctx))
		}
	}
}

func (c *Client) notReady(cause error) error {
	if other := c.learner.otherCluster(); other != nil {
		cause = fmt.Errorf("%w; %w", cause, other)
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
	if !c.opts.mayDial(addr) {
		return nil, errorf(ErrInvalid, "the token would travel unencrypted to %s: use WithTLS, or accept that by WithInsecureToken", addr)
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

// reconnect cuts the connections to a node, and with them the calls in progress, and
// opens new ones.
func (c *Client) reconnect(n *node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.nodes[n.addr] != n {
		return
	}
	c.closeConnections(n.addr)
	if p, err := c.pool.Peer(n.addr); err == nil { // else the client is closed
		n.peer.Store(p)
	}
}

// forget drops nodes, with their connections. Others stay, also those that only Conn uses: a call
// that it makes may take long.
func (c *Client) forget(addrs ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeConnections(addrs...)
	for _, addr := range addrs {
		delete(c.nodes, addr)
	}
}

// closeConnections closes the connections to some of the nodes. The caller holds mu.
func (c *Client) closeConnections(to ...string) {
	others := make([]string, 0, len(c.nodes))
	for addr := range c.nodes {
		if !slices.Contains(to, addr) {
			others = append(others, addr)
		}
	}
	c.pool.Retain(others...)
}

// awaitTopology waits until the topology is known, and returns it.
func (c *Client) awaitTopology(ctx context.Context) (*topology, error) {
	for {
		changed := c.changed.Changed()
		if c.closed.Load() {
			return nil, errClosed()
		}
		if t := c.topology.Load(); t != nil {
			return t, nil
		}
		if err := c.learner.permanent(); err != nil {
			return nil, err
		}
		select {
		case <-changed:
		case <-time.After(slowPause):
			c.learner.probeSoon() // a call waits
		case <-c.ctx.Done():
		case <-ctx.Done():
			if c.closed.Load() { // which ends the limits of calls
				return nil, errClosed()
			}
			return nil, c.learner.unknownTopology(causeOf(ctx))
		}
	}
}

func errClosed() *Error { return &Error{Kind: ErrClosed, Err: ErrClosed} }
