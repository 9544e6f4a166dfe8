package dkv

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/sleep"
)

// request is what routing and retrying need to know of a call.
type request struct {
	method  string
	key     []byte // where it goes
	mutates bool
	// sequential allows any replica to answer.
	sequential bool
	// id is that of a mutation, which may then be sent twice, and session the one that
	// assigned it; nil if there is none.
	id      *serverpb.RequestID
	session *session
}

// node returns the node to send a request to. avoid has just failed, unless it is nil.
func (r *request) node(t *topology, avoid *node) *node {
	v := t.of(r.key)
	if r.sequential {
		return t.forRead(v, avoid)
	}
	return t.forWrite(v, avoid)
}

// call makes a unary call, with as many attempts as are safe and needed. Its error
// is an *Error.
func (c *Client) call(ctx context.Context, r *request, req, resp any) error {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	if c.closed.Load() {
		return errClosed()
	}
	t := c.topology.Load()
	if t == nil {
		var err error
		if t, err = c.awaitTopology(ctx); err != nil {
			return err
		}
	}
	began := time.Now()
	stamp(req, t.vBuckets[t.of(r.key)].cluster)
	n := r.node(t, nil)
	limited, release := c.firstShareOf(ctx, r)
	err := n.invoke(limited, r.method, req, resp)
	release()
	if err == nil {
		if r.sequential {
			n.observe(time.Since(began))
		}
		return failure(resp, n, r.mutates)
	}
	a := attempts{client: c, request: r, began: began}
	return a.retry(ctx, n, err, req, resp)
}

// shareOf returns ctx with the time limit of one attempt. Nodes at fixed addresses are not probed, so that
// one that hangs would use up the time of its calls: a quarter of the time is left for the next node, unless
// all have used up theirs, or the request cannot be repeated.
func (c *Client) shareOf(ctx context.Context, r *request, unanswered int) (context.Context, context.CancelFunc) {
	deadline, limited := ctx.Deadline()
	if !limited || !c.leavesTime(r, unanswered) {
		return ctx, noCancel
	}
	return context.WithDeadline(ctx, deadline.Add(-time.Until(deadline)/4))
}

// firstShareOf is shareOf for a call that has just begun. If its limit is one that calls share, so is this.
func (c *Client) firstShareOf(ctx context.Context, r *request) (context.Context, context.CancelFunc) {
	if _, shared := ctx.(*sharedLimit); shared && c.leavesTime(r, 0) {
		return c.shares.get(), noCancel
	}
	return c.shareOf(ctx, r, 0)
}

// leavesTime reports whether an attempt leaves time for the next one.
func (c *Client) leavesTime(r *request, unanswered int) bool {
	return c.opts.fixed && unanswered+1 < len(c.target.addrs) && !(r.mutates && r.id == nil)
}

// unanswered reports whether the time of an attempt ended without a word from the node.
func unanswered(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) && !peer.Answered(err)
}

// failure returns the error in a response: servers of the earlier system report some failures
// in no other way. It returns nil if there is none.
func failure(resp any, n *node, mutates bool) error {
	m, has := resp.(interface{ GetStatus() *serverpb.Status })
	if !has || m.GetStatus().GetCode() == 0 {
		return nil
	}
	return &Error{OutcomeUnknown: mutates, Address: n.name(), Err: fmt.Errorf("node %s: %s", n.name(), m.GetStatus().GetMessage())}
}

// stamp marks a request, in all its attempts, as one for this cluster: nodes of another
// one reject it. Requests of service DKV have a field for the mark; those of other
// services, which Conn sends, go unmarked.
func stamp(req any, cluster uint64) {
	message, is := req.(proto.Message)
	if !is {
		return
	}
	m := message.ProtoReflect()
	if f := m.Descriptor().Fields().ByName(clusterField); f != nil && f.Kind() == protoreflect.Fixed64Kind {
		m.Set(f, protoreflect.ValueOfUint64(cluster))
	}
}

const clusterField = "cluster"

// elsewhereWait bounds the attempts of a call that finds nothing but nodes of another cluster, or
// slaves where masters were, counted from the first of these answers.
const elsewhereWait = time.Second

// attempts is a call that has failed at least once.
type attempts struct {
	client  *Client
	request *request
	began   time.Time
	count   int
	// unknown reports that one of the attempts may have taken effect, or may still.
	unknown bool
	// elsewhere is when a node first left the request to others, if all have done so since.
	elsewhere time.Time
	tls       suspicion
	// toLeader reports that a replica's state was too old, so that the leader is asked.
	toLeader bool
	// unanswered counts the attempts that nodes did not answer in their time, stale those that replicas
	// rejected since their state was too old.
	unanswered, stale int
	turns             turns // at fixed addresses
}

// retry makes further attempts after one at n that failed with err.
func (a *attempts) retry(ctx context.Context, n *node, err error, req, resp any) error {
	for pause := firstPause; err != nil; pause = nextPause(pause) {
		a.count++
		out := a.note(n, err)
		again := a.mayRepeat(out, err, n) && a.hasTime(ctx, err)
		switch {
		case out.Kind == ErrExhausted, errors.Is(err, context.Canceled): // says nothing about who serves what
		case again, out.Kind == ErrUnavailable, keepsNoKeys(err): // also at the end of a call: the next ones shall know more
			a.client.learner.probeSoon()
		}
		if !again {
			return a.finalError(ctx, out)
		}
		if a.client.sleep(ctx, max(jitter(pause), kv.RetryAfterOf(err))) != nil || a.unknown && !a.recognised() {
			return a.finalError(ctx, out) // the machine may have slept for longer
		}
		n = a.next(n, err)
		limited, release := a.client.shareOf(ctx, a.request, a.unanswered)
		cancel := noCancel
		if a.unknown && a.request.id != nil {
			a.request.id.Repeat = true
			// A node may keep it until there is an owner, who must still recognise it.
			limited, cancel = context.WithDeadline(limited, a.began.Add(2*repeatWithin))
		}
		err = n.invoke(limited, a.request.method, req, resp)
		cancel()
		release()
	}
	if !a.request.sequential {
		n.passed.Store(0)
	}
	return failure(resp, n, a.request.mutates)
}

