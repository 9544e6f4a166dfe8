package ops

import (
	"errors"
	"fmt"
	"html"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/dkvdb/dkv/internal/ops/keys"
	"github.com/dkvdb/dkv/internal/ops/nodes"
)

// register puts every path on the mux, once it is known that no two are the same.
func (s *Server) register() error {
	own := s.ownPaths()
	all := slices.Concat([]string{"/"}, pathsOf(own), pathsOf(s.options.Views), pathsOf(s.options.Actions), pathsOf(s.options.Handlers))
	if s.options.Pprof {
		all = append(all, "/debug/pprof/")
	}
	if s.options.Nodes != nil {
		all = append(all, nodesPath, nodesStreamPath, nodes.Prefix)
	}
	if s.options.Events != nil {
		all = append(all, eventsPath)
	}
	if s.options.Keys != nil {
		all = append(all, keys.Paths()...)
	}
	if err := checkPaths(all); err != nil {
		return err
	}
	s.registered = all
	for path, h := range own {
		s.get(path, h)
	}
	if s.options.Pprof {
		s.registerPprof()
	}
	for path, v := range s.options.Views {
		s.get(path, s.view(path, v))
	}
	for path, action := range s.options.Actions {
		s.handle(path, http.MethodPost, s.act(path, action))
	}
	for path, h := range s.options.Handlers {
		s.mux.Handle(path, h)
		s.paths = append(s.paths, path)
	}
	if s.options.Nodes != nil {
		s.registerNodes()
	}
	if s.options.Keys != nil {
		s.registerKeys()
	}
	if s.options.Events != nil {
		s.get(eventsPath, s.events)
	}
	slices.Sort(s.paths)
	s.mux.HandleFunc("/", s.root)
	return nil
}

// ownPaths are the paths that every server has.
func (s *Server) ownPaths() map[string]handler {
	return map[string]handler{
		"/health/quick":   s.quick,
		"/health":         s.health,
		"/livez":          s.checks("livez", s.options.Live),
		"/readyz":         s.checks("readyz", s.options.Ready),
		"/metrics":        s.scraped(wrap(promhttp.HandlerFor(s.options.Gatherer, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))),
		"/metrics/json":   s.scraped(s.metricsJSON),
		metricsStreamPath: s.metricsStream,
		"/debug/vars":     s.vars,
		indexPath:         s.index,
	}
}

func pathsOf[T any](paths map[string]T) []string { return slices.Collect(maps.Keys(paths)) }

// checkPaths rejects paths that the mux would panic at.
func checkPaths(paths []string) error {
	var errs []error
	taken := make(map[string]bool)
	for _, path := range paths {
		if taken[path] || !strings.HasPrefix(path, "/") {
			errs = append(errs, fmt.Errorf("ops: path %q is taken or does not begin with a slash", path))
		}
		taken[path] = true
	}
	return errors.Join(errs...)
}

// root answers / with the console, and every path that nothing else is registered for.
func (s *Server) root(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/" { // for any method: it is the path that is wrong
		s.fail(w, &Error{Status: http.StatusNotFound, Text: "there is nothing at " + r.URL.Path + ": GET /paths lists the paths"})
		return
	}
	root := s.index
	if s.options.Console != nil {
		root = wrap(s.options.Console)
	}
	s.answer(http.MethodGet, root).ServeHTTP(w, r)
}

// indexPath lists the paths.
const indexPath = "/paths"

// index is a page of links.
func (s *Server) index(w http.ResponseWriter, _ *http.Request) error {
	var page strings.Builder
	page.WriteString("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>dkvsrv</title></head><body>\n<h1>dkvsrv</h1>\n<ul>\n")
	for _, path := range s.paths {
		p := html.EscapeString(path)
		page.WriteString(`<li><a href="` + p + `">` + p + "</a></li>\n")
	}
	page.WriteString("</ul>\n</body></html>\n")
	return write(w, http.StatusOK, "text/html; charset=utf-8", []byte(page.String()))
}
