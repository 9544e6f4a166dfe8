package ctl

import (
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/ctl/options"
)

// TestShellFromAPipe: lines run with the options of the shell, and an error ends none of the
// rest.
func TestShellFromAPipe(t *testing.T) {
	f := startFake(t)
	lines := "-set foo 'a value'\n-get foo\n-get missing\n-gte foo\n-shell\n-top\n-set k -stdin\n-get foo -o json\nexit\n-del foo\n"
	got := runMain(t.Context(), lines, nil, "-a", f.addr, "-shell")
	if got.code != exitFailed || !strings.HasPrefix(got.stdout, "OK\na value\n"+`{"key":"foo"`) || strings.Count(got.stdout, "\n") != 3 {
		t.Errorf("code %d, stdout %q", got.code, got.stdout)
	}
	want := []string{"key not found", "did you mean -get?", "outside of -shell", "outside of -shell", "outside of -shell", "lines that failed: 5"}
	said := strings.Split(strings.TrimSpace(got.stderr), "\n")
	if len(said) != len(want) {
		t.Fatalf("stderr %q", got.stderr)
	}
	for i, w := range want {
		if !strings.Contains(said[i], w) {
			t.Errorf("line %d is %q, want %q", i, said[i], w)
		}
	}
	expect(t, runMain(t.Context(), "-get foo\n", nil, "-a", f.addr, "-shell"), outcome{stdout: "a value\n"})
}

func TestKeysForCompletion(t *testing.T) {
	f := startFake(t)
	expect(t, dkvctl(t, f.addr, "-mset", "user/1", "a", "user/2", "b", "x", "c"), outcome{stdout: "OK\n"})
	o := options.DefaultOptions()
	o.Timeout = time.Minute
	all, err := newSession(o, nil, streams{})
	if err != nil {
		t.Fatal(err)
	}
	s := all.to(f.addr)
	defer all.Close()
	defer s.Close()
	if got := s.someKeys(t.Context(), "user/"); strings.Join(got, " ") != "user/1 user/2" {
		t.Errorf("%q", got)
	}
}
