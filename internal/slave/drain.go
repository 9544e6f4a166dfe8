package slave

import (
	"context"
	"errors"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// drainPatience bounds how long a copy that an operator has given up still applies what it has
// received.
const drainPatience = 5 * time.Second

// drain applies what was received before the session ended with an error, while the copy was
// at an index: the log's owner may have been told of it, and masters may never send it again. So
// it waits as long as the disk takes, also for space; only an order to give up the copy ends that.
func (s *session) drain(ctx context.Context, at kv.Index, in <-chan stretch, err error) {
	ctx, done := s.untilOrdered(ctx, err)
	defer done()
	st := gather(&s.fresh, s.pending, in)
	for more := true; more; {
		_, now := s.opts.State.Position()
		if now < at || st.upTo <= now { // less: it was opened again at an earlier index
			break
		}
		st.since(now)
		failed := s.write(ctx, now, st)
		more = storage.Shortage(failed) != nil && ctx.Err() == nil // a part of it is there
	}
	_, now := s.opts.State.Position()
	s.intake.over(now)
	s.opts.Changed.Raise()
}

// untilOrdered returns a context that also ends when an operator gives up the copy, or soon if
// that is why the session has ended. The caller calls done.
func (s *session) untilOrdered(ctx context.Context, err error) (_ context.Context, done func()) {
	if errors.Is(err, errOrdered) {
		return context.WithTimeout(ctx, drainPatience)
	}
	ctx, end := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		end(s.watchOrders(ctx))
	}()
	return ctx, func() { end(nil); <-watched }
}

// since leaves out what is not above an index.
func (s *stretch) since(at kv.Index) {
	for len(s.changes) > 0 && s.changes[0].Index <= at {
		s.changes = s.changes[1:]
	}
}

// sealPatience bounds how long a seal waits until what was confirmed as received is applied.
const sealPatience = 2 * time.Second

// closeReports has nothing more confirmed, and waits until what was confirmed as received is
// applied, or cannot be any more. An error means that it still waits for the disk: a seal would
// cut off what was acknowledged. The caller calls reopen, in any case.
func (p *Puller) closeReports(ctx context.Context) (reopen func(), err error) {
	p.intake.close(true)
	reopen = func() { p.intake.close(false) }
	t := time.NewTimer(sealPatience)
	defer t.Stop()
	for {
		changed := p.opts.Changed.Changed()
		id, at := p.opts.State.Position()
		owed := p.intake.owed(id.History)
		if at >= owed {
			return reopen, nil
		}
		select {
		case <-changed:
			continue
		case <-t.C:
		case <-ctx.Done():
		}
		return reopen, kv.Errorf(kv.Unavailable, "vBucket %s is at change %d and has confirmed changes up to %d as received, which its disk has not taken yet, "+
			"so it cannot be sealed (not applied); try again, and look at its disk (space, errors) if that lasts: a restart of the slave would lose them", p.opts.VBucket, at, owed)
	}
}
