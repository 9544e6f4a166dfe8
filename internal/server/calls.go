package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/internal/kv"
)

// calls watches over every call: it limits, times, counts and logs them and
// turns errors into gRPC statuses. One interceptor does all of it, since each
// further one costs every request a closure and a call.
type calls struct {
	opts    Options
	drained <-chan struct{}
	methods map[string]*method
	// memory is what large requests may take together; nil is no bound.
	memory *semaphore.Weighted

	inFlight atomic.Int64
	// streams are those of clients, following those of nodes that follow this one.
	streams, following atomic.Int64
	connections        atomic.Int64
}

func newCalls(opts Options, drained <-chan struct{}) *calls {
	c := &calls{opts: opts, drained: drained, methods: make(map[string]*method)}
	if opts.MaxMemory > 0 && opts.Memory != nil {
		c.memory = semaphore.NewWeighted(opts.MaxMemory)
	}
	return c
}

// know prepares the counters of the registered methods.
func (c *calls) know(services map[string]grpc.ServiceInfo) {
	named := make(map[string]int)
	for _, info := range services {
		for _, m := range info.Methods {
			named[m.Name]++
		}
	}
	for service, info := range services {
		for _, m := range info.Methods {
			full := "/" + service + "/" + m.Name
			out := newMethod(service, m, named[m.Name] > 1)
			out.audited = c.opts.Audited != nil && c.opts.Audited(full)
			c.methods[full] = out
		}
	}
	if c.opts.Metrics != nil {
		c.opts.Metrics.MustRegister(c)
	}
}

func (c *calls) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	begin := time.Now()
	m := c.methods[info.FullMethod]
	defer func() {
		if p := recover(); p != nil {
			resp, err = nil, c.panicked(info.FullMethod, p)
		}
		if !m.probe {
			c.inFlight.Add(-1)
		}
		c.finish(ctx, m, begin, req, resp, err)
	}()
	if c.opts.SlowThreshold > 0 {
		ctx, _ = kv.WithTrace(ctx)
	}
	if !m.probe && c.inFlight.Add(1) > int64(c.opts.MaxInFlight) {
		return nil, toStatus(kv.Errorf(kv.Exhausted,
			"%d requests are under way, which is the limit (max-requests-in-flight); retry later (not applied)", c.opts.MaxInFlight))
	}
	if n := c.needs(info.FullMethod, req); n > 0 {
		if !c.reserve(ctx, n) {
			return nil, toStatus(kv.Errorf(kv.Exhausted,
				"requests that are under way may take all of the %d MiB for them (max-memory-in-flight); retry later, or ask for less at once (not applied)",
				c.opts.MaxMemory>>20))
		}
		defer c.memory.Release(n)
	}
	resp, err = handler(ctx, req)
	return resp, toStatus(err)
}

// needs is how much of the memory for large requests a request takes.
func (c *calls) needs(method string, req any) int64 {
	if c.memory == nil {
		return 0
	}
	return min(c.opts.Memory(method, req), c.opts.MaxMemory)
}

// memoryPatience is how long a request waits for memory. It is bounded, since two
// nodes may wait for each other that way.
const memoryPatience = time.Second

// reserve takes n bytes of the memory for large requests, once they are free.
func (c *calls) reserve(ctx context.Context, n int64) bool {
	if c.memory.TryAcquire(n) {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, memoryPatience)
	defer cancel()
	return c.memory.Acquire(ctx, n) == nil
}

func (c *calls) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	begin := time.Now()
	m := c.methods[info.FullMethod]
	defer func() {
		if p := recover(); p != nil {
			err = c.panicked(info.FullMethod, p)
		}
		if !m.probe {
			c.streamsLike(m).Add(-1)
		}
		c.finish(ss.Context(), m, begin, nil, nil, err)
	}()
	if !m.probe && c.streamsLike(m).Add(1) > int64(c.opts.MaxStreams) {
		return toStatus(kv.Errorf(kv.Exhausted,
			"%d streams %sare open, which is the limit (max-streams); retry later", c.opts.MaxStreams, m.whose()))
	}
	if !m.endless {
		return toStatus(handler(srv, ss))
	}
	ctx, cancel := context.WithCancelCause(ss.Context())
	defer cancel(nil)
	go func() {
		select {
		case <-c.drained:
			cancel(errDrained)
		case <-ctx.Done():
		}
	}()
	return toStatus(handler(srv, endlessStream{ServerStream: ss, ctx: ctx}))
}

