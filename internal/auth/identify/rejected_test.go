package identify

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/auth/token"
	"github.com/dkvdb/dkv/internal/testkit/certs"
)

// TestManyWrongTokensAreSlowed sends wrong tokens and right ones from the same host.
func TestManyWrongTokensAreSlowed(t *testing.T) {
	text, hash := newToken(t)
	f := open(t, entry("a", hash))
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		for range 100 {
			if _, err := f.Identify(bearing(token.New())); err != auth.ErrRejected {
				t.Fatal(err)
			}
			before := time.Now()
			f.identify(bearing(text))
			if took := time.Since(before); took != 0 {
				t.Fatalf("a right token waits for %v", took)
			}
		}
		if took := time.Since(began); took < 30*time.Second {
			t.Errorf("100 wrong tokens take %v", took)
		}
		if lines := strings.Count(f.log.String(), "\n"); lines < 2 || lines > 10 {
			t.Errorf("%d lines in the log:\n%s", lines, f.log)
		}
	})
}

// TestUnknownCertificatesAreNamedInTheLog lets an operator find the client.
func TestUnknownCertificatesAreNamedInTheLog(t *testing.T) {
	f := open(t, "{name: a, certificates: [a.example.com]}")
	f.rejects("an unknown name", showing(certs.New(t).Issue(t, "z.example.com").Certificate))
	if !strings.Contains(f.log.String(), "z.example.com") {
		t.Errorf("the log:\n%s", f.log)
	}
}

// TestLogOfRejectionsShowsNoSecret looks for the parts of rejected credentials in the log.
func TestLogOfRejectionsShowsNoSecret(t *testing.T) {
	_, hash := newToken(t)
	i := newIssuer(t)
	f := open(t, i.accepting(entry("a", hash)))
	wrong := []string{token.New(), newIssuer(t).sign("alice", "", time.Hour), i.sign("bob", "", time.Hour), "hunter2"}
	for _, text := range wrong {
		f.rejections = rejections{}
		f.rejects("a wrong token", bearing(text))
	}
	if lines := strings.Count(f.log.String(), "a call was rejected for its token or certificate"); lines != len(wrong) {
		t.Errorf("%d lines", lines)
	}
	id, _ := token.IDOf(wrong[0])
	if !strings.Contains(f.log.String(), "token "+id) {
		t.Errorf("the log does not name the token:\n%s", f.log)
	}
	wrong[0] = wrong[0][len(token.Prefix+id):]
	for _, text := range wrong {
		for len(text) >= 6 {
			if strings.Contains(f.log.String(), text[:6]) {
				t.Fatalf("the log shows %s:\n%s", text[:6], f.log)
			}
			text = text[6:]
		}
	}
}
