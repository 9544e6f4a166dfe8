package nodes

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/testkit"
)

func TestGetJSON(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/good":
			_, _ = io.WriteString(w, `{"authorization": "`+r.Header.Get("Authorization")+`"}`)
		case "/health":
			w.WriteHeader(http.StatusServiceUnavailable)
			if r.Header.Get("Authorization") == "Bearer too many" {
				_, _ = io.WriteString(w, `{"error": "too many connections are open"}`)
				return
			}
			_, _ = io.WriteString(w, `{"authorization": "unhealthy"}`)
		case "/refused":
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"error": "not granted"}`)
		case "/moved":
			http.Redirect(w, r, "/good", http.StatusFound)
		default:
			_, _ = io.WriteString(w, "<html>")
		}
	}))
	defer s.Close()
	c := newClient(t)
	c.Token = "secret"
	var got struct{ Authorization string }
	for path, want := range map[string]string{"/good": "Bearer secret", "/health": "unhealthy"} {
		if err := c.GetJSON(t.Context(), s.Listener.Addr().String(), path, &got); err != nil || got.Authorization != want {
			t.Errorf("%s: %q, %v", path, got.Authorization, err)
		}
	}
	for path, want := range map[string]string{"/refused": "403 Forbidden: not granted", "/moved": "302", "/other": "something else than the document"} {
		if err := c.GetJSON(t.Context(), s.Listener.Addr().String(), path, &got); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if err := c.GetJSON(t.Context(), testkit.Refusing(t), "/good", &got); err == nil || !strings.Contains(err.Error(), "does not answer over HTTP") {
		t.Errorf("nothing listens: %v", err)
	}
	c.Token = "too many"
	if err := c.GetJSON(t.Context(), s.Listener.Addr().String(), "/health", &got); err == nil || !strings.Contains(err.Error(), "503 Service Unavailable: too many connections are open") {
		t.Errorf("a refusal is taken for the health: %v", err)
	}
	// A token is sent to no other host in the clear.
	if err := c.GetJSON(t.Context(), "192.0.2.1:8081", "/good", &got); err == nil || !strings.Contains(err.Error(), "unencrypted") {
		t.Errorf("another host: %v", err)
	}
}
