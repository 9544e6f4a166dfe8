package server

import (
	"bytes"
	"net"

	"golang.org/x/net/http2"

	"github.com/dkvdb/dkv/internal/certs"
	"github.com/dkvdb/dkv/internal/conns"
)

// listener registers the connections of a bounded listener with calls.
type listener struct {
	*conns.Listener
	calls *calls
}

// listen bounds the connections of a listener.
func (c *calls) listen(l net.Listener) listener {
	bounded := conns.Limit(l, conns.Options{
		Max:        c.opts.MaxConnections,
		MaxPerHost: c.opts.MaxConnectionsPerHost,
		Key:        "max-connections",
		HostKey:    "max-connections-per-host",
		Refusal:    refusal(c.opts.TLS),
		Handshake:  c.opts.TLS != nil,
		Log:        c.opts.Log,
	})
	c.mu.Lock()
	c.listener = bounded
	c.mu.Unlock()
	return listener{bounded, c}
}

// Accept implements net.Listener.
func (l listener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := newConn(accepted.(*conns.Conn), l.calls)
	l.calls.begins(c)
	return c, nil
}

// refusal returns what a connection is sent for which there is no room: an alert, if it
// expects TLS.
func refusal(by *certs.Acceptor) func(string) []byte {
	if by.Mode() == certs.Required {
		return func(string) []byte { return certs.NoRoom() }
	}
	return goAway
}

// goAway is what an HTTP/2 client gets when its connection is refused.
func goAway(reason string) []byte {
	var out bytes.Buffer
	framer := http2.NewFramer(&out, nil)
	// Neither fails when it writes to memory.
	_ = framer.WriteSettings()
	_ = framer.WriteGoAway(0, http2.ErrCodeEnhanceYourCalm, []byte(reason))
	return out.Bytes()
}
