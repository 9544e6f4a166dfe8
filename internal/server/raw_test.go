package server

import (
	"bytes"
	"encoding/binary"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// raw is a client of HTTP/2 that keeps to no rules but those that a test wants.
type raw struct {
	t    *testing.T
	conn net.Conn
	// ends has the gRPC status of each call, by stream, as they end; gone is closed
	// when the server has closed the connection.
	ends chan ended
	gone chan struct{}
	// windows has the streams that more may be sent on.
	windows chan uint32
	reads   bool

	mu      sync.Mutex // of what follows
	framer  *http2.Framer
	headers bytes.Buffer
	hpack   *hpack.Encoder
	last    uint32
}

type ended struct {
	stream  uint32
	code    codes.Code
	message string
}

// attack connects. Responses may come as far as window says; unless reads is set,
// not even the socket is read.
func (r *rig) attack(window uint32, reads bool) *raw {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.opts.Listener.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	a := &raw{t: r.t, conn: conn, framer: http2.NewFramer(conn, conn), ends: make(chan ended, 1<<16), gone: make(chan struct{}), windows: make(chan uint32, 1<<16), reads: reads}
	a.hpack = hpack.NewEncoder(&a.headers)
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		r.t.Fatal(err)
	}
	if err := a.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window}); err != nil {
		r.t.Fatal(err)
	}
	if window > 1<<16 {
		if err := a.framer.WriteWindowUpdate(0, window); err != nil {
			r.t.Fatal(err)
		}
	}
	var reader sync.WaitGroup
	if reads {
		reader.Go(a.read)
	}
	r.t.Cleanup(func() {
		conn.Close()
		reader.Wait()
	})
	return a
}

// read answers what has to be answered and notes how calls end.
func (a *raw) read() {
	defer close(a.gone)
	a.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for {
		f, err := a.framer.ReadFrame()
		if err != nil {
			return
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				a.write(func() error { return a.framer.WriteSettingsAck() })
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				a.write(func() error { return a.framer.WritePing(true, f.Data) })
			}
		case *http2.WindowUpdateFrame:
			a.windows <- f.StreamID
		case *http2.MetaHeadersFrame:
			if f.StreamEnded() {
				a.ends <- statusIn(f)
			}
		}
	}
}

func statusIn(f *http2.MetaHeadersFrame) ended {
	out := ended{stream: f.StreamID, code: codes.Unknown}
	for _, h := range f.Fields {
		switch h.Name {
		case "grpc-status":
			var code codes.Code
			if err := code.UnmarshalJSON([]byte(h.Value)); err == nil {
				out.code = code
			}
		case "grpc-message":
			out.message = h.Value
		}
	}
	return out
}

// write writes frames; a connection that the server has closed takes none.
func (a *raw) write(f func() error) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return f() == nil
}

// begin sends the headers of a call.
func (a *raw) begin(method string, more ...hpack.HeaderField) (stream uint32, ok bool) {
	ok = a.write(func() error {
		a.last = max(a.last+2, 1) | 1
		stream = a.last
		a.headers.Reset()
		fields := append([]hpack.HeaderField{{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"},
			{Name: ":path", Value: method}, {Name: ":authority", Value: "x"}, {Name: "content-type", Value: "application/grpc"}}, more...)
		for _, f := range fields {
			if err := a.hpack.WriteField(f); err != nil {
				return err
			}
		}
		return a.writeHeaders(stream)
	})
	return stream, ok
}

func (a *raw) writeHeaders(stream uint32) error {
	const most = 16 << 10
	block := a.headers.Bytes()
	n := min(len(block), most)
	err := a.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block[:n], EndHeaders: n == len(block)})
	for block = block[n:]; err == nil && len(block) > 0; block = block[n:] {
		n = min(len(block), most)
		err = a.framer.WriteContinuation(stream, n == len(block), block[:n])
	}
	return err
}

// data sends bytes of a call's message, in frames of a size.
func (a *raw) data(stream uint32, p []byte, end bool, frame int) bool {
	return a.write(func() error {
		for {
			n := min(len(p), frame)
			if err := a.framer.WriteData(stream, end && n == len(p), p[:n]); err != nil {
				return err
			}
			if p = p[n:]; len(p) == 0 {
				return nil
			}
		}
	})
}

// call sends a whole request.
func (a *raw) call(method string, m proto.Message) (stream uint32, ok bool) {
	if stream, ok = a.begin(method); ok {
		ok = a.data(stream, message(a.t, m), true, 16<<10)
	}
	return stream, ok
}

// announce begins a call whose message has size bytes, and sends the first of them.
func (a *raw) announce(method string, size int, sent []byte, frame int) (stream uint32, ok bool) {
	if stream, ok = a.begin(method); !ok {
		return stream, false
	}
	head := make([]byte, 5)
	binary.BigEndian.PutUint32(head[1:], uint32(size))
	if !a.data(stream, head, false, len(head)) {
		return stream, false
	}
	if len(sent) >= 1<<16 && a.reads {
		a.awaitWindow(stream)
	}
	return stream, a.data(stream, sent, false, frame)
}

// awaitWindow waits until the server lets more come on a stream, or for as long as
// it takes to see that it does not.
func (a *raw) awaitWindow(stream uint32) {
	patience := time.After(50 * time.Millisecond)
	for {
		select {
		case s := <-a.windows:
			if s == stream {
				return
			}
		case <-a.gone:
			return
		case <-patience:
			return
		}
	}
}

func (a *raw) reset(stream uint32) bool {
	return a.write(func() error { return a.framer.WriteRSTStream(stream, http2.ErrCodeCancel) })
}

// message is a message as gRPC frames it.
func message(t *testing.T, m proto.Message) []byte {
	t.Helper()
	encoded, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, 5, 5+len(encoded))
	binary.BigEndian.PutUint32(out[1:], uint32(len(encoded)))
	return append(out, encoded...)
}
