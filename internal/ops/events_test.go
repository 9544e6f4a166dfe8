package ops

import (
	"log/slog"
	"net/http"
	"testing"
)

// TestEventsOfTheLog: what the query wants is passed on, and pages of other sites get nothing.
func TestEventsOfTheLog(t *testing.T) {
	var got EventQuery
	o := options()
	o.Events = func(q EventQuery) any { got = q; return []string{} }
	s := newServer(t, o)
	for query, want := range map[string]EventQuery{
		"":                          {Limit: 200},
		"?level=WARN&vbucket=3":     {Level: slog.LevelWarn, VBucket: "3", Limit: 200},
		"?level=debug&limit=9":      {Level: slog.LevelDebug, Limit: 9},
		"?audit=1&limit=2000&extra": {Audit: true, Limit: 2000},
	} {
		if r := call(s, "GET", "/admin/log"+query, ""); r.Code != http.StatusOK || got != want || compact(t, r.Body.String()) != `{"events":[]}` {
			t.Errorf("%q: %d %s, %+v", query, r.Code, r.Body, got)
		}
	}
	for _, query := range []string{"?level=loud", "?limit=0", "?limit=2001", "?limit=x"} {
		if r := call(s, "GET", "/admin/log"+query, ""); r.Code != http.StatusBadRequest {
			t.Errorf("%q: %d", query, r.Code)
		}
	}
	if r := call(s, "GET", "/admin/log", "", func(r *http.Request) { r.Host = "evil.example" }); r.Code != http.StatusForbidden {
		t.Errorf("under a foreign name: %d", r.Code)
	}
}
