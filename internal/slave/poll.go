package slave

import (
	"context"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/sleep"
)

// poll asks for changes: at once while there are more, otherwise at an interval, or when a
// reader waits for them.
func (s *session) poll(ctx context.Context, after kv.Index, out chan<- stretch) error {
	t := time.NewTimer(0)
	defer t.Stop()
	turn := turn{of: s.opts.Turns}
	defer turn.over()
	for {
		if !turn.await(ctx, s, after) {
			return nil
		}
		begun := time.Now()
		resp, err := s.getChanges(ctx, after, 0)
		if err != nil {
			return err
		}
		st, err := s.stretchOf(resp, after)
		if err != nil {
			return err
		}
		if err := s.confirm(ctx, resp, after); err != nil {
			return err
		}
		s.received(resp, st.bytes)
		st.claim = claimOf(resp, begun)
		if n := len(st.changes); n > 0 {
			s.last = markOf(&st.changes[n-1])
		}
		if !s.hand(ctx, st, out, &turn) {
			return nil
		}
		if after = st.upTo; after < resp.GetMasterChangeNumber() {
			continue
		}
		if !turn.end(ctx, s, after) {
			return nil
		}
		t.Reset(s.opts.PollInterval)
		select {
		case <-t.C:
		case <-s.opts.State.Wanted():
			if !sleep.For(ctx, wantedPause) {
				return nil
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// wantedPause is the least time between two questions that waiting readers cause.
const wantedPause = 20 * time.Millisecond

// confirmBytes is the largest change that is asked for again if none has come after it.
const confirmBytes = 256 << 10

// confirm checks that the master's log, up to a number, is still the one that was
// received. Unlike a stream, polls continue after the master's restart, after which its
// log may end earlier or have other changes.
func (s *session) confirm(ctx context.Context, resp *serverpb.GetChangesResponse, after kv.Index) error {
	newest := resp.GetMasterChangeNumber()
	if newest < after {
		return kv.Errorf(kv.Precondition, "the master's newest change is %d, and it had %d before", newest, after)
	}
	if s.last.index == 0 || len(resp.GetChanges()) == 0 && s.last.bytes > confirmBytes {
		return nil
	}
	had, err := s.peek(ctx, s.last.index)
	switch {
	case kv.KindOf(err) == kv.OutOfRange:
		s.last = mark{} // trimmed since
		return nil
	case err != nil:
		return err
	case had.GetHistoryId() == s.history && !s.last.holds(had, after):
		return kv.Errorf(kv.Precondition, "the master has another change %d than before", s.last.index)
	}
	return nil
}

// hand passes a stretch to out. While that takes long, it keeps asking the master how far
// it is, and others have their turn if nothing can be applied here. It returns false when ctx has ended.
func (s *session) hand(ctx context.Context, st stretch, out chan<- stretch, turn *turn) bool {
	t := s.asking()
	defer t.Stop()
	for {
		select {
		case out <- st:
			s.intake.reach(s.history, st.upTo)
			s.moved()
			return true
		case <-t.C:
			if s.status.stuckHere() {
				turn.over()
			}
			s.keepInTouch(ctx)
		case <-ctx.Done():
			return false
		}
	}
}
