package dial

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"

	"github.com/dkvdb/dkv/internal/certs"
)

// Secured is a TLS connection to a node, whose handshake is done.
type Secured struct {
	*tls.Conn
	of *Dialer
}

// Close closes the connection.
func (s *Secured) Close() error {
	s.of.mu.Lock()
	delete(s.of.open, s)
	s.of.mu.Unlock()
	return s.Conn.Close()
}

// unsecured is a connection to a node that does not speak TLS.
type unsecured struct {
	net.Conn
	of     *Dialer
	addr   string
	noting sync.Once
}

// Read reads. Only a node that has answered in the clear is remembered as one that does not
// speak TLS: one that is shutting down closes connections as well.
func (u *unsecured) Read(p []byte) (int, error) {
	n, err := u.Conn.Read(p)
	if n > 0 {
		u.noting.Do(func() { u.of.note(u.addr) })
	}
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		u.of.forget(u.addr)
	}
	return n, err
}

// Watch calls Recheck each time that certificates were read again, until ctx ends.
func (d *Dialer) Watch(ctx context.Context) {
	if d.Mode() == certs.Off {
		return
	}
	for {
		changed := d.opts.Store.Changed()
		d.Recheck()
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// Recheck closes the connections to nodes whose certificates are no longer accepted,
// because an authority or the nodes' name was withdrawn. It returns how many it has closed.
func (d *Dialer) Recheck() (closed int) {
	if d.Mode() == certs.Off {
		return 0
	}
	config := d.opts.Store.ClientForNodes()
	var gone []*Secured
	d.mu.Lock()
	for s := range d.open {
		if err := config.VerifyConnection(s.ConnectionState()); err != nil {
			gone = append(gone, s)
			d.opts.Log.Warn("a connection to a node is closed, since its certificate is no longer accepted", "node", s.RemoteAddr().String(), "error", err)
		}
	}
	d.mu.Unlock()
	for _, s := range gone {
		_ = s.NetConn().Close() // not the session, which would wait for a reader
	}
	return len(gone)
}
