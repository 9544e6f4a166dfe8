package conns

import (
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
	// work is how much is under way on the connection; retired once it is to be
	// closed for being idle.
	work atomic.Int64
	// used is when work last came to an end, in Unix nanoseconds; 0 is never.
	used  atomic.Int64
	close sync.Once
}

// retired is the work of a connection that takes no more.
const retired = math.MinInt64 / 2

// Host is what the connection counts for; see Options.MaxPerHost.
func (c *Conn) Host() netip.Addr { return c.host }

// Begin says that something is under way on the connection, which keeps it from
// being displaced until End.
func (c *Conn) Begin() { c.work.Add(1) }

// End is the other end of Begin.
func (c *Conn) End() {
	if c.work.Add(-1) == 0 {
		c.used.Store(time.Now().UnixNano())
	}
}

// Work is how much is under way.
func (c *Conn) Work() int64 { return max(c.work.Load(), 0) }

// idle reports whether the connection may be displaced.
func (c *Conn) idle(now time.Time) bool {
	return c.work.Load() == 0 && now.Sub(c.since()) >= minIdle
}

// since is from when on the connection has been idle, if it is.
func (c *Conn) since() time.Time {
	if used := c.used.Load(); used != 0 {
		return time.Unix(0, used)
	}
	return c.opened
}

// before reports whether the connection is to be displaced rather than another.
func (c *Conn) before(other *Conn) bool {
	if never, neverOther := c.used.Load() == 0, other.used.Load() == 0; never != neverOther {
		return never
	}
	return c.since().Before(other.since())
}

// retire reports whether the connection was idle still, so that it can be closed.
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
