package ctl

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"testing"
)

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestResultsThatCannotBeWrittenAreAnError(t *testing.T) {
	f := startFake(t)
	f.put("k", strings.Repeat("v", 100_000))
	for _, args := range [][]string{{"-get", "k"}, {"-iter", "*"}, {"-help"}, {"-status"}} {
		var stderr bytes.Buffer
		code := Main(t.Context(), append(args, "-a", f.addr), func(string) (string, bool) { return "", false },
			strings.NewReader(""), brokenWriter{}, &stderr)
		if code != exitFailed || !strings.Contains(stderr.String(), "disk full") {
			t.Errorf("%v: code %d, stderr %q", args, code, stderr.String())
		}
	}
}

// The names in JSON are written as those of /health: small letters and underscores.
func TestJSONNamesHaveOneStyle(t *testing.T) {
	fakes := startMasters(t, 3)
	f := fakes[0]
	for _, f := range fakes {
		f.put("b\xff", "v\xff")
	}
	name := regexp.MustCompile(`"([A-Za-z0-9_]+)":`)
	seen := make(map[string]bool)
	for _, args := range [][]string{
		{"-status"}, {"-listNodes"}, {"-clusterInfo"}, {"-verify"}, {"-get", "k"}, {"-iter", "*"}, {"-mget", "k"}, {"-version"},
		append([]string{"-bench", "get"}, strings.Fields(quick)...),
	} {
		got := dkvctl(t, f.addr, append(args, "-o", "json")...)
		for _, m := range name.FindAllStringSubmatch(got.stdout, -1) {
			if seen[m[1]] = true; strings.ToLower(m[1]) != m[1] {
				t.Errorf("%q has %q", args, m[1])
			}
		}
	}
	for _, want := range []string{"applied_index", "node_name", "vbucket", "history_id", "key_base64", "p99_micros", "go_version", "age_millis"} {
		if !seen[want] {
			t.Errorf("%s was not seen", want)
		}
	}
}
