package slave

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/slave/source"
	"github.com/dkvdb/dkv/internal/sleep"
	"github.com/dkvdb/dkv/internal/storage"
)

// pipeline is how many stretches may wait to be applied: while one is being applied, the
// next ones arrive. It bounds memory, at some MiB each.
const pipeline = 2

// follow receives and applies changes until the session with the master ends, and returns
// the reason. Receiving and applying overlap; a bounded number of stretches waits in
// between, so that a slow disk slows the stream but not the master.
func (s *session) follow(ctx context.Context) error {
	outer := ctx
	ctx, leave := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	_, at := s.opts.State.Position()
	in, claims := make(chan stretch, pipeline), make(chan claim, maxClaims)
	run := func(f func() error) {
		wg.Go(func() {
			if err := f(); err != nil {
				s.intake.end()
				leave(err)
			}
		})
	}
	s.intake.begin(s.history, at)
	s.moved()
	if s.mode == Stream {
		run(func() error { return s.receive(ctx, at, in) })
		run(func() error { return s.probe(ctx, claims) })
	} else {
		run(func() error { return s.poll(ctx, at, in) })
	}
	run(func() error { return s.watchSources(ctx) })
	run(func() error { return s.watchOrders(ctx) })
	run(func() error { return s.watchBetter(ctx) })
	run(func() error { return s.watchLeader(ctx) })
	reached, err := s.apply(ctx, at, in, claims) // at is read by goroutines that may not have begun yet
	s.intake.end()
	leave(nil)
	wg.Wait()
	s.drain(outer, reached, in, err)
	return err
}

// apply applies the stretches that arrive. It returns how far the copy is, and why it ends.
func (s *session) apply(ctx context.Context, at kv.Index, in <-chan stretch, claims <-chan claim) (kv.Index, error) {
	for {
		select {
		case st := <-in:
			st = gather(&s.fresh, st, in)
			if st.upTo > at {
				s.pending = st
				if err := s.persist(ctx, at, st); err != nil {
					return at, err
				}
				at, s.pending = st.upTo, stretch{}
			} else {
				s.status.level()
			}
		case c := <-claims:
			s.fresh.add(c)
		case <-ctx.Done():
			return at, context.Cause(ctx)
		}
		if _, now := s.opts.State.Position(); now < at {
			return at, localError{errReopened} // the next session gets what it lacks
		}
		if fresh, ok := s.fresh.reached(at); ok {
			s.opts.State.Fresh(fresh)
		}
	}
}

// errReopened means that a failure of storage has lost changes that were not on the disk yet.
var errReopened = errors.New("storage was reopened at an earlier index")

// gather adds the waiting stretches to a stretch, and takes over their claims. The replica
// decides how much goes into one engine batch; see package changelog.
func gather(f *freshness, st stretch, in <-chan stretch) stretch {
	f.add(st.claim)
	for range len(in) {
		more := <-in
		f.add(more.claim)
		st.changes = append(st.changes, more.changes...)
		st.bytes += more.bytes
		if more.upTo > st.upTo {
			st.upTo, st.clock = more.upTo, more.clock
		}
	}
	return st
}

// waiting is what is logged when storage cannot apply changes for now.
var waiting = map[error]string{
	storage.ErrNoSpace: "the disk is full; waiting for space",
	storage.ErrNoFiles: "no more files can be opened; waiting until they can",
}

// errApplied means that what could not be applied was in the end: the next session counts again.
var errApplied = errors.New("what could not be applied was applied after all")

// persist is write for as long as the session lasts: what cannot be applied, as a change that the
// engine cannot hold, stays in hand and is tried again. A session that ended each time would have the
// master send it all again, as fast as the line allows. Meanwhile nothing is confirmed, and nothing
// that was received counts as going to be applied.
func (s *session) persist(ctx context.Context, at kv.Index, st stretch) error {
	for wait := localPause; ; wait = min(2*wait, longestPause) {
		err := s.write(ctx, at, st)
		_, now := s.opts.State.Position()
		switch {
		case err == nil && wait > localPause:
			return errApplied
		case !isLocal(err) || storage.Shortage(err) != nil || now != at || s.opts.State.Sealed() != "":
			return err
		}
		s.intake.end()
		s.intake.over(at)
		s.status.failing(err)
		s.report(cannotApply, err)
		if !sleep.For(ctx, wait) {
			return context.Cause(ctx)
		}
	}
}

// write applies a stretch. If the disk is full, it waits until there is space.
func (s *session) write(ctx context.Context, at kv.Index, st stretch) error {
	changes := st.all()
	for {
		err := s.opts.State.Apply(ctx, at, changes, st.upTo)
		switch {
		case err == nil:
			s.status.applied(st.upTo)
			s.pause.reset()
			s.setback = 0
			s.moved()
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, fsm.ErrDisorder):
			return err
		case storage.Shortage(err) == nil:
			return localError{err}
		}
		s.status.failing(localError{err})
		s.report(waiting[storage.Shortage(err)], err)
		if _, now := s.opts.State.Position(); now != at {
			return localError{err} // a part of it is there
		}
		if !sleep.For(ctx, localPause) {
			return context.Cause(ctx)
		}
	}
}

// received records that the master answered, and what it sent.
func (s *session) received(resp *serverpb.GetChangesResponse, bytes int) {
	_, at := s.opts.State.Position()
	s.status.heard(resp.GetMasterChangeNumber(), at, bytes)
	if bytes > 0 {
		s.served.Store(true)
	}
}

// orderRetry is the time between two checks whether there is space to carry out an order.
const orderRetry = time.Minute

// watchOrders returns when an operator has given up the copy, or when there is space to
// rebuild it.
func (s *session) watchOrders(ctx context.Context) error {
	retry := time.NewTicker(orderRetry)
	defer retry.Stop()
	for {
		select {
		case <-s.ordered:
			if _, is := s.opts.State.Ordered(); is {
				return errOrdered
			}
		case <-retry.C:
			if _, is := s.opts.State.Ordered(); is && s.opts.State.Fits(max(s.opts.State.Size(), s.needs)) == nil {
				return errOrdered
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// watchSources returns when the master is no longer among the live ones although there are
// others. If there are none at all, the registry is more likely at fault than the master.
func (s *session) watchSources(ctx context.Context) error {
	for {
		changed := s.opts.Sources.Changed()
		candidates := s.candidates()
		if _, there := source.At(candidates, s.source.Address); !there && len(candidates) > 0 && s.opts.Sources.Live() {
			return errGone
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}
