package replication

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/route"
	"github.com/dkvdb/dkv/internal/sleep"
)

const (
	// streamHeartbeat is the longest that a stream is silent.
	streamHeartbeat = 400 * time.Millisecond
	// streamPace is the least time between two looks at the log: under load it lets
	// changes gather, and bounds what a follower may wait for one.
	streamPace = 2 * time.Millisecond
	// aheadPatience is how long a node that is behind a follower may take to draw
	// level: another one may have served it some milliseconds ago.
	aheadPatience = 200 * time.Millisecond
)

// feed follows the changes of a vBucket for one receiver. It reads a stretch when
// the one before is sent, so that a slow receiver costs no memory and holds nothing
// back, and keeps no state pinned in between.
type feed struct {
	v route.VBucket
	// next is the first number that has not been read; 0 is the next that comes.
	next kv.Index
	// keep picks the mutations to send; nil is all.
	keep func(*kv.Mutation) bool
	// prompt tells at once that numbers without effect have come, and not with the
	// next heartbeat: a slave's lag is to reach 0.
	prompt bool
	// send sends a stretch, all up to next, and leaves it empty before it waits for
	// the receiver. The age is the state's from before the stretch was read: what
	// was known later may have been known of what is not in it.
	send func(c *fsm.Changes, age time.Duration) error
	// share counts what is being sent.
	share share

	history string
	// told is the number up to which the receiver knows to have all, as of the last
	// message, which was begun at sent.
	told kv.Index
	sent time.Time
	// resume is the first number that is in no message which gRPC has taken.
	resume kv.Index
	// looked is when the log was last looked at.
	looked time.Time
}

// run sends until the context ends or the numbers have no meaning any more.
func (f *feed) run(ctx context.Context, history string) error {
	if err := f.begin(ctx, history); err != nil {
		return err
	}
	defer f.share.end()
	f.resume = f.next
	kv.PlaceOf(ctx).Resumable(func() kv.Resume {
		return kv.Resume{kv.ResumeChange: strconv.FormatUint(f.resume, 10)}
	})
	for ctx.Err() == nil {
		f.looked = time.Now()
		age := f.v.Age()
		c, err := f.read(ctx)
		if err != nil {
			return ended(ctx, err)
		}
		if err := f.tell(&c, age); err != nil {
			return err
		}
		if err := f.await(ctx); err != nil {
			return ended(ctx, err)
		}
	}
	return context.Cause(ctx)
}

// tell sends a stretch, if there is anything to tell.
func (f *feed) tell(c *fsm.Changes, age time.Duration) error {
	nothing := len(c.Changes) == 0
	if f.keep != nil {
		c.Changes = matching(c.Changes, f.keep)
	}
	now := time.Now()
	if len(c.Changes) == 0 && !(f.prompt && nothing && f.next-1 > f.told) && now.Sub(f.sent) < streamHeartbeat {
		f.share.holds(0)
		return nil
	}
	f.told, f.sent = f.next-1, now
	f.share.holds(bytesOf(c))
	if err := f.send(c, age); err != nil {
		return err
	}
	f.resume = f.next
	f.share.left()
	return nil
}

// begin finds out whether the receiver may begin where it wants to.
func (f *feed) begin(ctx context.Context, history string) error {
	st := f.v.Status()
	f.history = st.Identity.History
	switch {
	case f.history == "":
		return errUnnamed
	case history != "" && history != f.history:
		return otherHistory(history, f.history)
	case f.next == 0:
		f.next = st.Applied + 1
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, aheadPatience)
	defer cancel()
	err := f.v.AwaitApplied(limited, f.next-1)
	switch {
	case err == nil:
		return nil
	case ctx.Err() == nil && limited.Err() != nil:
		return kv.Errorf(kv.Precondition,
			"change %d is asked for, and the newest here is %d: the slave is ahead of this node; ask another one", f.next, f.v.Status().Applied)
	default:
		return ended(ctx, err)
	}
}

var errUnnamed = kv.Errorf(kv.Unavailable, "this node has no state to follow yet; retry, or ask another one")

func otherHistory(theirs, here string) error {
	return kv.Errorf(kv.Precondition,
		"the change number belongs to history %s, and the history here is %s; ask another node, or start over from a snapshot", theirs, here)
}

// read returns the stretch at next, and moves next behind it.
func (f *feed) read(ctx context.Context) (fsm.Changes, error) {
	c, err := f.v.Changes(ctx, f.next, changelog.PageChanges, f.share.take(changelog.StreamBytes))
	if kv.KindOf(err) == kv.OutOfRange {
		// A new history's changes begin above the old one's.
		if now := f.v.Status().Identity.History; now != f.history {
			return c, otherHistory(f.history, now)
		}
	}
	switch {
	case err != nil:
		return c, err
	case c.History != f.history:
		return c, otherHistory(f.history, c.History)
	case len(c.Changes) > 0:
		f.next = c.Changes[len(c.Changes)-1].Index + 1
	default:
		// A state that was opened anew may be some entries back for a moment.
		f.next = max(f.next, c.Newest+1)
	}
	return c, nil
}

// await returns when next is applied, which may be the case already, but not before
// the pace allows; or when the next heartbeat is due.
func (f *feed) await(ctx context.Context) error {
	if pause := streamPace - time.Since(f.looked); pause > 0 && !sleep.For(ctx, pause) {
		return ctx.Err()
	}
	limited, cancel := context.WithDeadline(ctx, f.sent.Add(streamHeartbeat))
	defer cancel()
	err := f.v.AwaitApplied(limited, f.next)
	if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// ended is the error of a stream after err: where the context has ended, it is for
// the context's reason.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// matching returns the changes with those of their mutations that keep picks,
// without the changes that have none. It works in place.
func matching(changes []kv.Change, keep func(*kv.Mutation) bool) []kv.Change {
	out := changes[:0]
	for _, c := range changes {
		ms := c.Mutations[:0]
		for i := range c.Mutations {
			if keep(&c.Mutations[i]) {
				ms = append(ms, c.Mutations[i])
			}
		}
		if c.Mutations = ms; len(ms) > 0 {
			out = append(out, c)
		}
	}
	return out
}
