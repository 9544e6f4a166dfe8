package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// Listen returns a listener whose connections have completed their handshakes: each is a
// *tls.Conn, or in the clear. Handshakes go on beside Accept, so that a slow one holds up no
// other; how many there are is for l to bound. With a nil Acceptor it is l itself.
func (a *Acceptor) Listen(l net.Listener) net.Listener {
	if a == nil {
		return l
	}
	out := &listener{Listener: l, acceptor: a, ready: make(chan net.Conn), failed: make(chan error), ended: make(chan struct{})}
	out.ctx, out.stop = context.WithCancel(context.Background())
	return out
}

type listener struct {
	net.Listener
	acceptor *Acceptor
	begin    sync.Once
	ended    chan struct{} // closed when accept has returned, or will never be called
	ready    chan net.Conn
	failed   chan error
	ctx      context.Context // ends with Close
	stop     context.CancelFunc
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	l.begin.Do(func() {
		go func() {
			defer close(l.ended)
			l.accept()
		}()
	})
	select {
	case c := <-l.ready:
		return c, nil
	case err := <-l.failed:
		return nil, err
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}

// accept accepts connections until the listener is closed. After an error it waits until its
// caller accepts again, which decides how long that is.
func (l *listener) accept() {
	for {
		c, err := l.Listener.Accept()
		if err == nil {
			go l.handshake(c)
			continue
		}
		select {
		case l.failed <- err:
		case <-l.ctx.Done():
			return
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
	}
}

// readied is a connection that is told what its handshake has established; nil is in the
// clear.
type readied interface{ Ready(*tls.ConnectionState) }

func (l *listener) handshake(c net.Conn) {
	out, err := l.acceptor.Handshake(l.ctx, &peeked{Conn: c})
	if err == nil {
		err = c.SetDeadline(time.Time{})
	}
	if err != nil {
		_ = c.Close() // the failure is counted
		return
	}
	if counted, ok := c.(readied); ok {
		var shown *tls.ConnectionState
		if secure, ok := out.(*tls.Conn); ok {
			state := secure.ConnectionState()
			shown = &state
		}
		counted.Ready(shown)
	}
	select {
	case l.ready <- out:
	case <-l.ctx.Done():
		_ = c.Close()
	}
}

// Close implements net.Listener. It ends the handshakes that are unfinished. When it returns,
// no connection of the listener below is accepted here any more: that one may not be closed but
// go on with another owner, as after a StandIn.
func (l *listener) Close() error {
	l.stop()
	err := l.Listener.Close()
	l.begin.Do(func() { close(l.ended) })
	<-l.ended
	return err
}

// peeked is a connection whose first byte may have been read already. Peek and the first Read
// are called one after the other.
type peeked struct {
	net.Conn
	first [1]byte
	held  bool
}

// Peek implements Peeker.
func (p *peeked) Peek() (byte, error) {
	if !p.held {
		if _, err := io.ReadFull(p.Conn, p.first[:]); err != nil {
			return 0, err
		}
		p.held = true
	}
	return p.first[0], nil
}

// Read implements net.Conn.
func (p *peeked) Read(b []byte) (int, error) {
	if p.held && len(b) > 0 {
		p.held = false
		return copy(b, p.first[:]), nil
	}
	return p.Conn.Read(b)
}

// NetConn returns the connection below.
func (p *peeked) NetConn() net.Conn { return p.Conn }
