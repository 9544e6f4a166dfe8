// Package ops is the HTTP server that operators and their tools talk to:
// health, metrics, profiles and administration. It knows no role: what it
// shows and does is passed to it as functions.
package ops

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dkvdb/dkv/internal/access"
	"github.com/dkvdb/dkv/internal/accesslog"
	"github.com/dkvdb/dkv/internal/audit"
	"github.com/dkvdb/dkv/internal/certs"
	"github.com/dkvdb/dkv/internal/conns"
	"github.com/dkvdb/dkv/internal/ops/keys"
	"github.com/dkvdb/dkv/internal/ops/nodes"
	"github.com/dkvdb/dkv/internal/tracing"
)

// Time-outs of the server. There is none for reading a whole request, since it would end
// streams too; boundBodies has one for bodies.
const (
	headerTimeout  = 5 * time.Second
	idleTimeout    = time.Minute
	writeTimeout   = 30 * time.Second
	maxHeaderBytes = 32 << 10
	// shutdownTimeout is how long Run lets running requests finish.
	shutdownTimeout = 5 * time.Second
	// answerTime is what they have at least: an administrative call may be what ends the server.
	answerTime = 500 * time.Millisecond
	// requestTime is how long a connection may then take to begin its first request: what has
	// arrived is read by then, and a connection that was opened in advance says nothing.
	requestTime = 100 * time.Millisecond
)

// Options are what the server shows and does. Functions are called from many
// goroutines at once.
type Options struct {
	// Access decides who may ask for which path. Nil opens all paths, but actions to this
	// machine only.
	Access *access.Guard
	// Name is the host in the HTTP address that the node gives to others, at which they and
	// their tools ask; "" is none.
	Name string
	// TLS completes the handshakes of connections; nil if they are in the clear.
	TLS *certs.Acceptor
	// Logger is what the server logs to.
	Logger *slog.Logger
	// Audit gets a line for each administrative call, and for each request that is rejected
	// because of who makes it; nil means Logger.
	Audit *audit.Log
	// AccessLog gets a line for each request but probes; nil if there is none.
	AccessLog *accesslog.Log
	// Tracer makes the spans of requests that are sampled; nil if none is.
	Tracer *tracing.Tracer
	// Gatherer provides the metrics.
	Gatherer prometheus.Gatherer
	// Serving answers /health/quick; it must be cheap.
	Serving func() bool
	// Health answers /health.
	Health func(context.Context) Health
	// Live and Ready are the checks of /livez and /readyz.
	Live, Ready []Check
	// Views answer GET requests, Actions POST requests, by path, such as
	// "/admin/cluster/status" and "/admin/backup".
	Views   map[string]View
	Actions map[string]Action
	// Handlers answer every request below their paths, whatever the method.
	Handlers map[string]http.Handler
	// Console answers GET /; nil answers with the list of paths.
	Console http.Handler
	// Nodes answers for other nodes; nil answers for none. The server closes it.
	Nodes *nodes.Service
	// Keys serves keys; nil serves none.
	Keys *keys.Service
	// Events answers with the last events of the log; nil serves none.
	Events func(EventQuery) any
	// Vars are shown in /debug/vars, by name.
	Vars map[string]func() any
	// GraceFor returns how long running requests may take at most when Run is told to stop for
	// a cause; nil leaves them a few seconds.
	GraceFor func(cause error) time.Duration
	// MaxConnections bounds the open connections; 0 is no bound. Idle ones make room
	// for new ones.
	MaxConnections int
	// Pprof serves profiles below /debug/pprof/.
	Pprof bool
	// StatusOf gives the HTTP status of an error of a View or Action that is
	// not an *Error; nil makes all of them 500.
	StatusOf func(error) int
}

// Server is the HTTP server.
type Server struct {
	options     Options
	listener    *conns.Listener
	mux         *http.ServeMux
	http        *http.Server
	crossOrigin *http.CrossOriginProtection
	registered  []string
	paths       []string // for the index
	// streams, scrapes, documents, keyCalls and relays are the requests that a caller may leave halfway.
	streams, scrapes, documents, keyCalls, relays places
	stopping                                      chan struct{} // closed once: streams end
	stop                                          sync.Once
}

