package ops

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// Error is an error with its HTTP status.
type Error struct {
	// Status is an HTTP status code, 400 or above.
	Status int
	// Text says what was wrong and what to do.
	Text string
}

func (e *Error) Error() string { return e.Text }

// handler answers a request, or returns the error to answer with. After an
// error nothing has been written.
type handler func(http.ResponseWriter, *http.Request) error

// writeJSON answers with a document.
func writeJSON(w http.ResponseWriter, status int, document any) error {
	body, err := encoded(document)
	if err != nil {
		return err
	}
	return write(w, status, "application/json", body)
}

// encoded is a document as it is sent. It is encoded before the header is sent, so that a failure
// can still be answered.
func encoded(document any) ([]byte, error) {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(document); err != nil {
		return nil, fmt.Errorf("encode the answer: %w", err)
	}
	return body.Bytes(), nil
}

const (
	// largeDocument is the size in bytes from which a document counts: smaller ones are bounded by
	// the number of connections.
	largeDocument = 64 << 10
	// maxDocuments bounds the large ones that are being taken at the same time.
	maxDocuments = 16
)

// writeDocument is writeJSON for documents that may be large, as those of nodes with many vBuckets
// are, or of many nodes. Each is held until its reader has taken it.
func (s *Server) writeDocument(w http.ResponseWriter, r *http.Request, status int, document any) error {
	body, err := encoded(document)
	if err != nil {
		return err
	}
	if len(body) >= largeDocument {
		place := s.documents.take(callerName(r), func() { dropAnswer(w) })
		if place == nil {
			w.Header().Set("Retry-After", "1")
			// Not 503: that is the health of a node that is out of service.
			return &Error{Status: http.StatusTooManyRequests, Text: fmt.Sprintf("large answers are being taken %d times at once, which is the limit: retry later", maxDocuments)}
		}
		defer s.documents.leave(place)
	}
	return write(w, status, "application/json", body)
}

// writeText answers with plain text.
func writeText(w http.ResponseWriter, status int, text string) error {
	return write(w, status, "text/plain; charset=utf-8", []byte(text))
}

func write(w http.ResponseWriter, status int, contentType string, body []byte) error {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	// An error means that the client is gone: there is no one to report it to.
	_, _ = w.Write(body)
	return nil
}

// statusOf returns the HTTP status of an error.
func (s *Server) statusOf(err error) int {
	var known *Error
	switch {
	case errors.As(err, &known):
		return known.Status
	case s.options.StatusOf != nil:
		return s.options.StatusOf(err)
	}
	return http.StatusInternalServerError
}

// fail answers with an error as JSON.
func (s *Server) fail(w http.ResponseWriter, err error) {
	if err := writeJSON(w, s.statusOf(err), map[string]string{"error": err.Error()}); err != nil {
		s.options.Logger.Error("answering with an error failed", "error", err)
	}
}

// oneLine makes an error's text one line of a list.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
