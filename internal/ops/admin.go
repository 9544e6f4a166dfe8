package ops

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/dkvdb/dkv/internal/access"
	"github.com/dkvdb/dkv/internal/auth"
)

// Action does an administrative call. body is the request's, possibly empty.
// The result is answered as JSON; nil is answered as {"status": "ok"}.
type Action func(ctx context.Context, body json.RawMessage) (result any, err error)

// View answers an administrative question with a document for JSON.
type View func(ctx context.Context) (any, error)

// Bounds of the body of an administrative call.
const (
	maxBody     = 64 << 10 // bytes
	bodyTimeout = 10 * time.Second
)

// act answers POST requests with an action, if they come from an address that may act.
func (s *Server) act(path string, action Action) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		result, err := s.perform(w, r, path, action)
		if err != nil {
			return err
		}
		if result == nil {
			result = map[string]string{"status": "ok"}
		}
		return writeJSON(w, http.StatusOK, result)
	}
}

// perform checks that the request may act, reads its body and calls the action, all within
// its audit.
func (s *Server) perform(w http.ResponseWriter, r *http.Request, path string, action Action) (any, error) {
	if err := s.admit(r); err != nil {
		return nil, err
	}
	body, err := readBody(w, r)
	if err != nil {
		return nil, err
	}
	return s.audited(r, path, body, func() (any, error) {
		setWriteDeadline(w, 0) // an action may take any time
		defer setWriteDeadline(w, writeTimeout)
		return action(r.Context(), body)
	})
}

// view answers GET requests with a document. One that needs the role admin, such as the configuration,
// is refused through proxies and under foreign names, as what changes something is.
func (s *Server) view(path string, v View) handler {
	row := access.Path(path)
	administrative := row != nil && row.Role == auth.Admin
	return func(w http.ResponseWriter, r *http.Request) error {
		if administrative {
			if err := s.admit(r); err != nil {
				return err
			}
		}
		document, err := v(r.Context())
		if err != nil {
			return err
		}
		return s.writeDocument(w, r, http.StatusOK, document)
	}
}

// admit rejects a browser on behalf of another site's page and, of requests that do not show
// who makes them, those of a proxy, which speaks for other hosts. Without authentication the
// connection is all there is to judge by: no header grants anything, headers can only lead to
// a rejection.
func (s *Server) admit(r *http.Request) error {
	if err := s.crossOrigin.Check(r); err != nil {
		return forbidden("administrative calls are not taken from pages of other sites: " + err.Error())
	}
	if fromPage(r) && r.Header.Get(consoleHeader) == "" {
		return forbidden("administrative calls of a page need the header " + consoleHeader + ", which no form of another site can send")
	}
	from, _ := netip.ParseAddrPort(r.RemoteAddr) // no address is rejected like a foreign one
	switch {
	case authenticated(r):
		return nil // and reached under any name
	case s.options.Access == nil && !from.Addr().Unmap().IsLoopback():
		return forbidden("administrative calls are taken from this machine only: run the call on the node itself, against 127.0.0.1")
	}
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Real-Ip"} {
		if r.Header.Get(name) != "" {
			return forbidden("administrative calls are not taken through a proxy (" + name + " is set): call the node itself")
		}
	}
	if name := s.options.Name; name != "" && strings.EqualFold(hostName(r.Host), name) {
		return nil // as other nodes address it, which relay what their consoles do
	}
	// A page of a foreign name that resolves to loopback would pass for one of this node.
	if !loopbackHost(r.Host) && (from.Addr().Unmap().IsLoopback() || !isAddress(r.Host)) {
		return forbidden("administrative calls must be addressed to 127.0.0.1, [::1] or localhost, and from other hosts to the node's IP address, not to " + r.Host)
	}
	return nil
}

// consoleHeader is what the console sends with what changes something. A page of another site
// can send it only if the browser has asked this server before, which then says no.
const consoleHeader = "Dkv-Console"

// fromPage reports whether a browser makes a request on behalf of a page.
func fromPage(r *http.Request) bool {
	return r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != ""
}

// isAddress reports whether host, with or without a port, is an IP address.
func isAddress(host string) bool {
	if _, err := netip.ParseAddrPort(host); err == nil {
		return true
	}
	_, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	return err == nil
}

func forbidden(text string) error { return &Error{Status: http.StatusForbidden, Text: text} }

// loopbackHost reports whether host, with or without a port, is this machine's
// loopback.
func loopbackHost(hostport string) bool {
	host := hostName(hostport)
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// hostName returns host without its port, if it has one.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
}

// boundBodies bounds how long the bodies of requests may take. Also those that a handler
// does not read are waited for, before its answer is sent.
func boundBodies(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body != http.NoBody {
			// If no deadline can be set, the bodies' sizes are the only bound.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
		}
		h.ServeHTTP(w, r)
	})
}

// readBody reads a body of bounded size, and checks that it is JSON.
func readBody(w http.ResponseWriter, r *http.Request) (json.RawMessage, error) {
	control := http.NewResponseController(w)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil {
		_ = control.SetReadDeadline(time.Time{}) // that of boundBodies would cancel the request's context
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, &Error{Status: http.StatusRequestEntityTooLarge, Text: "the body is larger than 64 KiB: send less"}
	case err != nil:
		return nil, &Error{Status: http.StatusBadRequest, Text: "the body could not be read: " + err.Error()}
	case len(body) > 0 && !json.Valid(body):
		return nil, &Error{Status: http.StatusBadRequest, Text: "the body is not JSON"}
	}
	return body, nil
}

// Decode reads the body of a call. A member that into does not have is an error: without one that
// is misspelt, the call would do something else than was asked for.
func Decode(body json.RawMessage, into any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	return d.Decode(into)
}
