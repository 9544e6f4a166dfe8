package ops

import (
	"cmp"
	"net/http"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/dkvdb/dkv/internal/accesslog"
	"github.com/dkvdb/dkv/internal/audit"
	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/logfile"
	"github.com/dkvdb/dkv/internal/tracing"
)

// mostText bounds what a line or a span that waits to be written holds of a path, in bytes.
const mostText = 192

// recorded adds a line for each request to the access log, and ends its span if it is
// sampled. Probes have neither: a node has more of them than anyone reads.
func (s *Server) recorded(next http.Handler) http.Handler {
	if s.options.AccessLog == nil && s.options.Tracer == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, path := s.mux.Handler(r)
		if isProbe(path) || accesslog.FromContext(r.Context()) != nil { // the latter is relayed by this node to itself
			next.ServeHTTP(w, r)
			return
		}
		line := &accesslog.Line{
			Begun: time.Now(), Op: logfile.Short(r.Method+" "+r.URL.Path, mostText), Peer: r.RemoteAddr,
			Principal: string(auth.Open), RequestBytes: int(max(r.ContentLength, 0)),
		}
		answer := &answer{ResponseWriter: w, line: line, path: path}
		if path == "/" && r.URL.Path != path {
			answer.path = "unknown path" // names of spans are few
		}
		status := http.StatusInternalServerError // of a handler that panics
		defer func() {
			line.Took, line.Code, line.ResponseBytes = time.Since(line.Begun), resultOf(status).String(), answer.bytes
			s.options.AccessLog.Add(*line)
			answer.span.EndHTTP(logfile.Short(r.URL.Path, mostText), status)
		}()
		next.ServeHTTP(answer, r.WithContext(accesslog.NewContext(r.Context(), line)))
		status = cmp.Or(answer.status, http.StatusOK)
	})
}

// sampled begins the span of a request, if that is sampled, once its caller has been accepted: a
// stranger has nothing sampled, whatever its traceparent says.
func (s *Server) sampled(next http.Handler) http.Handler {
	if s.options.Tracer == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a, recorded := w.(*answer); recorded && !a.asked { // once: this node may relay the request to itself
			a.asked = true
			a.span = s.options.Tracer.Begin(r.Method+" "+a.path, a.line.Begun, r.Header["Traceparent"])
			r = r.WithContext(tracing.NewContext(r.Context(), a.span))
		}
		next.ServeHTTP(w, r)
	})
}

func isProbe(path string) bool {
	return path == "/livez" || path == "/readyz" || path == "/health/quick"
}

// resultOf is codeOf with all successes.
func resultOf(status int) codes.Code {
	if status < http.StatusBadRequest {
		return codes.OK
	}
	return codeOf(status)
}

// noteCaller has the line of a request name who makes it.
func noteCaller(r *http.Request) {
	if line := accesslog.FromContext(r.Context()); line != nil {
		who := audit.CallerOf(r.Context())
		line.Principal, line.Via = cmp.Or(who.Name, who.Kind), who.Via
	}
}

// answer is a response whose status and size are kept.
type answer struct {
	http.ResponseWriter
	status, bytes int
	line          *accesslog.Line
	path          string        // in the name of the span
	asked         bool          // whether to sample the request
	span          *tracing.Call // nil if it is not sampled
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 && status >= http.StatusOK { // an informational one is followed by another
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	n, err := a.ResponseWriter.Write(p)
	a.status = cmp.Or(a.status, http.StatusOK)
	a.bytes += n
	return n, err
}
