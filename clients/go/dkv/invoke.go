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
)

// request is what routing and retrying need to know of a call.
type request struct {
	method  string
	key     []byte // where it goes
	mutates bool
	// sequential lets any replica answer.
	sequential bool
	// id is that of a mutation which may be sent twice, and session the one that
	// gave it; nil if there is none.
	id      *serverpb.RequestID
	session *session
}

// node returns whom to send a request to. avoid has just failed, where it is not
// nil.
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
	err := n.invoke(ctx, r.method, req, resp)
	if err == nil {
		if r.sequential {
			n.took(time.Since(began))
		}
		return nil
	}
	a := attempts{client: c, request: r, began: began}
	return a.goOn(ctx, n, err, req, resp)
}

// stamp has a request be for a cluster, which it stays for in all attempts: nodes of
// another one refuse it. Each request of service DKV has the field for it; those of
// other services, which Conn makes, are for no cluster.
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

const (
	// The pauses between two attempts, each with jitter: a hand-over of a leader
	// takes some tens of milliseconds, an election seconds. They double up to
	// slowPause, and grow by a quarter up to lastPause, which they reach in about five
	// seconds: what has no leader for that long is not helped by many questions.
	firstPause = time.Millisecond
	slowPause  = 200 * time.Millisecond
	lastPause  = time.Second
)

// otherClusterWait bounds the attempts of a call that finds nodes of another cluster.
const otherClusterWait = time.Second

// nextPause is the pause after one of d.
func nextPause(d time.Duration) time.Duration {
	if d < slowPause {
		return min(2*d, slowPause)
	}
	return min(d+d/4, lastPause)
}

// attempts is a call that has failed at least once.
type attempts struct {
	client  *Client
	request *request
	began   time.Time
	count   int
	// unknown tells that one of the attempts may have taken effect, or may still.
	unknown bool
}

// goOn makes further attempts after one at n that ended in err.
func (a *attempts) goOn(ctx context.Context, n *node, err error, req, resp any) error {
	for pause := firstPause; err != nil; pause = nextPause(pause) {
		a.count++
		out := a.explain(n, err)
		if !a.mayRepeat(out, err, n) {
			return a.gaveUp(ctx, out)
		}
		a.client.learner.poke()
		if a.client.sleep(ctx, jitter(pause)) != nil {
			return a.gaveUp(ctx, out)
		}
		n = a.next(n, err)
		if a.unknown && a.request.id != nil {
			a.request.id.Repeat = true
		}
		err = n.invoke(ctx, a.request.method, req, resp)
	}
	return nil
}

// next is the node for the attempt after one at n.
func (a *attempts) next(n *node, err error) *node {
	t := a.client.topology.Load()
	if stale(err) {
		return t.forWrite(t.of(a.request.key), n)
	}
	return a.request.node(t, n)
}

func (a *attempts) explain(n *node, err error) *Error {
	out := toError(err, n.name(), a.request.mutates)
	a.unknown = a.unknown || out.OutcomeUnknown
	return out
}

// stale tells whether a read was refused since the replica's state is too old.
func stale(err error) bool { return kv.KindOf(err) == kv.Precondition }

func (a *attempts) mayRepeat(out *Error, err error, n *node) bool {
	switch {
	case a.client.closed.Load():
		return false
	case a.request.sequential && stale(err):
		// The leader's state is never too old; it is asked once.
		return a.count == 1 && !a.client.leads(n, a.request.key)
	case out.Kind == ErrOtherCluster:
		// Another node may be of ours; one that leads is found within that.
		return time.Since(a.began) < otherClusterWait
	case out.Kind != ErrUnavailable, isTLS(out, a.count, a.began):
		return false
	case a.request.mutates && out.OutcomeUnknown:
		return a.request.id != nil && time.Since(a.began) < repeatWithin
	default:
		return true
	}
}

func (c *Client) leads(n *node, key []byte) bool {
	t := c.topology.Load()
	return t.vBuckets[t.of(key)].leader == n
}

// gaveUp is the error of a call that is not tried again.
func (a *attempts) gaveUp(ctx context.Context, out *Error) error {
	if a.client.closed.Load() {
		closed := errClosed()
		closed.OutcomeUnknown = a.unknown
		return closed
	}
	if a.unknown && !out.OutcomeUnknown {
		out.OutcomeUnknown = true
		out.Err = fmt.Errorf("%w; an earlier attempt may have taken effect (%s)", out.Err, kv.Unknown)
	}
	if foreign := a.client.learner.stranger(); foreign != nil && out.Kind == ErrUnavailable {
		out.Err = fmt.Errorf("%w; %w", out.Err, foreign)
	}
	if cause := context.Cause(ctx); out.Kind == ErrUnavailable && cause != nil && !errors.Is(out.Err, cause) {
		out.Err = fmt.Errorf("%w: %w", cause, out.Err)
	}
	if a.count > 1 {
		out.Err = fmt.Errorf("%w, after %d attempts in %s", out.Err, a.count, time.Since(a.began).Round(time.Millisecond))
	}
	return out
}

// sleep waits, and less where the topology changes. Its error is that of a context
// that ended, also where it would during the wait.
func (c *Client) sleep(ctx context.Context, d time.Duration) error {
	if deadline, limited := ctx.Deadline(); limited && time.Until(deadline) <= d {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	woken := c.changed.wait()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-woken:
		return nil
	case <-c.ctx.Done():
		return ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
