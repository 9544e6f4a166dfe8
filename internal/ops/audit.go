package ops

import (
	"encoding/json"
	"net/http"

	"google.golang.org/grpc/codes"

	"github.com/dkvdb/dkv/internal/audit"
)

// audited makes an administrative call between its lines in the audit log.
func (s *Server) audited(r *http.Request, path string, body json.RawMessage, act func() (any, error)) (any, error) {
	c := callOf(r)
	c.Op, c.What = r.Method+" "+path, string(body)
	entry, err := s.options.Audit.Begin(c)
	if err != nil {
		return nil, &Error{Status: http.StatusServiceUnavailable, Text: err.Error()}
	}
	code, text := codes.Unknown, "the action panicked"
	defer func() { entry.End(code.String(), text) }()
	result, err := act()
	if code, text = codes.OK, ""; err != nil {
		code, text = codeOf(s.statusOf(err)), err.Error()
	}
	return result, err
}

// auditRefusal logs a request that was rejected because of who makes it.
func (s *Server) auditRefusal(r *http.Request, err error) {
	if status := s.statusOf(err); status == http.StatusUnauthorized || status == http.StatusForbidden {
		s.options.Audit.Refused(callOf(r), codeOf(status).String(), err.Error())
	}
}

// callOf is what the audit log says about a request. Neither the query nor the headers are
// in it: they may hold secrets.
func callOf(r *http.Request) audit.Call {
	return audit.Call{Caller: audit.CallerOf(r.Context()), Address: r.RemoteAddr, Op: r.Method + " " + r.URL.Path}
}

// codeOf returns the gRPC code that says the same as an HTTP status, so that the lines of
// both servers are alike.
func codeOf(status int) codes.Code {
	switch status {
	case http.StatusOK:
		return codes.OK
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
		return codes.InvalidArgument
	case http.StatusUnauthorized:
		return codes.Unauthenticated
	case http.StatusForbidden:
		return codes.PermissionDenied
	case http.StatusNotFound:
		return codes.NotFound
	case http.StatusConflict, http.StatusPreconditionFailed:
		return codes.FailedPrecondition
	case http.StatusTooManyRequests, http.StatusInsufficientStorage:
		return codes.ResourceExhausted
	case http.StatusNotImplemented:
		return codes.Unimplemented
	case http.StatusServiceUnavailable, http.StatusBadGateway:
		return codes.Unavailable
	case http.StatusGatewayTimeout, http.StatusRequestTimeout:
		return codes.DeadlineExceeded
	case http.StatusInternalServerError:
		return codes.Internal
	}
	return codes.Unknown
}
