package nodes

import (
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Prefix is where the paths of other nodes are: Prefix + NODE + path, with the node's name or
// its HTTP address.
const Prefix = "/admin/nodes/"

// Split returns the node and the path that a path below Prefix names; "" if it names none.
func Split(path string) (node, rest string) {
	node, rest, found := strings.Cut(strings.TrimPrefix(path, Prefix), "/")
	if !found {
		return node, ""
	}
	return node, "/" + rest
}

// carried are the headers that go on to the other node. None of them says where the request
// comes from: that node judges by the connection and by credentials.
var carried = []string{"Authorization", "Content-Type", "Accept"}

// returned are the headers that come back.
var returned = []string{"Content-Type", "Cache-Control", "Www-Authenticate", "Allow", "Retry-After"}

// outgoing is a request for another node on behalf of the caller of r.
func outgoing(ctx context.Context, r *http.Request, method string, n Node, path string) *http.Request {
	out := (&http.Request{
		Method: method, URL: &url.URL{Scheme: "http", Host: n.HTTP, Path: path}, Host: n.HTTP, Header: make(http.Header),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Body: http.NoBody,
	}).WithContext(context.WithValue(ctx, requestKey{}, ctx))
	for _, name := range carried {
		if values := r.Header.Values(name); len(values) > 0 {
			out.Header[name] = slices.Clone(values)
		}
	}
	if n.Self { // it is the same connection
		out.RemoteAddr, out.TLS, out.Host = r.RemoteAddr, r.TLS, r.Host
	}
	return out
}

// Relay answers a request with what another node answers to it at a path. It returns an error
// before anything is written, or nil. status is that of the error.
func (s *Service) Relay(w http.ResponseWriter, r *http.Request, name, path string) (status int, err error) {
	n, known := s.find(r.Context(), name)
	switch {
	case !known:
		return http.StatusNotFound, fmt.Errorf("no node %.100q is known here: name one of %s, or its HTTP address", name, s.names(r.Context()))
	case n.Self:
		local := r.Clone(r.Context())
		local.URL.Path, local.URL.RawPath = path, ""
		s.local.ServeHTTP(w, local)
		return 0, nil
	case n.HTTP == "":
		return http.StatusServiceUnavailable, fmt.Errorf("the HTTP address of node %s is not known yet: ask the node itself", n.Name)
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	request := outgoing(ctx, r, r.Method, n, path)
	request.URL.RawQuery, request.Body, request.ContentLength = r.URL.RawQuery, r.Body, r.ContentLength
	answered := s.await(ctx, cancel, r, n)
	answer, err := s.transport.RoundTrip(request)
	answered()
	if err != nil {
		return http.StatusBadGateway, failed(ctx, r.Method, n, err)
	}
	defer answer.Body.Close()
	if !shown(answer.Header.Get("Content-Type")) {
		return http.StatusBadGateway, fmt.Errorf("node %s answers with %.60q, which is not relayed: ask for %s at its HTTP address %s", n.Name, answer.Header.Get("Content-Type"), path, n.HTTP)
	}
	for _, header := range returned {
		if values := answer.Header.Values(header); len(values) > 0 {
			w.Header()[header] = values
		}
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(answer.StatusCode)
	copyOn(w, answer.Body)
	return 0, nil
}

// shown reports whether a type of content may be shown as an answer of this node: a page of
// another node would be one of this origin.
func shown(contentType string) bool {
	kind, _, _ := mime.ParseMediaType(contentType)
	return kind == "application/json" || kind == "text/plain" || kind == "text/event-stream"
}

// unreadTimeout is how long the caller may leave what has arrived unread.
const unreadTimeout = 10 * time.Second

// copyOn sends what arrives at once, for streams. An error means that one side is gone: there
// is no one to report it to.
func copyOn(w http.ResponseWriter, from io.Reader) {
	control := http.NewResponseController(w)
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			// Recorders in tests have no deadlines.
			_ = control.SetWriteDeadline(time.Now().Add(unreadTimeout))
			if _, failed := w.Write(buffer[:n]); failed != nil {
				return
			}
			_ = control.Flush()
		}
		if err != nil {
			return
		}
	}
}
