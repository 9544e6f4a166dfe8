package console

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/kv"
)

// get asks a handler for a path.
func get(h http.Handler, path string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for _, c := range change {
		c(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// TestEveryFileIsServed: with its type and the policy, and again only if it has changed.
func TestEveryFileIsServed(t *testing.T) {
	for name := range assets {
		r := get(Assets(), Path+name)
		if r.Code != http.StatusOK || r.Header().Get("Content-Type") == "" || r.Header().Get("Content-Security-Policy") != Policy || r.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v", name, r.Code, r.Header())
		}
		again := get(Assets(), Path+name, func(q *http.Request) { q.Header.Set("If-None-Match", r.Header().Get("ETag")) })
		if again.Code != http.StatusNotModified {
			t.Errorf("%s again: %d", name, again.Code)
		}
	}
	page := get(Page(), "/")
	if page.Code != http.StatusOK || !strings.HasPrefix(page.Header().Get("Content-Type"), "text/html") || page.Header().Get("Content-Security-Policy") != Policy {
		t.Errorf("the page: %d %v", page.Code, page.Header())
	}
	for _, path := range []string{"", "nothing.js", "../console.go", "views"} {
		if r := get(Assets(), Path+path); r.Code != http.StatusNotFound {
			t.Errorf("%q: %d", path, r.Code)
		}
	}
	w := httptest.NewRecorder()
	if Assets().ServeHTTP(w, httptest.NewRequest(http.MethodPost, Path+"app.js", nil)); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
}

// TestPolicyAllowsNothingWithinThePage: no inline script or style, no source elsewhere, and
// no markup out of strings.
func TestPolicyAllowsNothingWithinThePage(t *testing.T) {
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "form-action 'none'", "base-uri 'none'", "require-trusted-types-for 'script'"} {
		if !strings.Contains(Policy, want) {
			t.Errorf("the policy lacks %q", want)
		}
	}
	for _, never := range []string{"unsafe", "*", "http:", "https:", "data:"} {
		if strings.Contains(Policy, never) {
			t.Errorf("the policy has %q", never)
		}
	}
}

// TestEveryAckLevelCanBeChosen: the page of keys has a text for each level that a write may ask for.
func TestEveryAckLevelCanBeChosen(t *testing.T) {
	for _, level := range []kv.Ack{kv.AckAsync, kv.AckSemiSync, kv.AckSync, kv.AckAll} {
		if want := fmt.Sprintf(`  %s: "%s: `, level, level); !strings.Contains(string(assets["views/keys.js"].content), want) {
			t.Errorf("there is no %s", want)
		}
	}
}

// unsafe are what the files must not contain: assets from elsewhere, and ways to get markup or
// code out of strings.
var unsafe = regexp.MustCompile(`(?i)(https?:)?//[a-z0-9-]+\.[a-z]|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|createContextualFragment|srcdoc|javascript:|<script>|<style| style="| on[a-z]+="`)

// TestFilesHoldNothingUnsafe looks for it in each file.
func TestFilesHoldNothingUnsafe(t *testing.T) {
	for name, a := range assets {
		content := strings.ReplaceAll(string(a.content), "http://www.w3.org/2000/svg", "") // a name, and no address
		if found := unsafe.FindString(content); found != "" {
			t.Errorf("%s has %q", name, found)
		}
	}
	for _, bad := range []string{`x.innerHTML = y`, `<script>`, `src="https://cdn.example.com/x.js"`, `<a onclick="x">`} {
		if !unsafe.MatchString(bad) {
			t.Errorf("%q is not found", bad)
		}
	}
}

// maxBytes bounds all files together: the page is loaded over slow links as well.
const maxBytes = 160 << 10

// TestPageIsSmall bounds the files, all together.
func TestPageIsSmall(t *testing.T) {
	total := 0
	for _, a := range assets {
		total += len(a.content)
	}
	if total > maxBytes || total < 1000 {
		t.Errorf("the files have %d bytes, at most %d are meant", total, maxBytes)
	}
}

var imports = regexp.MustCompile(`from "(\.[^"]+)"`)

// TestImportsExist: a module that is missing would leave the page empty.
func TestImportsExist(t *testing.T) {
	for name, a := range assets {
		if !strings.HasSuffix(name, ".js") {
			continue
		}
		for _, m := range imports.FindAllStringSubmatch(string(a.content), -1) {
			base := name[:strings.LastIndex(name, "/")+1]
			target := base + strings.TrimPrefix(m[1], "./")
			if rest, up := strings.CutPrefix(m[1], "../"); up {
				target = rest
			}
			if _, found := assets[target]; !found {
				t.Errorf("%s imports %s, which is not there", name, m[1])
			}
		}
	}
}
