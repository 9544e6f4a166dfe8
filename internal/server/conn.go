package server

import (
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/internal/conns"
	"github.com/dkvdb/dkv/internal/kv"
)

const (
	// frameOverhead is about what gRPC keeps for a frame beside its bytes. A message
	// may come in frames of a byte each.
	frameOverhead = 64
	// maxStray is how many bytes may arrive for calls that have ended before the server
	// concludes that the client ignores their end.
	maxStray = 32 << 20
)

// conn is a connection of a client or another node. It counts the memory that its calls
// hold, which gRPC does not: requests until they are served, and responses until they are
// sent.
//
// It reads the frames of HTTP/2, so TLS is terminated below it.
type conn struct {
	socket
	calls *calls
	// from is the client's address; client is its host, with the number that the connection has
	// within the process.
	from   netip.Addr
	client kv.Client
	// trustedUntil is until when, in Unix nanoseconds, the connection is known to be trusted.
	trustedUntil atomic.Int64
	// secure is TLS over the socket; nil in the clear.
	secure *tls.Conn

	// Used by the reading goroutine alone: the frame parser, and the stream of the last headers.
	in     frames
	stream uint32
	// greeted: the client has begun to speak HTTP/2, with its first frame.
	greeted atomic.Bool
	// resets bounds the calls that the client cancels. misnumbered: it has begun a call with a number
	// that it may not use. flooded: it went on with that, or cancelled more.
	resets      resets
	misnumbered bool
	flooded     bool
	// out is used by the writing goroutine alone.
	out frames
	// writing is since when, in Unix nanoseconds, a Write has been under way; 0 is
	// none.
	writing atomic.Int64

	mu sync.Mutex
	// byStream are the calls whose handlers have not ended.
	byStream map[uint32]*call
	closed   bool
	// received is what requests hold, unwritten what responses hold, and stray what has
	// arrived for calls that have ended, since the last Write returned.
	received, unwritten, stray int64
	// taken is how many bytes of responses were sent in all, as far as it matters for room.
	taken int64
	// written is how many bytes of responses were sent since the last look, slow how many
	// looks in a row found few, and still for how long there were none.
	written int64
	slow    int
	still   time.Duration
	// sharing is how many streams of forwarded calls are open.
	sharing int
	// reserved is what of unwritten belongs to responses that are yet to be made.
	reserved int64
	// queue are the responses that wait for room, in order, and last is the size of the last
	// one that was counted.
	queue []*turn
	last  int64
	// short is the limit that the first of queue waits for. If others hold what is short, again
	// fires while looking.
	short   string
	again   *time.Timer
	looking bool
}

func newConn(c *conns.Conn, of *calls) *conn {
	out := &conn{calls: of, byStream: make(map[uint32]*call), in: frames{skip: prefaceBytes}, resets: newResets(),
		from: addrOf(c.Conn.RemoteAddr()), client: kv.Client{Host: c.Host(), Conn: of.numbered.Add(1)}}
	out.open(c)
	return out
}

// addr is a connection's remote address, by which its calls find it.
type addr struct {
	net.Addr
	conn *conn
}

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr { return addr{c.Conn.RemoteAddr(), c} }

// Read implements net.Conn. gRPC must not read ahead of what it handles: tap identifies a
// call by the headers that were read last.
func (c *conn) Read(p []byte) (int, error) {
	if c.in.found && c.in.skip == 0 && !c.greeted.Load() {
		c.greeted.Store(true) // gRPC has the first frame, and asks for the next one
	}
	n, err := c.receive(p)
	if err != nil {
		return 0, err
	}
	for rest := p[:n]; ; {
		head, after, found := c.in.next(rest)
		if !found {
			return n, nil
		}
		switch rest = after; head.kind {
		case frameHeaders:
			c.headers(head.stream)
		case frameData:
			c.data(head)
		case frameReset:
			c.reset(head.stream)
		}
	}
}

// receive reads what the client has sent, below HTTP/2. With TLS it goes through no other
// buffer than that of the record: an idle connection holds nothing larger.
func (c *conn) receive(p []byte) (int, error) {
	if c.secure == nil {
		return c.socket.Read(p)
	}
	return c.secure.Read(p)
}

// send writes to the client, below HTTP/2.
func (c *conn) send(p []byte) (int, error) {
	if c.secure == nil {
		return c.Conn.Write(p)
	}
	return c.secure.Write(p)
}

