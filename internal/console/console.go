// Package console is the page at / of every node's HTTP server: HTML, styles and scripts,
// embedded as they are. It knows nothing of the node; the page asks the documented paths,
// with the credentials of the person in front of it. DESIGN.md says why it is as it is.
package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"
)

// Path is below which everything but the page itself is served.
const Path = "/console/"

// Policy is the Content-Security-Policy of the page: nothing from elsewhere, no script and no
// style within the page, and no markup out of strings.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

//go:embed assets
var embedded embed.FS

// index is the page.
const index = "index.html"

// asset is a file as it is sent.
type asset struct {
	content     []byte
	contentType string
	etag        string
}

// assets are the files by name.
var assets = read()

func read() map[string]asset {
	out := make(map[string]asset)
	root, err := fs.Sub(embedded, "assets")
	if err != nil {
		panic(err) // the folder is embedded
	}
	err = fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		out[name] = asset{content, typeOf(name), `"` + hex.EncodeToString(sum[:8]) + `"`}
		return nil
	})
	if err != nil {
		panic(err) // embedded files can be read
	}
	return out
}

// typeOf is the content type of a file: the system's table of types may have others.
func typeOf(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}
	return mime.TypeByExtension(path.Ext(name))
}

// Page serves the page itself.
func Page() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serve(w, r, index) })
}

// Assets serves everything else, below Path.
func Assets() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "the console's files take GET, HEAD only", http.StatusMethodNotAllowed)
			return
		}
		serve(w, r, strings.TrimPrefix(r.URL.Path, Path))
	})
}

func serve(w http.ResponseWriter, r *http.Request, name string) {
	a, found := assets[name]
	if !found {
		http.Error(w, "the console has no such file", http.StatusNotFound)
		return
	}
	h := w.Header()
	h.Set("Content-Type", a.contentType)
	h.Set("Content-Security-Policy", Policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cache-Control", "no-cache") // a new release serves other files under the same names
	h.Set("ETag", a.etag)
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(a.content))
}
