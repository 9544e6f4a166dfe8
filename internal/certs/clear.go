package certs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// errClear is the error of a connection in the clear to a port that takes TLS only.
var errClear = errors.New("the connection is in the clear, and tls-mode is required")

// clearText is what such a client is told.
const clearText = "this port accepts TLS connections only (tls-mode: required)"

// lingering bounds for how long a rejected client may read why: closing a connection that has
// unread data discards what was written to it.
const lingering = time.Second

// refuseClear tells a client that speaks HTTP/1 or HTTP/2 that it has to use TLS.
func refuseClear(c net.Conn) {
	start := make([]byte, len("PRI * HTTP/2.0"))
	n, _ := io.ReadAtLeast(c, start, len("PRI"))
	answer := refusal(start[:n])
	if answer == nil {
		return
	}
	_ = c.SetWriteDeadline(time.Now().Add(lingering))
	if _, err := c.Write(answer); err == nil {
		linger(c)
	}
}

// linger lets a client read why it is rejected.
func linger(c net.Conn) {
	if closeWrite(c) == nil && c.SetReadDeadline(time.Now().Add(lingering)) == nil {
		const most = 64 << 10
		_, _ = io.CopyN(io.Discard, c, most) // until the client closes, or is too slow
	}
}

// closeWrite ends what a connection, or that below it, sends.
func closeWrite(c net.Conn) error {
	for {
		if half, ok := c.(interface{ CloseWrite() error }); ok {
			return half.CloseWrite()
		}
		outer, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return errors.ErrUnsupported
		}
		c = outer.NetConn()
	}
}

// refusal is the answer to a client, by the first bytes that it has sent; nil if their
// protocol is not known.
func refusal(start []byte) []byte {
	switch {
	case bytes.HasPrefix(start, []byte("PRI")):
		return goAway(clearText + "; use a certificate authority and TLS in the client")
	case bytes.IndexFunc(start[:min(len(start), len("PRI"))], func(r rune) bool { return r < 'A' || r > 'Z' }) < 0:
		body := clearText + "; use https://\n"
		return fmt.Appendf(nil, "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
	return nil
}

// goAway is the beginning and end of an HTTP/2 connection: SETTINGS, and GOAWAY with the error
// INADEQUATE_SECURITY.
func goAway(why string) []byte {
	const (
		frameSettings, frameGoAway = 4, 7
		inadequateSecurity         = 0xc
	)
	frame := func(out []byte, kind byte, payload []byte) []byte {
		out = append(out, byte(len(payload)>>16), byte(len(payload)>>8), byte(len(payload)), kind, 0, 0, 0, 0, 0)
		return append(out, payload...)
	}
	payload := binary.BigEndian.AppendUint32(make([]byte, 4), inadequateSecurity)
	return frame(frame(nil, frameSettings, nil), frameGoAway, append(payload, why...))
}
