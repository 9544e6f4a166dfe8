package conns

import (
	"crypto/tls"
	"math"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Conn is a connection that counts for its listener until it is closed.
type Conn struct {
	net.Conn
	listener *Listener
	host     netip.Addr
	opened   time.Time
	onSpare  bool
	expiry   *time.Timer // of a connection on the spare descriptor
	// work is how many calls are in progress on the connection; retired once the connection
	// is being closed for being idle.
	work atomic.Int64
	// ready reports whether the connection may be used: its handshake, if there is any, is
	// complete.
	ready atomic.Bool
	// used is when work last came to an end, in Unix nanoseconds; 0 is never.
	used  atomic.Int64
	close sync.Once
	// shown is the state of TLS once its handshake is over.
	shown atomic.Pointer[tls.ConnectionState]
}

// retired is the work of a connection that accepts no more.
const retired = math.MinInt64 / 2

// Host returns the host for whose limit the connection counts; see Options.MaxPerHost.
func (c *Conn) Host() netip.Addr { return c.host }

// TLS returns what the other side has shown in the handshake of TLS; nil in the clear, and
// until the handshake is over.
func (c *Conn) TLS() *tls.ConnectionState { return c.shown.Load() }

// NetConn returns the connection that this one counts.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// Ready ends the handshake that Options.Handshake expects of the connection, and notes what
// the other side has shown in it; nil is in the clear.
func (c *Conn) Ready(shown *tls.ConnectionState) {
	c.shown.Store(shown)
	c.ready.Store(true)
}

// Begin counts a call in progress, which keeps the connection from being displaced until
// End.
func (c *Conn) Begin() { c.work.Add(1) }

// End ends what Begin began.
func (c *Conn) End() {
	if c.work.Add(-1) == 0 {
		c.used.Store(time.Now().UnixNano())
	}
}

// Work returns how many calls are in progress.
func (c *Conn) Work() int64 { return max(c.work.Load(), 0) }

// idle reports whether the connection may be displaced.
func (c *Conn) idle(now time.Time) bool {
	return c.work.Load() == 0 && now.Sub(c.since()) >= minIdle
}

// since returns since when the connection has been idle, if it is.
func (c *Conn) since() time.Time {
	if used := c.used.Load(); used != 0 {
		return time.Unix(0, used)
	}
	return c.opened
}

// before reports whether the connection is displaced before another one: an unfinished
// handshake before one that was never used, and that before one that was.
func (c *Conn) before(other *Conn) bool {
	if ready, readyOther := c.ready.Load(), other.ready.Load(); ready != readyOther {
		return !ready
	}
	if never, neverOther := c.used.Load() == 0, other.used.Load() == 0; never != neverOther {
		return never
	}
	return c.since().Before(other.since())
}

// retire reports whether the connection is still idle, and accepts no more calls on it if so.
func (c *Conn) retire() bool { return c.work.CompareAndSwap(0, retired) }

// Close closes the connection. It may be called again.
func (c *Conn) Close() error {
	c.close.Do(func() {
		c.listener.left(c)
		if c.expiry != nil {
			c.expiry.Stop()
		}
	})
	err := c.Conn.Close()
	if c.onSpare {
		c.listener.spare.takeBack()
	}
	return err
}
