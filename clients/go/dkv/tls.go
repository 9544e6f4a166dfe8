package dkv

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/status"
)

// The texts in which gRPC tells that a connection broke while it was secured, or at
// the first bytes, where a server that wants TLS closes that of a client without;
// it has no other sign.
var tlsTexts = [...]string{"authentication handshake failed", "error reading server preface"}

// suspectTLS tells whether err is of a connection whose sides may not agree about
// TLS. A server that stops at that moment leaves the same.
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

// A suspicion that comes up so often, and for so long, is taken for a fact.
const (
	tlsProofs = 5
	tlsTime   = 500 * time.Millisecond
)

// isTLS turns err into ErrTLS, and tells that it did, where the attempts that began
// at a time have failed so often that TLS must be the reason.
func isTLS(err *Error, attempts int, began time.Time) bool {
	if !suspectTLS(err) || attempts < tlsProofs || time.Since(began) < tlsTime {
		return false
	}
	err.Kind = ErrTLS
	err.Err = fmt.Errorf("one side speaks TLS and the other does not, or a certificate is not accepted: %w", err.Err)
	return true
}

// suspicion counts failures of one node in a row.
type suspicion struct {
	count int
	since time.Time
}

// add takes note of the result of an attempt, and turns it into ErrTLS when it is
// time.
func (s *suspicion) add(err error) {
	var e *Error
	if !errors.As(err, &e) || !suspectTLS(err) {
		s.count = 0
		return
	}
	if s.count++; s.count == 1 {
		s.since = time.Now()
	}
	isTLS(e, s.count, s.since)
}
