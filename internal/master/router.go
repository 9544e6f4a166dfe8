package master

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/sleep"
)

// Router hands requests on to the nodes that own their vBuckets' logs. A nil
// Router is that of a node which has no others.
//
// A request takes one hop: what arrives with the mark of a forwarded request is
// served here or turned away with kv.NotOwner, which is no answer for a client but
// makes the node that forwarded it look again for the owner.
type Router struct {
	pool *peer.Pool
	// copies tells that this node only has copies, and passes whether it hands
	// linearizable reads on.
	copies, passes bool
	reads, writes  atomic.Uint64
}

// NewRouter makes a router that reaches the other nodes through a pool, which
// stays the caller's.
func NewRouter(pool *peer.Pool) *Router { return &Router{pool: pool} }

// NewCopyRouter makes the router of a node that has copies only: what it does not
// hand on is for the copies to refuse, and that are all mutations and, unless it
// passes reads on, linearizable reads.
func NewCopyRouter(pool *peer.Pool, passes bool) *Router {
	return &Router{pool: pool, copies: true, passes: passes}
}

// isCopy reports whether this node only has copies.
func (r *Router) isCopy() bool { return r != nil && r.copies }

// keeps tells whether a request is answered here, whoever the owner is.
func (r *Router) keeps(c call) bool { return r != nil && r.copies && (c.mutates || !r.passes) }

// Forwards are the numbers of requests that were handed on.
type Forwards struct{ Reads, Writes uint64 }

// Forwards counts since the start, each request once.
func (r *Router) Forwards() Forwards {
	if r == nil {
		return Forwards{}
	}
	return Forwards{Reads: r.reads.Load(), Writes: r.writes.Load()}
}

func (r *Router) count(c call) {
	if c.mutates {
		r.writes.Add(1)
	} else {
		r.reads.Add(1)
	}
}

// call is a kind of request that goes to an owner.
type call struct {
	method  string
	mutates bool
}

// The metadata of a forwarded request.
const (
	// forwardedMark tells that the request has taken its hop.
	forwardedMark = "dkv-forwarded"
	// vBucketMark names a vBucket that the request is about, where its message
	// does not tell; it may be there many times.
	vBucketMark = "dkv-vbucket"
)

// mark returns the context of a forwarded request about these vBuckets.
func mark(ctx context.Context, vBuckets ...VBucket) context.Context {
	md := make(metadata.MD, 2)
	md[forwardedMark] = []string{"1"}
	for _, v := range vBuckets {
		md[vBucketMark] = append(md[vBucketMark], v.Name)
	}
	return metadata.NewOutgoingContext(ctx, md)
}

// forwarded tells whether a request has taken its hop.
func forwarded(ctx context.Context) bool {
	return len(metadata.ValueFromIncomingContext(ctx, forwardedMark)) > 0
}

// asked returns the vBuckets that a forwarded request is about; all, where it
// names none.
func (k *Keyspace) asked(ctx context.Context) ([]VBucket, error) {
	if len(k.vBuckets) == 1 || !forwarded(ctx) {
		return k.vBuckets, nil
	}
	names := metadata.ValueFromIncomingContext(ctx, vBucketMark)
	if len(names) == 0 {
		return k.vBuckets, nil
	}
	out := make([]VBucket, len(names))
	for i, name := range names {
		v, err := k.Named(name)
		if err != nil {
			return nil, err
		}
		out[i] = v
	}
	return out, nil
}

// stays tells whether a request may not be handed on.
func (r *Router) stays(ctx context.Context) bool { return r == nil || forwarded(ctx) }

func notOwner(v VBucket) error {
	return kv.Errorf(kv.NotOwner, "this node does not own vBucket %s; ask its owner", v.Name)
}

func noOwner(v VBucket) error {
	return kv.Errorf(kv.NotOwner, "vBucket %s has no owner that is known here", v.Name)
}

// isNotOwner tells whether err only sends to another node.
func isNotOwner(err error) bool {
	return kv.KindOf(err) == kv.NotOwner && kv.OutcomeOf(err) == kv.NotApplied
}

// leg is what one node has to do for a request.
type leg struct {
	owner    replica.Owner
	vBuckets []VBucket
}

// legs divides vBuckets by the nodes that own them. Its error is a kv.NotOwner.
func (r *Router) legs(ctx context.Context, c call, vBuckets []VBucket) ([]leg, error) {
	var out []leg
next:
	for _, v := range vBuckets {
		owner := v.Owner()
		switch {
		case owner.Self:
		case r.keeps(c):
			owner.Self = true
		case r.stays(ctx):
			return nil, notOwner(v)
		case owner.Address == "":
			return nil, noOwner(v)
		}
		for i := range out {
			if o := out[i].owner; o.Self == owner.Self && o.Address == owner.Address {
				out[i].vBuckets = append(out[i].vBuckets, v)
				continue next
			}
		}
		out = append(out, leg{owner: owner, vBuckets: []VBucket{v}})
	}
	return out, nil
}

// moved tells whether the leg's node is no longer the one to ask.
func (l leg) moved() bool {
	for _, v := range l.vBuckets {
		if o := v.Owner(); o.Self != l.owner.Self || o.Address != l.owner.Address {
			return true
		}
	}
	return false
}

