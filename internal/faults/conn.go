package faults

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Listen returns a listener whose connections faults concern: those of other nodes, or those of
// clients and nodes alike. It is l itself on a node that has not agreed to drills.
func (f *Faults) Listen(l net.Listener, ofNodes bool) net.Listener {
	if f == nil {
		return l
	}
	return &listener{Listener: l, of: f, ofNodes: ofNodes}
}

type listener struct {
	net.Listener
	of      *Faults
	ofNodes bool
}

// Accept waits for a connection. A silent node accepts, as the host of a paused process does,
// and answers nothing.
func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	out := l.of.wrap(c)
	out.from, out.ofNodes = c.RemoteAddr().String(), l.ofNodes
	return out, nil
}

// SetDeadline ends Accept at a time. A node that waits to be added lends its listener, and takes
// it back so.
func (l *listener) SetDeadline(t time.Time) error {
	if d, ok := l.Listener.(interface{ SetDeadline(time.Time) error }); ok {
		return d.SetDeadline(t)
	}
	return errors.ErrUnsupported
}

// Dial connects by dial to the node at an address, host:port.
func (f *Faults) Dial(ctx context.Context, address string, dial func(context.Context) (net.Conn, error)) (net.Conn, error) {
	if f == nil {
		return dial(ctx)
	}
	if a := f.active.Load(); a != nil && a.refuses(address) {
		return nil, refusal(address)
	}
	c, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	out := f.wrap(c)
	out.to = address
	f.mu.Lock()
	defer f.mu.Unlock()
	if a := f.active.Load(); a != nil && a.refuses(address) {
		_ = c.Close()
		return nil, refusal(address)
	}
	f.dialled[out] = struct{}{}
	return out, nil
}

func refusal(address string) error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: fmt.Errorf("%w by a drill: %s", syscall.ECONNREFUSED, address)}
}

func (f *Faults) wrap(c net.Conn) *conn {
	out := &conn{Conn: c, of: f, closed: make(chan struct{})}
	out.read.moved, out.write.moved = make(chan struct{}, 1), make(chan struct{}, 1)
	return out
}

// conn is a connection that a fault may hold: nothing is read and written meanwhile, and nothing
// is lost.
type conn struct {
	net.Conn
	of *Faults
	// from is the other side of a connection that this node has accepted, to that of one that
	// it has made, as it was called.
	from, to string
	ofNodes  bool
	// pending is what came and was held beyond the deadline of its read.
	pending     []byte
	read, write deadline
	closed      chan struct{}
	once        sync.Once
}

// deadline is until when a read or write may wait, in Unix nanoseconds; 0 is for ever.
type deadline struct {
	at    atomic.Int64
	moved chan struct{}
}

func (d *deadline) set(t time.Time) {
	at := int64(0)
	if !t.IsZero() {
		at = max(1, t.UnixNano())
	}
	d.at.Store(at)
	select {
	case d.moved <- struct{}{}:
	default: // it is known that it has moved
	}
}

// Read reads what has come, once no fault holds it.
func (c *conn) Read(p []byte) (int, error) {
	n, err := 0, error(nil)
	if len(c.pending) == 0 {
		n, err = c.Conn.Read(p)
	}
	a := c.of.active.Load()
	if a != nil && a.holds(c) && !errors.Is(err, os.ErrDeadlineExceeded) {
		if held := c.hold(a, &c.read); held != nil {
			c.pending = append(c.pending, p[:n]...)
			return 0, held
		}
	}
	if len(c.pending) > 0 {
		n = copy(p, c.pending)
		c.pending = c.pending[n:]
	}
	return n, err
}

// Write writes once no fault holds it.
func (c *conn) Write(p []byte) (int, error) {
	if a := c.of.active.Load(); a != nil && a.holds(c) {
		if err := c.hold(a, &c.write); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(p)
}

// hold waits until the fault has ended. Its error is that of a connection that is closed
// meanwhile, or of a deadline.
func (c *conn) hold(a *Active, d *deadline) error {
	for {
		var over <-chan time.Time
		if at := d.at.Load(); at != 0 {
			left := time.Until(time.Unix(0, at))
			if left <= 0 {
				return os.ErrDeadlineExceeded
			}
			t := time.NewTimer(left)
			defer t.Stop()
			over = t.C
		}
		select {
		case <-a.ended:
			return nil
		case <-c.closed:
			return net.ErrClosed
		case <-over:
		case <-d.moved:
		}
	}
}

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	c.read.set(t)
	c.write.set(t)
	return c.Conn.SetDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.read.set(t)
	return c.Conn.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.write.set(t)
	return c.Conn.SetWriteDeadline(t)
}

// Close closes the connection. It may be called again.
func (c *conn) Close() error {
	c.once.Do(func() {
		close(c.closed)
		c.of.mu.Lock()
		delete(c.of.dialled, c)
		c.of.mu.Unlock()
	})
	return c.Conn.Close()
}
