package slave

import (
	"context"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
)

// Turns are those of the copies of a node that catch up by polls. What a copy has received and not
// applied yet takes some answers of a few MiB each: of a thousand copies that would be more than
// the memory of most machines. A stream's messages are small, and its master bounds them together.
type Turns struct{ places chan struct{} }

// AtOnce is how many copies catch up at once.
const AtOnce = 8

// NewTurns returns turns for so many copies at once.
func NewTurns(atOnce int) *Turns { return &Turns{make(chan struct{}, atOnce)} }

// turnLength is for how long a copy catches up before the next one has its turn.
const turnLength = 5 * time.Second

// turn is that of one session. The goroutine that polls uses it.
type turn struct {
	of    *Turns
	begun time.Time // zero if it has none
}

// await waits for a turn if the copy, which has received all up to an index, is behind. It returns false when ctx
// has ended.
func (t *turn) await(ctx context.Context, s *session, after kv.Index) bool {
	has := !t.begun.IsZero()
	switch {
	case t.of == nil || has && time.Since(t.begun) < turnLength:
		return true
	case has && !t.end(ctx, s, after):
		return false
	case after >= s.status.newest():
		return true
	}
	for ticker := s.asking(); ; {
		select {
		case t.of.places <- struct{}{}:
			ticker.Stop()
			t.begun = time.Now()
			return true
		case <-ticker.C:
			s.keepInTouch(ctx)
		case <-ctx.Done():
			ticker.Stop()
			return false
		}
	}
}

// end ends a turn, if there is one, when what was received up to an index is applied, or cannot be for
// now: others must not wait for that. It returns false when ctx has ended.
func (t *turn) end(ctx context.Context, s *session, after kv.Index) bool {
	if t.begun.IsZero() {
		return true
	}
	defer t.over()
	ticker := s.asking()
	defer ticker.Stop()
	for {
		changed := s.opts.Changed.Changed()
		if _, at := s.opts.State.Position(); at >= after || s.status.stuckHere() {
			return true
		}
		select {
		case <-changed:
		case <-ticker.C:
			s.keepInTouch(ctx)
		case <-ctx.Done():
			return false
		}
	}
}

// over gives the place to another copy.
func (t *turn) over() {
	if !t.begun.IsZero() {
		<-t.of.places
		t.begun = time.Time{}
	}
}

// asking returns when a session that waits asks the master how far it is.
func (s *session) asking() *time.Ticker { return time.NewTicker(s.opts.PollInterval) }

func (s *session) keepInTouch(ctx context.Context) {
	if resp, err := s.ask(ctx); err == nil {
		s.received(resp, 0)
	}
}
