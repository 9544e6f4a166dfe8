package internal_test

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/access"
)

// keysOf reads the names of the keys from the page that is generated of them.
func keysOf(t *testing.T) map[string]bool {
	t.Helper()
	raw, err := os.ReadFile("../docs/reference/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	keys := make(map[string]bool)
	for _, m := range regexp.MustCompile("(?m)^### `([a-z.-]+)`$").FindAllStringSubmatch(string(raw), -1) {
		keys[m[1]] = true
	}
	if len(keys) < 80 {
		t.Fatalf("only %d keys", len(keys))
	}
	return keys
}

var (
	metricWord = regexp.MustCompile(`\bdkv_[a-z0-9_]*[a-z0-9]\b`)
	suffixes   = regexp.MustCompile(`_(bucket|sum|count)$`)
	keySpan    = regexp.MustCompile("`(-{0,2})((?:discovery-service\\.[a-z]+\\.)?[a-z]+(?:-[a-z]+)+)(?:: [^`]*|=[^`]*| [^`]*)?`")
)

// TestMetricsOfPagesExist: each metric that a page names is one of the source.
func TestMetricsOfPagesExist(t *testing.T) {
	known := make(map[string]bool)
	for _, d := range declarations(t) {
		known[d.name] = true
	}
	for _, p := range pages(t) {
		for _, name := range metricWord.FindAllString(p.prose, -1) {
			if !known[name] && !known[suffixes.ReplaceAllString(name, "")] {
				t.Errorf("%s names the metric %s, and there is none", p.path, name)
			}
		}
		for _, b := range p.blocks { // which may show the beginning of names, for grep
			for _, name := range metricWord.FindAllString(b.text, -1) {
				if !slices.ContainsFunc(slices.Collect(maps.Keys(known)), func(k string) bool { return strings.HasPrefix(k, suffixes.ReplaceAllString(name, "")) }) {
					t.Errorf("%s shows the metric %s, and there is none", p.path, name)
				}
			}
		}
	}
}

// notKeys are what pages write as keys are written, and is something else: names of
// certificates, of limits, of values, of files, packages and programs.
var notKeys = strings.Fields(`dkv-node identity-requests-per-second identity-requests-in-flight identity-streams librocksdb-dev vbucket-memory vbucket-files`)

// TestKeysOfPagesExist: each key of the configuration that a page of docs or the README
// names is one of the table.
func TestKeysOfPagesExist(t *testing.T) {
	known := keysOf(t)
	last := make(map[string]bool) // without the sections
	for k := range known {
		last[k[strings.LastIndexByte(k, '.')+1:]] = true
	}
	for _, k := range append(notKeys, "restore-from", "help", "version", "print-config", "check-config", "config") {
		known[k] = true
	}
	for _, p := range pages(t) {
		if p.path != "README.md" && !strings.HasPrefix(p.path, "docs/") || p.path == "docs/ARCHITECTURE.md" || p.path == "docs/AUTH-FILE.md" {
			continue // AUTH-FILE.md is about the keys of another file, and has a test of its own
		}
		for _, m := range keySpan.FindAllStringSubmatch(p.prose, -1) {
			if name := m[2]; m[1] != "-" && !known[name] && !last[name] {
				t.Errorf("%s: %s: there is no key %s", p.path, m[0], name)
			}
		}
	}
}

// TestHTTPReferenceHasEveryPath: docs/reference/http.md and the console's page describe the
// paths that there are, and no others.
func TestHTTPReferenceHasEveryPath(t *testing.T) {
	described := make(map[string]bool)
	for _, page := range []string{"reference/http.md", "CONSOLE.md"} {
		raw, err := os.ReadFile("../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("(?m)^\\| `(?:GET |POST )?(/[^`? ]*)").FindAllStringSubmatch(string(raw), -1) {
			described[m[1]] = true
		}
	}
	for _, row := range access.Paths() {
		if !described[row.Call] {
			t.Errorf("neither docs/reference/http.md nor docs/CONSOLE.md has %s", row.Call)
		}
	}
	for path := range described {
		if access.Path(path) == nil {
			t.Errorf("the pages have %s, which no node serves", path)
		}
	}
}
