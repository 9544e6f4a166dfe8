package server

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"github.com/dkvdb/dkv/internal/conns"
)

// readBuffer is how much is read at once: four times gRPC's own, so that a busy
// connection takes fewer system calls. A connection has a buffer only while
// there is something in it.
const readBuffer = 128 << 10

var readBuffers = sync.Pool{New: func() any { return new([readBuffer]byte) }}

// socket is what a connection reads from the network: HTTP/2, or TLS with that within. One
// goroutine reads.
type socket struct {
	*conns.Conn
	raw syscall.RawConn // nil for what is no socket

	// buf and unread are what was read and not yet returned.
	buf    *[readBuffer]byte
	unread []byte
	// ready is tryRead; got and failed are its results.
	ready  func(fd uintptr) bool
	got    int
	failed error
}

// open prepares reading from a connection.
func (s *socket) open(c *conns.Conn) {
	s.Conn = c
	if raw, ok := c.Conn.(syscall.Conn); ok {
		s.raw, _ = raw.SyscallConn()
		s.ready = s.tryRead
	}
}

// Read implements net.Conn.
func (s *socket) Read(p []byte) (int, error) {
	if len(s.unread) == 0 {
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.unread)
	if s.unread = s.unread[n:]; len(s.unread) == 0 && s.buf != nil {
		readBuffers.Put(s.buf)
		s.buf = nil
	}
	return n, nil
}

// Peek implements certs.Peeker.
func (s *socket) Peek() (byte, error) {
	if len(s.unread) == 0 {
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
	return s.unread[0], nil
}

// fill reads from the socket. It takes a buffer from the pool only when there is something
// to read, so idle connections hold none.
func (s *socket) fill() error {
	if s.raw == nil {
		s.buf = readBuffers.Get().(*[readBuffer]byte)
		n, err := s.Conn.Read(s.buf[:])
		return s.filled(n, err)
	}
	err := s.raw.Read(s.ready)
	switch n, failed := s.got, s.failed; {
	case err != nil:
		return s.filled(0, err)
	case failed != nil:
		return s.filled(0, &net.OpError{Op: "read", Net: "tcp", Source: s.LocalAddr(), Addr: s.Conn.RemoteAddr(), Err: os.NewSyscallError("read", failed)})
	case n == 0:
		return s.filled(0, io.EOF)
	default:
		return s.filled(n, nil)
	}
}

// tryRead reads what is available, and reports whether that was anything, including an
// error or the end.
func (s *socket) tryRead(fd uintptr) bool {
	if s.buf == nil {
		s.buf = readBuffers.Get().(*[readBuffer]byte)
	}
	for {
		s.got, s.failed = syscall.Read(int(fd), s.buf[:])
		switch s.failed {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			readBuffers.Put(s.buf)
			s.buf = nil
			return false
		default:
			return true
		}
	}
}

func (s *socket) filled(n int, err error) error {
	if err != nil {
		if s.buf != nil {
			readBuffers.Put(s.buf)
			s.buf = nil
		}
		return err
	}
	s.unread = s.buf[:n]
	return nil
}
