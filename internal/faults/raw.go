package faults

import (
	"errors"
	"syscall"
)

// SyscallConn implements syscall.Conn, as the connection below does: a reader that uses it needs no
// buffer while nothing comes.
func (c *conn) SyscallConn() (syscall.RawConn, error) {
	below, is := c.Conn.(syscall.Conn)
	if !is {
		return nil, errors.ErrUnsupported
	}
	raw, err := below.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &rawConn{raw, c}, nil
}

// rawConn is a connection that a fault may hold, for readers and writers of its file descriptor.
type rawConn struct {
	syscall.RawConn
	conn *conn
}

// Read implements syscall.RawConn. What f has read counts as read when no fault holds the
// connection. A fault that lasts beyond the deadline ends it: what f has read cannot be handed on
// later, and must not be missing unnoticed.
func (r *rawConn) Read(f func(fd uintptr) (done bool)) error {
	if err := r.RawConn.Read(f); err != nil {
		return err
	}
	err := r.hold(&r.conn.read)
	if err != nil {
		_ = r.conn.Close()
	}
	return err
}

// Write implements syscall.RawConn.
func (r *rawConn) Write(f func(fd uintptr) (done bool)) error {
	if err := r.hold(&r.conn.write); err != nil {
		return err
	}
	return r.RawConn.Write(f)
}

func (r *rawConn) hold(d *deadline) error {
	if a := r.conn.of.active.Load(); a != nil && a.holds(r.conn) {
		return r.conn.hold(a, d)
	}
	return nil
}
