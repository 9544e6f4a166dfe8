package dkv

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/status"
)

// The texts by which gRPC reports that a connection broke during the TLS handshake, or at
// the first bytes, when a server that requires TLS closes the connection of a client
// without it. There is no other sign. A server that stops causes some of them, but not again
// and again.
var tlsTexts = [...]string{"authentication handshake failed", "error reading server preface", "remote error: tls:", "the connection is draining", "INADEQUATE_SECURITY"}

// suspectTLS reports whether err may mean that the two sides do not agree about TLS. A
// server that stops at that moment causes the same error.
func suspectTLS(err error) bool {
	st, ok := status.FromError(err)
	if !ok {
		return false
	}
	for _, text := range tlsTexts {
		if strings.Contains(st.Message(), text) {
			return true
		}
	}
	return false
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
