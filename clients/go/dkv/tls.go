package dkv

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/status"
)

// The texts by which gRPC reports that a connection broke during the TLS handshake, or at
// the first bytes, when a server that requires TLS closes the connection of a client
// without it. There is no other sign. A server that stops causes some of them, but not again
// and again.
var tlsTexts = [...]string{"authentication handshake failed", "error reading server preface", "remote error: tls:", "the connection is draining", "INADEQUATE_SECURITY"}

// The texts of a handshake, or of the first bytes, that did not come in time, so that the client has hung
// up. A side that does not agree about TLS says something, or hangs up; one that is silent hangs.
var silentTexts = [...]string{"i/o timeout", "deadline exceeded", "use of closed network connection"}

// suspectTLS reports whether err may mean that the two sides do not agree about TLS. A
// server that stops at that moment causes the same error.
func suspectTLS(err error) bool {
	st, ok := status.FromError(err)
	if !ok {
		return false
	}
	among := func(texts []string) bool {
		return slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(st.Message(), text) })
	}
	return among(tlsTexts[:]) && !among(silentTexts[:])
}

// A suspicion is taken for a fact after this many failures in a row over this time.
const (
	tlsProofs = 5
	tlsTime   = 500 * time.Millisecond
)

// suspicion counts consecutive failures, of one node or of one call, that may be due to TLS.
type suspicion struct {
	count int
	since time.Time
}

// add counts the result of an attempt, and makes err an ErrTLS when the suspicion is
// proved.
func (s *suspicion) add(err error) {
	var e *Error
	if !errors.As(err, &e) || !suspectTLS(err) {
		s.count = 0
		return
	}
	if s.count++; s.count == 1 {
		s.since = time.Now()
	}
	if s.count >= tlsProofs && time.Since(s.since) >= tlsTime {
		e.Kind = ErrTLS
		e.Err = fmt.Errorf("one side speaks TLS and the other does not, or a certificate is not accepted: %w", e.Err)
	}
}