// ask makes a unary call of the node of a leg.
func (r *Router) ask(ctx context.Context, l leg, c call, req, resp any) error {
	trace := kv.TraceOf(ctx)
	defer trace.Elsewhere(trace.Start())
	p, err := r.pool.Peer(l.owner.Address)
	if err != nil {
		return kv.Errorf(kv.Unavailable, "node %s: %w", l.owner.Address, err)
	}
	if !c.mutates || !p.Ready() {
		watched, stop := whileOwner(ctx, l)
		defer stop()
		if err := p.Await(watched); err != nil {
			return kv.Errorf(kv.Unavailable, "node %s cannot be reached: %w", l.owner.Address, err)
		}
		if !c.mutates {
			ctx = watched
		}
		// A mutation that is sent stays with the node it was sent to, since
		// nobody else can tell what became of it.
	}
	return p.Invoke(mark(ctx, l.vBuckets...), c.method, req, resp)
}

// ownerPoll is how often the owner is compared while an answer is awaited.
const ownerPoll = 50 * time.Millisecond

var errMoved = errors.New("the vBucket has another owner by now")

// whileOwner returns a context that ends with errMoved when another node is to be
// asked: the former one may not answer at all. stop releases it.
func whileOwner(ctx context.Context, l leg) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watch{}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(ownerPoll, func() {
		if l.moved() {
			cancel(errMoved)
			return
		}
		w.again()
	})
	return ctx, func() {
		w.stop()
		cancel(nil)
	}
}

// watch is a timer that runs again until it is stopped.
type watch struct {
	mu      sync.Mutex
	timer   *time.Timer
	stopped bool
}

func (w *watch) again() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stopped {
		w.timer.Reset(ownerPoll)
	}
}

func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.timer.Stop()
}

const (
	// The pauses between two looks for an owner: a hand-over takes some tens of
	// milliseconds, an election seconds.
	firstPause = 4 * time.Millisecond
	lastPause  = 128 * time.Millisecond
	// maxOwnerWait bounds them where the caller sets no deadline: a request that
	// waits takes the place of another.
	maxOwnerWait = 10 * time.Second
)

// beforeDeadline ends a little before its parent does, so that the reason still
// reaches the caller.
func beforeDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, limited := ctx.Deadline()
	if !limited {
		return ctx, func() {}
	}
	left := time.Until(deadline)
	// Who waits for long may be far away.
	return context.WithDeadline(ctx, deadline.Add(-min(max(answerMargin, left/20), left/4)))
}

// persist calls attempt, which looks for the owner anew each time, until it is
// done or the caller does not wait any longer. attempt is not done where its error
// is one that another node, or the same one later, may not have.
func persist(ctx context.Context, c call, attempt func() (done bool, err error)) error {
	limit := time.Now().Add(maxOwnerWait)
	if deadline, limited := ctx.Deadline(); limited {
		limit = deadline
	}
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		done, err := attempt()
		if done {
			return err
		}
		wait := min(pause/2+rand.N(pause), time.Until(limit))
		if !sleep.For(ctx, wait) || !time.Now().Before(limit) {
			return c.gaveUp(ctx, err)
		}
	}
}

// heard is the end of an attempt on another node, as persist wants it.
func (c call) heard(err error) (done bool, _ error) {
	switch {
	case err == nil:
		return true, nil
	case c.mayRepeat(err):
		return false, err
	default:
		return true, c.explain(err)
	}
}

// served is the end of an attempt on this node: it is the owner, and what it says
// counts, unless it has ceased to be.
func served(err error) (done bool, _ error) { return err == nil || !isNotOwner(err), err }

// mayRepeat tells whether another attempt is safe and may do better.
func (c call) mayRepeat(err error) bool {
	switch kv.KindOf(err) {
	case kv.NotOwner, kv.Unavailable:
		return !c.mutates || kv.OutcomeOf(err) == kv.NotApplied
	default:
		return false
	}
}

// gaveUp is what a caller is told that did not wait any longer. last is the error
// of the last attempt.
func (c call) gaveUp(ctx context.Context, last error) error {
	var known *kv.Error
	if !errors.As(last, &known) {
		return c.explain(last)
	}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, context.Canceled):
		return c.explain(kv.Errorf(kv.Unavailable, "the caller did not wait for the owner: %w", cause))
	case known.Kind == kv.NotOwner && peer.Answered(last):
		return c.explain(kv.Errorf(kv.Unavailable, "the node that is taken for the owner says that it is not, so that the log is changing hands; retry later"))
	case known.Outcome == kv.Unknown, peer.Answered(last):
		return c.explain(last)
	default: // was not sent to anybody; the deadline is not the reason
		return c.explain(kv.Errorf(kv.Unavailable, "no owner served the request in time: %v; retry later", known))
	}
}

// explain adds the outcome to the text of an error, where it matters and is not
// there.
func (c call) explain(err error) error {
	switch {
	case !c.mutates:
		if kv.OutcomeOf(err) == kv.Unknown {
			return kv.Errorf(kv.KindOf(err), "%w", err) // nothing can have happened
		}
		return err
	case peer.Answered(err):
		return err
	default:
		return withOutcome(err)
	}
}
