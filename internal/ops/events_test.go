package ops

import (
	"context"
	"encoding/json"
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

// TestWhereAdministrativeAnswersGo: those of the role admin name files and show the configuration.
// Other nodes relay what their consoles do, and address this one by the name that it has given them.
func TestWhereAdministrativeAnswersGo(t *testing.T) {
	o := options()
	o.Name = "db1.example"
	o.Events = func(EventQuery) any { return []string{} }
	answer := func(context.Context) (any, error) { return "an answer", nil }
	o.Views = map[string]View{"/admin/node": answer, "/admin/backups": answer, "/admin/raft/state": answer}
	o.Actions = map[string]Action{"/admin/pause-writes": func(context.Context, json.RawMessage) (any, error) { return nil, nil }}
	s := newServer(t, o)
	for method, paths := range map[string][]string{"GET": {"/admin/log", "/admin/node", "/admin/backups", "/admin/raft/state"}, "POST": {"/admin/pause-writes"}} {
		for _, path := range paths {
			for _, c := range []struct {
				change func(*http.Request)
				code   int
			}{
				{func(r *http.Request) { r.Host = "localhost:8081" }, http.StatusOK},
				{func(r *http.Request) { r.Host = "DB1.example:8081" }, http.StatusOK},
				{func(r *http.Request) { r.Host = "db1.example" }, http.StatusOK},
				{func(r *http.Request) { r.Host = "evil.example:8081" }, http.StatusForbidden},
				{func(r *http.Request) { r.Host = "db1.example.evil.example" }, http.StatusForbidden},
				{header("X-Forwarded-For", "192.0.2.1"), http.StatusForbidden},
			} {
				if path == "/admin/raft/state" { // which any caller may ask for
					c.code = http.StatusOK
				}
				if r := call(s, method, path, "", c.change); r.Code != c.code {
					t.Errorf("%s: %d %s, want %d", path, r.Code, r.Body, c.code)
				}
			}
		}
	}
}
