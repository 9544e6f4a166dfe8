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

// markTLS makes err an ErrTLS, and reports whether it did, if the attempts since began have
// failed so often that TLS must be the reason.
func markTLS(err *Error, attempts int, began time.Time) bool {
	if !suspectTLS(err) || attempts < tlsProofs || time.Since(began) < tlsTime {
		return false
	}
	err.Kind = ErrTLS
	err.Err = fmt.Errorf("one side speaks TLS and the other does not, or a certificate is not accepted: %w", err.Err)
	return true
}

// suspicion counts consecutive failures of one node that may be due to TLS.
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
	markTLS(e, s.count, s.since)
}