// data counts a DATA frame of a request, whose payload follows.
func (c *conn) data(f frame) {
	cost, now := int64(f.length+frameOverhead), time.Now()
	c.mu.Lock()
	k := c.byStream[f.stream]
	switch {
	case k == nil || k.over || !k.more && !k.receiving.Load():
		c.stray += cost
		flooded := c.stray > maxStray
		c.mu.Unlock()
		if flooded {
			c.calls.cut(c, limitStray, "it goes on sending requests that were answered")
		}
		return
	case !k.more && k.frames == 0 && f.flags&flagEndStream != 0:
		c.mu.Unlock() // a whole request in one frame: bounded by the number of calls
		return
	}
	if k.bytes == 0 {
		k.first = now
	}
	k.frames++
	k.bytes += cost
	k.moved = now
	c.received += cost
	full, more, shared, untaken := c.received > c.calls.wire.perConn, k.more, k.shared, k.bytes
	c.mu.Unlock()
	switch over := c.calls.wire.held.Add(cost) > c.calls.wire.limit; {
	case more && untaken <= mostUntaken:
	case more && !shared:
		c.calls.limited(limitMemory)
		k.endStream(toStatus(noRoom("%d KiB of the stream have arrived and wait to be read, which is the limit; send less at once", mostUntaken>>10)))
	case !over && !full:
	case !shared:
		c.calls.relieve(k, full)
	case !c.makeRoom(full):
		c.calls.limited(limitMemory)
		k.endStream(toStatus(memoryFull(c.calls.wire.limit)))
	}
}

// headers notes that a call has begun. Numbers are odd and ascend. The answer to a call with another number ends the
// connection, but gRPC keeps one for each such call for as long as the client takes none.
func (c *conn) headers(stream uint32) {
	switch {
	case stream > c.stream && stream%2 == 1:
		c.stream = stream
		c.resets.began(stream, time.Now())
	case !c.misnumbered:
		c.misnumbered = true // the answer says what is wrong
	case !c.flooded:
		c.flooded = true
		c.calls.cut(c, limitNumbers, "it begins calls with numbers that HTTP/2 does not allow")
	}
}

// reset counts a call that the client has cancelled.
func (c *conn) reset(stream uint32) {
	if !c.flooded && !c.resets.allow(stream, time.Now(), c.ofMember) {
		c.flooded = true // more may follow in what was already read
		c.calls.cut(c, limitResets, "it cancels too many calls soon after it began them; use longer deadlines, or more connections")
	}
}

// ofMember reports whether the connection comes from a node of the cluster, or from this
// machine.
func (c *conn) ofMember() bool {
	g := c.calls.opts.Access
	return g != nil && g.Near(c.from, c.TLS())
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	c.writing.Store(time.Now().UnixNano())
	n, err := c.send(p)
	c.writing.Store(0)
	data, taking := 0, uint32(0)
	for rest := p[:n]; ; {
		head, after, found := c.out.next(rest)
		if !found {
			break
		}
		if rest = after; head.kind == frameData {
			data += head.length
			if head.length >= takenFrom && head.stream != taking {
				taking = head.stream
				c.takes(taking)
			}
		}
	}
	c.sent(int64(data))
	return n, err
}

// takenFrom is the size of a frame that shows that a message is on its way: a reader that makes room for some
// bytes now and then takes nothing.
const takenFrom = 4 << 10

// takes notes that the client has taken much of what a stream sends.
func (c *conn) takes(stream uint32) {
	c.mu.Lock()
	k := c.byStream[stream]
	c.mu.Unlock()
	if k != nil {
		k.taken.Store(time.Now().UnixNano())
	}
}

// sent notes that the client has taken n bytes of responses.
func (c *conn) sent(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stray = 0 // by now the client has been told which calls have ended
	c.written += n
	if c.taken < c.calls.wire.perConnOut {
		c.taken += n
		if len(c.queue) > 0 {
			c.grant() // it may leave more by now
		}
	}
}

// Close implements net.Conn. It releases what the connection held. It waits for nothing, so
// that TLS cannot announce the end; HTTP/2 has done that if the server wanted it.
func (c *conn) Close() error {
	c.mu.Lock()
	first := !c.closed
	c.closed = true
	held := c.received + c.unwritten
	c.received, c.unwritten, c.reserved = 0, 0, 0
	c.grant() // what waits for room need not wait any more
	c.mu.Unlock()
	if first {
		c.calls.wire.held.Add(-held)
		c.calls.forget(c)
	}
	return c.Conn.Close()
}

// blocked returns for how long a Write has been waiting for the socket.
func (c *conn) blocked(now time.Time) time.Duration {
	since := c.writing.Load()
	if since == 0 {
		return 0
	}
	return now.Sub(time.Unix(0, since))
}
