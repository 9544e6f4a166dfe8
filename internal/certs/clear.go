package certs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/dkvdb/dkv/internal/sleep"
)

// ErrClear is the error of a connection in the clear to a port that takes TLS only.
var ErrClear = errors.New("the connection is in the clear, and tls-mode is required")

// clearText is what such a client is told.
const clearText = "this port accepts TLS connections only (tls-mode: required)"

// lingering bounds for how long a rejected client may read why: closing a connection that has
// unread data discards what was written to it.
const lingering = time.Second

// goAwayAfter is when an HTTP/2 client is told: it may open its next connection at once.
const goAwayAfter = time.Second

// refuseClear tells a client that speaks HTTP/1 or HTTP/2 that it has to use TLS.
func refuseClear(ctx context.Context, c net.Conn) {
	start := make([]byte, len("PRI"))
	n, _ := io.ReadFull(c, start)
	_ = c.SetWriteDeadline(time.Now().Add(goAwayAfter + lingering))
	answer := badRequest()
	switch start = start[:n]; {
	case bytes.HasPrefix([]byte("PRI"), start):
		if _, err := c.Write(settings()); err != nil || !sleep.For(ctx, goAwayAfter) {
			return
		}
		answer = goAway()
	case bytes.IndexFunc(start, func(r rune) bool { return r < 'A' || r > 'Z' }) >= 0:
		return // of no protocol that could say it
	}
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

// badRequest is the answer to a request of HTTP/1.
func badRequest() []byte {
	body := clearText + "; use https://\n"
	return fmt.Appendf(nil, "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// settings is the frame with which a server begins HTTP/2.
func settings() []byte { return frame(4, nil) }

// goAway is the frame that ends HTTP/2, with the error INADEQUATE_SECURITY and the reason.
func goAway() []byte {
	const inadequateSecurity = 0xc
	payload := binary.BigEndian.AppendUint32(make([]byte, 4), inadequateSecurity)
	return frame(7, append(payload, clearText...))
}

func frame(kind byte, payload []byte) []byte {
	head := []byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), kind, 0, 0, 0, 0, 0}
	return append(head, payload...)
}

// NoRoom is what a port with TLS sends to a connection that it has no room for: the alert that
// ends a handshake. To one that is closed without a word, or told why in the clear, a node would
// conclude that the port does not speak TLS.
func NoRoom() []byte {
	const alert, fatal, internalError = 21, 2, 80
	return []byte{alert, 3, 3, 0, 2, fatal, internalError}
}