// streamsLike counts the streams that a stream of m is counted with. Neither kind is
// to use up what the other may have.
func (c *calls) streamsLike(m *method) *atomic.Int64 {
	if m.following {
		return &c.following
	}
	return &c.streams
}

// errDrained is why a stream's context ends that would not end by itself.
var errDrained = status.Error(codes.Unavailable, "the node is shutting down")

// endlessStream is a stream whose context ends, with errDrained as its cause, and
// whose RecvMsg returns, when the server drains: a client may keep it open for as long as it likes.
type endlessStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s endlessStream) Context() context.Context { return s.ctx }

func (s endlessStream) RecvMsg(m any) error {
	// Ends at the latest with the call, which ends when the handler returns.
	received := make(chan error, 1)
	go func() { received <- s.ServerStream.RecvMsg(m) }()
	select {
	case err := <-received:
		return err
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
}

func (c *calls) panicked(method string, p any) error {
	c.opts.Log.Error("a request panicked; this is a bug", "method", method, "panic", p, "stack", string(debug.Stack()))
	return status.Errorf(codes.Internal, "%s failed by a bug in the server (outcome unknown); its log holds the details", path.Base(method))
}

func (c *calls) finish(ctx context.Context, m *method, begin time.Time, req, resp any, err error) {
	took := time.Since(begin)
	code := codes.OK
	if err != nil {
		code = status.Code(err)
	}
	m.observe(code, took)
	if code == codes.Internal || code == codes.DataLoss {
		c.opts.Log.Error("request failed", "op", m.op, "code", code.String(), "key", keyPrefix(req), "error", err)
	}
	if m.audited {
		c.opts.Audit.Info("audit", "op", m.op, "peer", peerOf(ctx), "request", fmt.Sprint(req), "code", code.String(), "error", errText(err))
	}
	if c.opts.SlowThreshold > 0 && took >= c.opts.SlowThreshold && !m.streaming {
		spent := kv.TraceOf(ctx).Parts()
		c.opts.Log.Warn("slow request", "op", m.op, "code", code.String(), "took", took,
			"waited", spent.Waited, "wrote", spent.Wrote, "read", spent.Read, "elsewhere", spent.Elsewhere,
			slog.String("key", keyPrefix(req)), "request_bytes", size(req), "response_bytes", size(resp))
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return status.Convert(err).Message() // the code has a field of its own
}

func peerOf(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok {
		return p.Addr.String()
	}
	return ""
}

// loggedKey is how much of a key may appear in a log.
const loggedKey = 16

func keyPrefix(req any) string {
	k, ok := req.(interface{ GetKey() []byte })
	if !ok {
		return ""
	}
	key := k.GetKey()
	if len(key) > loggedKey {
		return fmt.Sprintf("%q...", key[:loggedKey])
	}
	return fmt.Sprintf("%q", key)
}

// endless tells which streams go on until one side leaves, or for so long that a
// server which stops does not wait for them: by their names, those that follow
// something and those that carry a whole state.
func endless(service, name string) bool {
	return strings.HasPrefix(name, "Watch") || following(name) || strings.HasPrefix(service, "grpc.reflection.")
}

// following tells by its name a method by which another node follows this one.
func following(name string) bool { return strings.HasPrefix(name, "Stream") }

// count wraps a listener so that open connections are counted.
func (c *calls) count(l net.Listener) net.Listener { return &countingListener{Listener: l, calls: c} }

type countingListener struct {
	net.Listener
	calls *calls
}

func (l *countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.calls.connections.Add(1)
	return &countedConn{Conn: conn, calls: l.calls}, nil
}

type countedConn struct {
	net.Conn
	calls *calls
	once  sync.Once
}

func (c *countedConn) Close() error {
	c.once.Do(func() { c.calls.connections.Add(-1) })
	return c.Conn.Close()
}
