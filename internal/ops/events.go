package ops

import (
	"log/slog"
	"net/http"
	"strconv"
)

// EventQuery says which of the last events of the log are wanted.
type EventQuery struct {
	// Level is the least severe level; VBucket is "" for all.
	Level   slog.Level
	VBucket string
	// Audit wants the lines of the audit log instead.
	Audit bool
	Limit int
}

const (
	eventsPath = "/admin/log"
	// eventsLimit is how many events are answered with if the query does not say.
	eventsLimit, maxEvents = 200, 2000
)

// events answers with the last events of the log. It is refused under a foreign name, as
// what changes something is: lines hold addresses and keys.
func (s *Server) events(w http.ResponseWriter, r *http.Request) error {
	if err := s.admit(r); err != nil {
		return err
	}
	query := r.URL.Query()
	q := EventQuery{Level: slog.LevelInfo, VBucket: query.Get("vbucket"), Audit: query.Get("audit") != "", Limit: eventsLimit}
	if text := query.Get("level"); text != "" {
		if err := q.Level.UnmarshalText([]byte(text)); err != nil {
			return &Error{Status: http.StatusBadRequest, Text: "level is debug, info, warn or error"}
		}
	}
	if text := query.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxEvents {
			return &Error{Status: http.StatusBadRequest, Text: "limit is a number from 1 to " + strconv.Itoa(maxEvents)}
		}
		q.Limit = n
	}
	return s.writeDocument(w, r, http.StatusOK, map[string]any{"events": s.options.Events(q)})
}
