package server

import (
	"context"
	"net/netip"
	"path"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/internal/access"
	"github.com/dkvdb/dkv/internal/audit"
	"github.com/dkvdb/dkv/internal/conns"
	"github.com/dkvdb/dkv/internal/fair"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/quota"
	"github.com/dkvdb/dkv/internal/sleep"
	"github.com/dkvdb/dkv/internal/tracing"
)

// calls limits, times, counts and logs every call, and turns errors into gRPC statuses.
type calls struct {
	opts    Options
	drained <-chan struct{}
	methods map[string]*method
	// unaries are the handlers of the unary methods, for calls that share a stream.
	unaries map[string]served
	// streamed are the streaming methods, for local calls.
	streamed map[string]streamed
	// unknown counts the calls of methods that do not exist. services are those that do.
	unknown  *method
	services map[string]bool
	// memory bounds what all requests together may read; nil is no bound. Messages are
	// bounded apart, by wire.
	memory *semaphore.Weighted
	// decoded bounds what decoded requests take beyond their bytes on the wire.
	decoded *semaphore.Weighted
	// decoding are the turns in which requests of many elements are decoded.
	decoding *fair.Gate
	wire     *wire
	slow     *slowLog
	hits     limitHits
	quotas   quota.Quotas

	inFlight, probes places
	shared           sharing
	// waiting are the requests that wait and do not count as in flight meanwhile.
	waiting waiting
	// streamsWaiting is how many bytes the messages of streams hold that wait for room.
	streamsWaiting atomic.Int64
	// looked is when watch last looked for credentials that have run out.
	looked time.Time
	// streams are those of clients, following those by which other nodes follow this one,
	// watching those of health checks.
	streams, following, watching *streamSet

	listener *conns.Listener
	// numbered counts the connections since the start.
	numbered atomic.Uint64

	mu          sync.Mutex
	connections map[*conn]struct{}
}

func newCalls(opts Options, drained <-chan struct{}) *calls {
	c := &calls{
		opts:        opts,
		drained:     drained,
		methods:     make(map[string]*method),
		unaries:     make(map[string]served),
		streamed:    make(map[string]streamed),
		services:    make(map[string]bool),
		unknown:     newMethod("", grpc.MethodInfo{Name: "unknown"}, false),
		wire:        newWire(opts.MaxMemory, opts.MaxMessageSize),
		slow:        newSlowLog(opts.Log),
		waiting:     waiting{most: max(int64(opts.MaxInFlight/4), 1), of: make(map[netip.Addr]int64)},
		streams:     newStreamSet("", limitStreams, opts.MaxStreams),
		following:   newStreamSet("of other nodes ", limitFollowing, opts.MaxStreams),
		watching:    newStreamSet("that watch the health ", limitWatching, opts.MaxStreams),
		connections: make(map[*conn]struct{}),
	}
	c.inFlight.most, c.probes.most = int64(opts.MaxInFlight), maxProbes
	c.decoded = semaphore.NewWeighted(max(opts.MaxMemory/2, 1))
	c.decoding = fair.New(max(runtime.GOMAXPROCS(0)/2, 1))
	c.guard(c.unknown, access.Unknown())
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
		c.services[service] = true
		for _, m := range info.Methods {
			full := "/" + service + "/" + m.Name
			out := newMethod(service, m, named[m.Name] > 1)
			out.audited = c.opts.Audited != nil && c.opts.Audited(full)
			c.guard(out, access.Method(full))
			c.methods[full] = out
			if u, unary := c.unaries[full]; unary {
				u.method = out
				c.unaries[full] = u
			}
		}
	}
	if c.opts.Metrics != nil {
		c.opts.Metrics.MustRegister(c)
	}
}

// guard prepares what has to be known of a method to authorize its calls.
func (c *calls) guard(m *method, row *access.Row) {
	m.row = row
	m.open = c.opts.Access != nil && c.opts.Access.Opens(row)
}

// callFor returns the call of a context that gRPC made.
func (c *calls) callFor(ctx context.Context) *call {
	if k := callOf(ctx); k != nil {
		return k
	}
	return &call{Context: ctx, calls: c, begun: time.Now(), header: headerOf(ctx)}
}

func (c *calls) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	begin := time.Now()
	m, known := c.methods[info.FullMethod]
	if !known {
		m = c.unknown
	}
	k := c.callFor(ss.Context())
	opened := false
	var entry *audit.Entry
	var share *quota.Share
	var span *tracing.Call
	defer func() {
		if p := recover(); p != nil {
			err = c.panicked(info.FullMethod, p)
		}
		if opened {
			c.setOf(m).remove(k)
		}
		share.EndStream()
		k.leave()
		k.mu.Lock()
		req := k.request
		k.mu.Unlock()
		c.finish(ss.Context(), m, begin, entry, req, nil, err)
		if span != nil {
			span.EndStream(status.Code(err), errText(err))
		}
	}()
	if err := k.enter(ss.Context(), m); err != nil {
		return err
	}
	if err := k.authorize(m); err != nil {
		return err
	}
	if !m.probe {
		span = c.opts.Tracer.Begin(m.op, begin, k.header[tracing.ParentKey]) // a stranger has nothing sampled
		if share, err = c.quotas.Stream(k.identity, begin); err != nil {
			return c.beyondQuota(m, err)
		}
	}
	if !known {
		return handler(srv, ss)
	}
	if err := k.countMetadata(); err != nil {
		return err
	}
	if err := c.open(k, m); err != nil {
		return err
	}
	opened = true
	if m.sends && k.conn != nil {
		k.conn.expectMore(k)
	}
	s := guardedStream{ServerStream: ss, ctx: ss.Context(), call: k, span: span, sends: m.sends}
	if m.audited {
		s.audit = c.auditing(ss.Context(), m, &entry)
	}
	return k.endedBy(toStatus(c.handle(srv, s, m, handler)))
}

