package faults

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// socket is a connection with a file descriptor, which is always ready.
type socket struct{ net.Conn }

func (socket) SyscallConn() (syscall.RawConn, error) { return descriptor{}, nil }

type descriptor struct{}

func (descriptor) Control(f func(uintptr)) error    { f(0); return nil }
func (descriptor) Read(f func(uintptr) bool) error  { f(0); return nil }
func (descriptor) Write(f func(uintptr) bool) error { f(0); return nil }

// raw returns a connection that a node accepts, and its file descriptor.
func raw(t *testing.T, f *Faults) (net.Conn, syscall.RawConn) {
	t.Helper()
	in, out := net.Pipe()
	t.Cleanup(func() { _ = out.Close() })
	next := make(chan net.Conn, 1)
	next <- socket{in}
	c, err := f.Listen(pipes{next}, false).Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	of, is := c.(syscall.Conn)
	if !is {
		t.Fatal("the connection shows no file descriptor")
	}
	r, err := of.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	return c, r
}

// TestFileDescriptorsAreHeld: the server reads by them, so that idle connections hold no buffers.
func TestFileDescriptorsAreHeld(t *testing.T) {
	done := func(uintptr) bool { return true }
	for name, use := range map[string]func(syscall.RawConn) error{
		"read":  func(r syscall.RawConn) error { return r.Read(done) },
		"write": func(r syscall.RawConn) error { return r.Write(done) },
	} {
		synctest.Test(t, func(t *testing.T) {
			f := quiet()
			_, r := raw(t, f)
			for _, want := range []time.Duration{0, 10 * time.Second, 0} {
				if want > 0 {
					begin(t, f, Fault{Kind: Silent, For: want})
				}
				begun := time.Now()
				if err := use(r); err != nil || time.Since(begun) != want {
					t.Errorf("a %s takes %s, want %s (%v)", name, time.Since(begun), want, err)
				}
			}
		})
	}
}

// TestFileDescriptorsKeepDeadlines: what was read and cannot be handed on ends the connection.
func TestFileDescriptorsKeepDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := quiet()
		c, r := raw(t, f)
		defer begin(t, f, Fault{Kind: Silent, For: 10 * time.Second}).End()
		if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if err := r.Read(func(uintptr) bool { return true }); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		if err := r.Read(func(uintptr) bool { return true }); !errors.Is(err, net.ErrClosed) && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the connection goes on: %v", err)
		}
	})
}

// TestConnectionsWithoutFileDescriptors show none.
func TestConnectionsWithoutFileDescriptors(t *testing.T) {
	node, _ := accepted(t, quiet(), false)
	if _, err := node.(syscall.Conn).SyscallConn(); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
}