// New makes a server on a listener, which it owns unless New fails. It serves nothing
// before Run.
func New(ln net.Listener, o Options) (*Server, error) {
	switch {
	case ln == nil:
		return nil, errors.New("ops: no listener")
	case o.Logger == nil, o.Gatherer == nil, o.Serving == nil, o.Health == nil:
		return nil, errors.New("ops: Logger, Gatherer, Serving and Health must be set")
	}
	if o.Audit == nil {
		o.Audit = audit.ToCommon(o.Logger)
	}
	o.Gatherer = &shared{from: o.Gatherer}
	s := &Server{
		options:     o,
		listener:    limit(ln, &o),
		mux:         http.NewServeMux(),
		crossOrigin: http.NewCrossOriginProtection(),
		streams:     places{most: maxStreams},
		scrapes:     places{most: maxScrapes},
		documents:   places{most: maxDocuments},
		keyCalls:    places{most: maxKeyCalls},
		relays:      places{most: maxKeyCalls},
		stopping:    make(chan struct{}),
	}
	s.http = &http.Server{
		Handler:           boundBodies(s.recorded(s.guarded(s.mux))),
		ConnContext:       withConn,
		ReadHeaderTimeout: headerTimeout,
		WriteTimeout:      writeTimeout, // a handler that needs longer extends it: see setWriteDeadline
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ConnState:         atWork,
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn),
	}
	if err := s.register(); err != nil {
		return nil, err
	}
	return s, nil
}

// Addr returns the address that the server listens on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Handler returns what the server serves, for tests and for other servers.
func (s *Server) Handler() http.Handler { return s.http.Handler }

// Paths returns everything that is registered.
func (s *Server) Paths() []string { return s.registered }

// Run serves until the context ends, then lets running requests finish for a
// few seconds; or until Close. It returns nil on either.
func (s *Server) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(s.options.TLS.Listen(s.listener)) }()
	watching, stop := context.WithCancel(ctx)
	var looks sync.WaitGroup
	looks.Go(func() { s.options.TLS.Watch(watching, s.listener) })
	defer looks.Wait()
	defer stop()
	select {
	case err := <-served:
		return closedIsFine(err)
	case <-ctx.Done():
	}
	s.endStreams()
	timeout := shutdownTimeout
	if s.options.GraceFor != nil {
		timeout = min(timeout, max(s.options.GraceFor(context.Cause(ctx)), answerTime))
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	unused := time.AfterFunc(requestTime, s.listener.DropUnused)
	defer unused.Stop()
	if err := s.http.Shutdown(grace); err != nil {
		s.options.Logger.Warn("some HTTP requests were cut off", "error", err)
		_ = s.http.Close() // closes the connections that are left
	}
	return closedIsFine(<-served)
}

// Close stops the server at once and releases the listener, whether or not
// Run was called. It may be called again.
func (s *Server) Close() error {
	s.endStreams()
	if s.options.Nodes != nil {
		s.options.Nodes.Close()
	}
	// Before Run the HTTP server does not own the listener; after Run it has closed it.
	for _, closer := range []io.Closer{s.http, s.listener} {
		if err := closer.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("close the HTTP server: %w", err)
		}
	}
	return nil
}

func (s *Server) endStreams() { s.stop.Do(func() { close(s.stopping) }) }

// closedIsFine returns nil for the error that serving ends with when it is told to stop.
func closedIsFine(err error) error {
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return fmt.Errorf("serve HTTP: %w", err)
}

// get registers a path that is read.
func (s *Server) get(path string, h handler) {
	s.handle(path, http.MethodGet, h)
	s.paths = append(s.paths, path)
}

func (s *Server) handle(path, method string, h handler) { s.mux.Handle(path, s.answer(method, h)) }

// answer runs a handler for one method (and HEAD, if that is GET), and answers with the
// handler's error if it returns one.
func (s *Server) answer(method string, h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		allow := method
		if method == http.MethodGet {
			allow = "GET, HEAD"
		}
		if r.Method != method && (method != http.MethodGet || r.Method != http.MethodHead) {
			w.Header().Set("Allow", allow)
			s.fail(w, &Error{Status: http.StatusMethodNotAllowed, Text: "this path takes " + allow + " only"})
			return
		}
		if err := h(w, r); err != nil {
			s.auditRefusal(r, err)
			s.fail(w, err)
		}
	})
}

// wrap makes a handler of an http.Handler, which answers errors itself.
func wrap(h http.Handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		h.ServeHTTP(w, r)
		return nil
	}
}

// dropAnswer ends the wait for a client that does not take its answer.
func dropAnswer(w http.ResponseWriter) { setWriteDeadline(w, time.Nanosecond) }

// setWriteDeadline bounds the time until the response is sent; 0 is no bound.
func setWriteDeadline(w http.ResponseWriter, d time.Duration) {
	var deadline time.Time
	if d > 0 {
		deadline = time.Now().Add(d)
	}
	// Recorders in tests and wrapped writers may not support deadlines.
	_ = http.NewResponseController(w).SetWriteDeadline(deadline)
}