// auditing returns what enters a stream in the audit log, once, and keeps the entry.
func (c *calls) auditing(ctx context.Context, m *method, entry **audit.Entry) func(req any) error {
	return func(req any) error {
		if *entry != nil {
			return nil
		}
		var err error
		*entry, err = c.beginAudit(ctx, m, req)
		return toStatus(err)
	}
}

// handle runs the handler of a stream. The context of an endless one ends when the server
// drains, that of a lasting one when the requests that are under way then have been answered.
func (c *calls) handle(srv any, s guardedStream, m *method, handler grpc.StreamHandler) error {
	if !m.endless && !m.lasting {
		return handler(srv, s)
	}
	ctx, cancel := context.WithCancelCause(s.ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-c.drained:
			if m.lasting {
				c.awaitAnswers(ctx)
			}
			cancel(errDrained)
		case <-ctx.Done():
		}
	}()
	s.ctx = ctx
	if !m.endless { // its handler watches the context, also while it waits for a message
		return handler(srv, s)
	}
	return handler(srv, endlessStream{s})
}

// answersLook is how often a server that drains looks whether requests are under way.
const answersLook = 10 * time.Millisecond

// awaitAnswers waits until no request is under way, or ctx ends. It looks twice, since one that
// has waited for something else is not counted for a moment when that ends.
func (c *calls) awaitAnswers(ctx context.Context) {
	for none := 0; none < 2; {
		if c.inFlight.taken.Load()+c.waiting.count() > 0 {
			none = 0
		} else {
			none++
		}
		if !sleep.For(ctx, answersLook) {
			return
		}
	}
}

// errDrained is the cause with which the contexts of endless streams end.
var errDrained = status.Error(codes.Unavailable, "the node is shutting down")

// noSuchMethod answers calls of unknown methods as gRPC does, but shortens their names.
func (c *calls) noSuchMethod(_ any, ss grpc.ServerStream) error {
	full, _ := grpc.MethodFromServerStream(ss)
	service, method := path.Split(strings.TrimPrefix(full, "/"))
	service = strings.TrimSuffix(service, "/")
	if !c.services[service] {
		if c.opts.NotHere != nil {
			if why := c.opts.NotHere(service); why != "" {
				return toStatus(kv.Errorf(kv.Unimplemented, "%.64s: %s (not applied)", method, why))
			}
		}
		return status.Errorf(codes.Unimplemented, "unknown service %.128s", service)
	}
	return status.Errorf(codes.Unimplemented, "unknown method %.128s for service %s", method, service)
}

func (c *calls) panicked(method string, p any) error {
	c.opts.Log.Error("a request panicked; this is a bug", "method", method, "panic", p, "stack", string(debug.Stack()))
	return status.Errorf(codes.Internal, "%s failed by a bug in the server (outcome unknown); its log holds the details", path.Base(method))
}

// endless reports whether a stream goes on until one side leaves, or for so long that a
// stopping server does not wait for it. Names tell: streams that follow something, those
// that carry a whole state, and the fault of a drill, which would hold up the drain.
func endless(service, name string) bool {
	return name == "InjectFault" || strings.HasPrefix(name, "Watch") || following(name) || strings.HasPrefix(service, "grpc.reflection.")
}

// lasting reports whether requests wait for what streams of a method carry, which its name tells:
// changes to slaves, and that these have them.
func lasting(name string) bool { return name == "StreamChanges" || name == "Confirm" }

// following reports whether other nodes follow this one by a method, which its name tells.
func following(name string) bool { return strings.HasPrefix(name, "Stream") }

// repeatable reports whether a method, by its name, changes nothing, so that a call
// may be served twice.
func repeatable(name string) bool {
	return strings.HasPrefix(name, "Get") || strings.HasPrefix(name, "MultiGet") || strings.HasPrefix(name, "List")
}

// quick reports whether calls of a method, by its name, rarely wait for anything: reads of a
// single key do not.
func quick(name string) bool { return name == "Get" }

// begins adds a connection.
func (c *calls) begins(conn *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.connections[conn] = struct{}{}
}

// forget removes a connection.
func (c *calls) forget(conn *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.connections, conn)
}

// conns returns the open connections.
func (c *calls) conns() []*conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]*conn, 0, len(c.connections))
	for conn := range c.connections {
		out = append(out, conn)
	}
	return out
}

// hangUp closes the connections whose clients have not begun to speak HTTP/2.
func (c *calls) hangUp() {
	for _, conn := range c.conns() {
		if !conn.greeted.Load() {
			_ = conn.Close() // what reads from it finds out
		}
	}
}

// cut closes a connection whose client leaves no other choice.
func (c *calls) cut(conn *conn, limit, why string) {
	c.limited(limit)
	c.slow.warn("a connection is closed", "peer", conn.Conn.RemoteAddr().String(), "reason", why, "limit", limit)
	_ = conn.Close() // gRPC's goroutines find out and end its calls
}