// next returns the node for the attempt after one at n that failed with err.
func (a *attempts) next(n *node, err error) *node {
	t := a.client.topology.Load()
	if a.client.opts.fixed {
		return a.turns.next(t, n)
	}
	if a.toLeader = a.toLeader || stale(err); a.toLeader {
		return t.forWrite(t.of(a.request.key), n)
	}
	return a.request.node(t, n)
}

func (a *attempts) note(n *node, err error) *Error {
	out := toError(err, n.name(), a.request.mutates)
	a.unknown = a.unknown || out.OutcomeUnknown
	a.tls.add(out)
	if unanswered(err) {
		a.unanswered++
	}
	if stale(err) {
		a.stale++
	}
	if n != nil && n.fixed && (errors.Is(err, kv.ErrSlave) || a.servesOthers(err)) {
		n.passed.Store(now())
	}
	if !errors.Is(err, kv.ErrSlave) && out.Kind != ErrOtherCluster && !a.servesOthers(err) {
		a.elsewhere = time.Time{}
	} else if a.elsewhere.IsZero() {
		a.elsewhere = time.Now()
	}
	return out
}

// stale reports whether a read was rejected because the replica's state is too old.
func stale(err error) bool {
	return kv.KindOf(err) == kv.Precondition && !errors.Is(err, kv.ErrRemoved)
}

// servesOthers reports whether another one of the fixed addresses may serve what this one does not at all.
func (a *attempts) servesOthers(err error) bool {
	return a.client.opts.fixed && len(a.client.target.addrs) > 1 && keepsNoKeys(err)
}

// keepsNoKeys reports whether a node has answered that it does not serve such requests, as one does that was started
// again as a node of a registry. An implementation that does not know a method gives no reason.
func keepsNoKeys(err error) bool { return kv.KindOf(err) == kv.Unimplemented && peer.Answered(err) }

func (a *attempts) mayRepeat(out *Error, err error, n *node) bool {
	switch {
	case a.client.closed.Load(), a.unknown && !a.recognised():
		return false
	case errors.Is(err, kv.ErrRemoved):
		return a.next(n, err) != n // the only node that is known will not be a member again
	case errors.Is(err, kv.ErrSlave), out.Kind == ErrOtherCluster, a.servesOthers(err):
		// It was a master when it was last asked, or another node belongs to our cluster; the
		// present masters are found within that time.
		return time.Since(a.elsewhere) < elsewhereWait
	case a.request.sequential && stale(err):
		// The leader's state is never too old; it is asked once. Which of the fixed addresses it has is not
		// known: each is asked once.
		if a.client.opts.fixed {
			return a.stale < len(a.client.target.addrs)
		}
		return !a.toLeader && !a.client.leads(n, a.request.key)
	case out.Kind == ErrExhausted:
		return kv.RetryAfterOf(err) > 0 && !out.OutcomeUnknown
	default:
		return out.Kind == ErrUnavailable
	}
}

// recognised reports whether servers still recognise a mutation that one of the attempts may
// have applied, whatever became of the later ones: they would apply it again otherwise. The time
// for which this machine was suspended counts.
func (a *attempts) recognised() bool {
	return a.request.id != nil && sleep.Since(a.began) < repeatWithin && !a.client.topology.Load().noIDs
}

// hasTime reports whether there is time left after the pause that a node asks for.
func (a *attempts) hasTime(ctx context.Context, err error) bool {
	deadline, limited := ctx.Deadline()
	return !limited || time.Until(deadline) > kv.RetryAfterOf(err)
}

func (c *Client) leads(n *node, key []byte) bool {
	t := c.topology.Load()
	return t.vBuckets[t.of(key)].leader == n
}

// finalError returns the error of a call that is not retried.
func (a *attempts) finalError(ctx context.Context, out *Error) error {
	if a.client.closed.Load() {
		closed := errClosed()
		closed.OutcomeUnknown = a.unknown
		return closed
	}
	if a.unknown && !out.OutcomeUnknown {
		out.OutcomeUnknown = true
		out.Err = fmt.Errorf("%w; an earlier attempt may have taken effect (%s)", out.Err, kv.Unknown)
	}
	if other := a.client.learner.otherCluster(); other != nil && out.Kind == ErrUnavailable {
		out.Err = fmt.Errorf("%w; %w", out.Err, other)
	}
	if errors.Is(out.Err, context.DeadlineExceeded) {
		awaitEnd(ctx)
	}
	if cause := causeOf(ctx); out.Kind == ErrUnavailable && cause != nil && !errors.Is(out.Err, context.Cause(ctx)) {
		out.Err = fmt.Errorf("%w: %w", cause, out.Err)
	}
	if a.count > 1 {
		out.Err = fmt.Errorf("%w, after %d attempts in %s", out.Err, a.count, time.Since(a.began).Round(time.Millisecond))
	}
	return out
}
