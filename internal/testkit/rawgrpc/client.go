// Package rawgrpc is a gRPC client for tests that breaks the rules of HTTP/2 as a hostile
// client would: it sends parts of messages, takes no responses, and forges frames.
package rawgrpc

import (
	"bytes"
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// Client is one connection.
type Client struct {
	conn net.Conn
	// Ends receives the gRPC status of each call when it ends, unless Ends is full. Gone
	// is closed when the server has closed the connection. If the client does not read,
	// neither happens.
	Ends chan Ended
	Gone chan struct{}
	// Pings counts those of the server.
	Pings atomic.Int64
	// windows receives the streams whose windows the server has opened.
	windows chan uint32
	reads   bool

	mu      sync.Mutex // of what follows
	framer  *http2.Framer
	headers bytes.Buffer
	hpack   *hpack.Encoder
	last    uint32
}

// Ended says how a call has ended.
type Ended struct {
	Stream  uint32
	Code    codes.Code
	Message string
}

// New begins to speak HTTP/2 on a connection. window is how many bytes of responses the server
// may send. Unless reads is set, not even the socket is read. The caller closes the client,
// and waits for Gone if it reads.
func New(conn net.Conn, window uint32, reads bool) (*Client, error) {
	c := &Client{
		conn: conn, framer: http2.NewFramer(conn, conn), Ends: make(chan Ended, 1<<12), Gone: make(chan struct{}),
		windows: make(chan uint32, 1<<12), reads: reads,
	}
	c.hpack = hpack.NewEncoder(&c.headers)
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		return nil, err
	}
	if err := c.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window}); err != nil {
		return nil, err
	}
	if window > 1<<16 {
		if err := c.framer.WriteWindowUpdate(0, window); err != nil {
			return nil, err
		}
	}
	if reads {
		go c.read()
	}
	return c, nil
}

// Close closes the connection without telling the server.
func (c *Client) Close() { _ = c.conn.Close() }

// read sends the answers that HTTP/2 requires, and records how calls end.
func (c *Client) read() {
	defer close(c.Gone)
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for {
		f, err := c.framer.ReadFrame()
		if err != nil {
			return
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				c.Write(func(w *http2.Framer) error { return w.WriteSettingsAck() })
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				c.Pings.Add(1)
				c.Write(func(w *http2.Framer) error { return w.WritePing(true, f.Data) })
			}
		case *http2.WindowUpdateFrame:
			select {
			case c.windows <- f.StreamID:
			default:
			}
		case *http2.MetaHeadersFrame:
			if f.StreamEnded() {
				select {
				case c.Ends <- statusIn(f):
				default:
				}
			}
		}
	}
}

func statusIn(f *http2.MetaHeadersFrame) Ended {
	out := Ended{Stream: f.StreamID, Code: codes.Unknown}
	for _, h := range f.Fields {
		switch h.Name {
		case "grpc-status":
			var code codes.Code
			if err := code.UnmarshalJSON([]byte(h.Value)); err == nil {
				out.Code = code
			}
		case "grpc-message":
			out.Message = h.Value
		}
	}
	return out
}

// Write writes frames and reports whether the connection accepted them. One that the server
// has closed accepts none.
func (c *Client) Write(f func(*http2.Framer) error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return f(c.framer) == nil
}

// Begin sends the headers of a call.
func (c *Client) Begin(method string, more ...hpack.HeaderField) (stream uint32, ok bool) {
	ok = c.Write(func(*http2.Framer) error {
		c.last = max(c.last+2, 1) | 1
		stream = c.last
		c.headers.Reset()
		fields := append([]hpack.HeaderField{{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"},
			{Name: ":path", Value: method}, {Name: ":authority", Value: "x"}, {Name: "content-type", Value: "application/grpc"}}, more...)
		for _, f := range fields {
			if err := c.hpack.WriteField(f); err != nil {
				return err
			}
		}
		return c.writeHeaders(stream)
	})
	return stream, ok
}

func (c *Client) writeHeaders(stream uint32) error {
	const most = 16 << 10
	block := c.headers.Bytes()
	n := min(len(block), most)
	err := c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block[:n], EndHeaders: n == len(block)})
	for block = block[n:]; err == nil && len(block) > 0; block = block[n:] {
		n = min(len(block), most)
		err = c.framer.WriteContinuation(stream, n == len(block), block[:n])
	}
	return err
}

// Data sends bytes of a call's message, in frames of the given size.
func (c *Client) Data(stream uint32, p []byte, end bool, frame int) bool {
	return c.Write(func(w *http2.Framer) error {
		for {
			n := min(len(p), frame)
			if err := w.WriteData(stream, end && n == len(p), p[:n]); err != nil {
				return err
			}
			if p = p[n:]; len(p) == 0 {
				return nil
			}
		}
	})
}

// Call sends a whole request.
func (c *Client) Call(method string, m proto.Message) (stream uint32, ok bool) {
	if stream, ok = c.Begin(method); ok {
		ok = c.Data(stream, Message(m), true, 16<<10)
	}
	return stream, ok
}

// Announce begins a call whose message has size bytes, and sends the first ones.
func (c *Client) Announce(method string, size int, sent []byte, frame int) (stream uint32, ok bool) {
	if stream, ok = c.Begin(method); !ok {
		return stream, false
	}
	head := make([]byte, 5)
	binary.BigEndian.PutUint32(head[1:], uint32(size))
	if !c.Data(stream, head, false, len(head)) {
		return stream, false
	}
	if len(sent) >= 1<<16 && c.reads {
		c.AwaitWindow(stream)
	}
	return stream, c.Data(stream, sent, false, frame)
}

// AwaitWindow waits until the server opens a stream's window, or 50 ms to see that it does
// not. It reports whether the connection is still open.
func (c *Client) AwaitWindow(stream uint32) bool {
	patience := time.After(50 * time.Millisecond)
	for {
		select {
		case s := <-c.windows:
			if s == stream {
				return true
			}
		case <-c.Gone:
			return false
		case <-patience:
			return true
		}
	}
}

// Reset cancels a call.
func (c *Client) Reset(stream uint32) bool {
	return c.Write(func(w *http2.Framer) error { return w.WriteRSTStream(stream, http2.ErrCodeCancel) })
}

// Message returns a message with gRPC's framing.
func Message(m proto.Message) []byte {
	encoded, err := proto.Marshal(m)
	if err != nil {
		panic(err) // of a message that a test has written
	}
	out := make([]byte, 5, 5+len(encoded))
	binary.BigEndian.PutUint32(out[1:], uint32(len(encoded)))
	return append(out, encoded...)
}
