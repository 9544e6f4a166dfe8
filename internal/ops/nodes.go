package ops

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/dkvdb/dkv/internal/access"
	"github.com/dkvdb/dkv/internal/ops/nodes"
)

// nodesPath shows all nodes, and nodesStreamPath each second.
const (
	nodesPath       = "/admin/nodes"
	nodesStreamPath = "/admin/nodes/stream"
)

// registerNodes serves what the other nodes say.
func (s *Server) registerNodes() {
	s.options.Nodes.Bind(s.http.Handler)
	s.get(nodesPath, func(w http.ResponseWriter, r *http.Request) error {
		return writeJSON(w, http.StatusOK, s.options.Nodes.Survey(r))
	})
	s.get(nodesStreamPath, func(w http.ResponseWriter, r *http.Request) error {
		return s.stream(w, r, nodesStreamPath, "nodes", func(context.Context) (any, error) { return s.options.Nodes.Survey(r), nil })
	})
	s.mux.Handle(nodes.Prefix, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.relay(w, r); err != nil {
			s.auditRefusal(r, err)
			s.fail(w, err)
		}
	}))
}

// relay has another node answer. The caller must be allowed to ask this node for the path as
// well: without authentication the other node knows only that this one asks.
func (s *Server) relay(w http.ResponseWriter, r *http.Request) error {
	node, target := nodes.Split(r.URL.Path)
	row := access.Path(target)
	switch {
	case target == "" || cleaned(target) != target || row == nil || row.Local || row.Call == nodes.Prefix || row.Call == nodesPath || row.Call == nodesStreamPath:
		return &Error{Status: http.StatusNotFound, Text: r.URL.Path + " is not relayed: the paths are " + nodes.Prefix + "NODE/PATH, with one of the node's own paths such as /health"}
	case r.Method != http.MethodGet && r.Method != http.MethodPost:
		w.Header().Set("Allow", "GET, POST")
		return &Error{Status: http.StatusMethodNotAllowed, Text: "paths of other nodes take GET and POST only"}
	}
	if s.options.Access != nil {
		if _, err := s.options.Access.Enter(row, callerOf(r)); err != nil {
			return s.rejected(w, r, err)
		}
	}
	if r.Method == http.MethodPost || row.Role != access.Any { // also reads of keys
		if err := s.admit(r); err != nil {
			return err
		}
	}
	if err := whole(w, r); err != nil {
		return err
	}
	setWriteDeadline(w, 0) // an action may take any time
	if status, err := s.options.Nodes.Relay(w, r, node, target); err != nil {
		return &Error{Status: status, Text: err.Error()}
	}
	return nil
}

// cleaned is a path without dots, as rows name it.
func cleaned(p string) string {
	out := path.Clean(p)
	if strings.HasSuffix(p, "/") && out != "/" {
		out += "/"
	}
	return out
}

// maxRelayed bounds a body for another node: a value of 4 MiB in base64.
const maxRelayed = 6 << 20

// whole reads the body of a request before another node is asked. The deadline for it would
// otherwise end the request's context while that node works.
func whole(w http.ResponseWriter, r *http.Request) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRelayed))
	if err != nil {
		return &Error{Status: http.StatusBadRequest, Text: "the body could not be read: " + err.Error()}
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // recorders in tests have none
	r.Body, r.ContentLength = http.NoBody, int64(len(body))
	if len(body) > 0 {
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	return nil
}
