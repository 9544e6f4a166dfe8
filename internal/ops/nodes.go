package ops

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/dkvdb/dkv/internal/access"
	"github.com/dkvdb/dkv/internal/ops/keys"
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
		return s.writeDocument(w, r, http.StatusOK, s.options.Nodes.Survey(r))
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
	r, leave, err := s.received(w, r, target)
	if err != nil {
		return err
	}
	defer leave()
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

// received returns a request whose body has arrived, before another node is asked. Calls for keys
// have larger ones, and places, which leave gives back.
func (s *Server) received(w http.ResponseWriter, r *http.Request, target string) (_ *http.Request, leave func(), err error) {
	if !slices.Contains(keys.Paths(), target) {
		return r, func() {}, whole(w, r, maxBody)
	}
	t, leave, err := s.relays.begin(w, r)
	if err != nil {
		return nil, nil, err
	}
	if err := t.receive(keys.MaxBody); err != nil {
		leave()
		return nil, nil, err
	}
	return t.Request, leave, nil
}

// whole reads the body of a request before it is served. The deadline for it would otherwise end
// the request's context meanwhile.
func whole(w http.ResponseWriter, r *http.Request, most int64) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return &Error{Status: http.StatusBadRequest, Text: fmt.Sprintf("the body is larger than %d KiB: send less, and write large values by gRPC (dkvctl -set)", most>>10)}
	case err != nil:
		return &Error{Status: http.StatusBadRequest, Text: "the body could not be read: " + err.Error()}
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // recorders in tests have none
	r.Body, r.ContentLength = http.NoBody, int64(len(body))
	if len(body) > 0 {
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	return nil
}
