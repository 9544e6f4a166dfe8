package replication

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/fsm/history"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/route"
	"github.com/dkvdb/dkv/internal/sleep"
)

const (
	// streamHeartbeat is the longest time without a message.
	streamHeartbeat = 400 * time.Millisecond
	// aheadPatience is how long a node that lags behind a follower has to catch up: another
	// node may have served the follower some milliseconds ago.
	aheadPatience = 200 * time.Millisecond
)

// feed sends the changes of a vBucket to one receiver. It reads a stretch after the one before
// it was sent, so that a slow receiver costs no memory and delays no one else, and pins no
// state in between.
type feed struct {
	v route.VBucket
	// next is the first number that has not been read; 0 means the next change to come.
	next kv.Index
	// last is the last change that the receiver has of its history, in the place of which it takes
	// a later one that promotions have begun; nil if it takes none.
	last *uint64
	// keep selects the mutations to send; nil selects all.
	keep func(*kv.Mutation) bool
	// prompt sends numbers without changes at once, not with the next heartbeat, so that
	// a slave's lag reaches 0.
	prompt bool
	// send sends a stretch, which ends before next, and empties it before it waits for the
	// receiver. The age is the state's from before the stretch was read: a later one may
	// be that of changes that are not in it.
	send func(c *fsm.Changes, age time.Duration) error
	// share counts what is being sent.
	share share
	// among are the readers that share the processors with the feed; nil if none do.
	among *readers

	// history is the one that is sent, which the receiver's has led to.
	history string
	// line is that of the state which is read; nil before the first read.
	line *fsm.Line
	// told is the number up to which the last message said that the receiver has
	// everything; sent is when that message was begun.
	told kv.Index
	sent time.Time
	// resume is the first number that is in no message that gRPC has accepted.
	resume kv.Index
	// looked is when the log was last read.
	looked time.Time
}

// run sends until the context ends, or the numbers are no longer those of this history.
func (f *feed) run(ctx context.Context, asked string) error {
	if err := f.begin(ctx, asked); err != nil {
		return err
	}
	defer f.share.end()
	client := kv.PlaceOf(ctx).Client()
	if f.among != nil {
		defer f.among.enter(client)()
	}
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
		if err := f.await(ctx, f.among.pace(client)); err != nil {
			return ended(ctx, err)
		}
	}
	return context.Cause(ctx)
}

// tell sends a stretch, if it has changes or a message is due.
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

// begin checks that the receiver can begin at the number that it asks for, of a history.
func (f *feed) begin(ctx context.Context, asked string) error {
	st := f.v.Status()
	f.history = st.Identity.History
	switch {
	case f.history == "":
		return errUnnamed
	case asked != "" && asked != f.history:
		if err := f.succeed(ctx, asked); err != nil {
			return err
		}
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

// succeed has the receiver of a former history go on in the present one, if promotions have led
// to that and it has all that the receiver has. What the receiver knows to have no
// effect above the end of its history it does not have: other changes may have these numbers here.
func (f *feed) succeed(ctx context.Context, former string) error {
	if f.last == nil || f.next == 0 {
		return otherHistory(former, f.history)
	}
	c, err := f.v.Changes(ctx, f.v.Status().Applied+1, 1, 1) // for the history and its lineage alone
	if err != nil && kv.KindOf(err) != kv.OutOfRange {
		return ended(ctx, err)
	}
	end, _ := history.EndOf(former, c.Former)
	switch {
	case end == 0: // unknown, or a restore has ended it
		return otherHistory(former, c.History)
	case *f.last > end:
		return kv.Errorf(kv.Precondition,
			"history %s here has followed history %s after change %d, and lacks change %d; read the keys again, and watch from there", c.History, former, end, *f.last)
	}
	f.history, f.next = c.History, min(f.next, end+1)
	return nil
}

// errReplaced has a receiver compare what it has with what is here now: the new state may have
// come to the same number by other changes.
var errReplaced = kv.Errorf(kv.Unavailable, "the state here was replaced by another one meanwhile; continue from the last change, here or at another node")

var errUnnamed = kv.Errorf(kv.Unavailable, "this node has no state to follow yet; retry, or ask another one")

func otherHistory(theirs, here string) error {
	return kv.Errorf(kv.Precondition,
		"the change number belongs to history %s, and the history here is %s; ask another node, or start over from a snapshot", theirs, here)
}

// read returns the stretch at next, and advances next to its end.
func (f *feed) read(ctx context.Context) (fsm.Changes, error) {
	c, err := f.v.Changes(ctx, f.next, changelog.PageChanges, f.share.take(changelog.StreamBytes))
	switch {
	case kv.KindOf(err) == kv.OutOfRange && c.History != f.history:
		// A new history's changes begin above the old one's.
		return c, otherHistory(f.history, c.History)
	case err != nil:
		return c, err
	case c.History != f.history:
		return c, otherHistory(f.history, c.History)
	case f.line != nil && c.Line != f.line:
		return c, errReplaced
	}
	f.line = c.Line
	if n := len(c.Changes); n > 0 {
		f.next = c.Changes[n-1].Index + 1
	} else {
		// A state that was reopened may lag by some entries for a moment.
		f.next = max(f.next, c.Newest+1)
	}
	return c, nil
}

// await returns when next is applied, but not earlier than the pace allows, or when the next
// heartbeat is due.
func (f *feed) await(ctx context.Context, pace time.Duration) error {
	if pause := pace - time.Since(f.looked); pause > 0 && !sleep.For(ctx, pause) {
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

// ended is the error with which a stream ends after err: the context's reason if that has
// ended.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// matching returns the changes with only the mutations that keep selects, and drops changes
// without any. It works in place.
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
