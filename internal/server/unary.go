package server

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	pb "google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/internal/audit"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/quota"
	"github.com/dkvdb/dkv/internal/tracing"
)

// maxProbes bounds health checks, which do not count as requests in flight: an
// orchestrator must not take a busy node for a dead one.
const maxProbes = 1000

// unaryCall is a unary call while its handler runs.
type unaryCall struct {
	*call
	// decode reads the request, which is then req.
	decode func(any) error
	req    any
	// handled is since when the call has a handler.
	handled  time.Time
	span     *tracing.Call // nil if the request is not sampled
	entry    *audit.Entry  // in the audit log, if the call is administrative and has begun
	share    *quota.Share  // of its identity
	memory   int64         // taken of calls.memory
	expanded int64         // taken of calls.decoded
	response any
	// taken is the room that was taken for a response that is yet to be made. It is taken by
	// one goroutine at a time, under room, which waits for it until patience.
	taken    atomic.Int64
	room     sync.Mutex
	patience time.Time
}

// unary wraps the handler of a unary method.
func (c *calls) unary(full string, h handler) handler {
	return func(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (resp any, err error) {
		begin := time.Now()
		m := c.methods[full]
		u := &unaryCall{call: c.callFor(ctx), decode: decode, handled: begin}
		u.unary = u
		defer func() {
			if p := recover(); p != nil {
				resp, err = nil, c.panicked(full, p)
			}
			u.done()
			c.finish(ctx, m, begin, u.entry, u.req, u.response, err)
			if u.span != nil {
				u.span.End(status.Code(err), errText(err), u.traced)
			}
		}()
		if c.opts.SlowThreshold > 0 {
			u.traced = &u.trace
		}
		if err := u.begin(ctx, m); err != nil {
			return nil, err
		}
		return u.serve(srv, ctx, h)
	}
}

// begin counts the call as in flight, before its message is read.
func (u *unaryCall) begin(ctx context.Context, m *method) error {
	c := u.calls
	ended := u.enter(ctx, m)
	if err := u.authorize(m); err != nil {
		ended = err
	} else if !m.probe {
		u.sample(m)
		if u.share, err = c.quotas.Request(u.identity, u.begun); err != nil {
			ended = c.beyondQuota(m, err)
		}
	}
	switch {
	case m.probe:
		if !u.occupy(&c.probes) {
			c.limited(limitProbes)
			return exhausted(requestPause, "%d health checks are under way, which is the limit; retry later", maxProbes)
		}
	case !u.occupy(&c.inFlight):
		c.limited(limitInFlight)
		return exhausted(requestPause,
			"%d requests are under way, which is the limit (max-requests-in-flight); retry later (not applied)", c.opts.MaxInFlight)
	}
	if ended != nil {
		return ended
	}
	return u.countMetadata()
}

// sample begins the span of the call, if it is sampled. Its caller has been accepted: a stranger
// has nothing sampled, whatever its traceparent says.
func (u *unaryCall) sample(m *method) {
	if u.calls.opts.Tracer == nil {
		return
	}
	if u.span = u.calls.opts.Tracer.Begin(m.op, u.handled, u.header[tracing.ParentKey]); u.span != nil {
		u.trace.SetOnward(u.span.Onward())
		u.traced = &u.trace
	}
}

// done undoes begin, and releases what the call held.
func (u *unaryCall) done() {
	if u.memory > 0 {
		u.calls.memory.Release(u.memory)
	}
	if u.expanded > 0 {
		u.calls.decoded.Release(u.expanded)
	}
	if n := u.taken.Load(); n > 0 {
		u.conn.exchange(n, 0)
	}
	u.share.EndRequest()
	u.leave()
}

// serve runs the handler and encodes its response. If there is no room for the response
// and the method can be repeated, the response is dropped and made again once there is.
func (u *unaryCall) serve(srv any, ctx context.Context, h handler) (any, error) {
	for {
		resp, err := h(srv, ctx, u.receive, nil)
		if err != nil {
			return nil, u.endedBy(toStatus(err))
		}
		served := u.traced.Start()
		m, size := u.countedSize(resp)
		if size == 0 {
			u.response = resp
			return resp, nil
		}
		if u.conn.exchange(u.taken.Swap(0), size) != "" {
			if u.method.repeatable {
				resp, m = nil, nil
			}
			err := u.awaitRoom(u.call, size)
			u.traced.Since(kv.Answer, served)
			switch {
			case err != nil && u.method.repeatable:
				return nil, u.endedBy(toStatus(err))
			case err != nil: // a service may answer much to what it has done
				return nil, u.endedBy(toStatus(kv.UnknownOutcome(kv.KindOf(err),
					errors.New("the request was served, but its response found no room (max-memory-in-flight); look at what it did before you repeat it"))))
			case u.method.repeatable:
				continue
			}
			u.conn.exchange(u.taken.Swap(0), size)
		}
		u.response = m
		out, err := u.encoded(m, size)
		u.traced.Since(kv.Answer, served)
		return out, err
	}
}

// receive reads the request into v, as the handler asks for it; again if it is
// served again.
func (u *unaryCall) receive(v any) error {
	if u.req != nil {
		pb.Merge(v.(pb.Message), u.req.(pb.Message))
		return nil
	}
	in := incoming{message: v.(pb.Message), call: u}
	if err := u.decode(&in); err != nil {
		return u.endedBy(err)
	}
	if in.refused != nil {
		return in.refused
	}
	if err := u.arrived(); err != nil {
		return err
	}
	u.req = v
	if err := u.permit(v); err != nil {
		return err
	}
	var err error
	if u.entry, err = u.calls.beginAudit(u.call, u.method, v); err != nil {
		return err
	}
	if err := u.Err(); err != nil { // a client that cancels what it has sent costs no more than that
		return statusOf(status.FromContextError(err).Code(), "the call was given up before it was begun: %v (not applied)", err)
	}
	if u.Crowded() {
		if err := u.awaitRoom(u.call, countedFrom); err != nil {
			return toStatus(err)
		}
		// It may have to wait for other things yet, and reserves room when it reads.
		u.conn.exchange(u.taken.Swap(0), 0)
	}
	err = u.reserve()
	u.traced.Since(kv.Queue, u.handled)
	return err
}

// memoryPatience is how long a request waits for memory. The wait is bounded because two
// nodes may wait for each other.
const memoryPatience = time.Second

// reserve reserves the memory that the request may need for what it reads.
func (u *unaryCall) reserve() error {
	c := u.calls
	if c.memory == nil {
		return nil
	}
	n := min(c.opts.Memory(u.method.full, u.req), c.opts.MaxMemory)
	if n <= 0 {
		return nil
	}
	return u.acquire(c.memory, n, &u.memory)
}

// acquire takes n bytes of one kind of memory for the call, and records that in taken.
func (u *unaryCall) acquire(of *semaphore.Weighted, n int64, taken *int64) error {
	c := u.calls
	if !of.TryAcquire(n) {
		ctx, cancel := context.WithTimeout(u.call, memoryPatience)
		defer cancel()
		if of.Acquire(ctx, n) != nil {
			c.limited(limitMemory)
			return exhausted(requestPause,
				"requests that are under way may take all of the %d MiB for them (max-memory-in-flight); retry later, or ask for less at once (not applied)",
				c.opts.MaxMemory>>20)
		}
	}
	*taken = n
	return nil
}
