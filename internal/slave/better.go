package slave

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/dkvdb/dkv/internal/slave/source"
	"github.com/dkvdb/dkv/internal/sleep"
)

// betterMaster is the error that ends a session for a better master.
type betterMaster struct {
	address string
	// why is the reason why it is better.
	why string
}

func (b betterMaster) Error() string { return fmt.Sprintf("master %s is better: %s", b.address, b.why) }

const (
	// A move costs a pause of some milliseconds, so a better master must have been
	// available for betterFor, plus a random time of up to betterJitter: not all slaves
	// move at once to a master that lacks one.
	betterFor    = 10 * time.Second
	betterJitter = 20 * time.Second
	betterLook   = time.Second
	// outOfTouch is from which age of its state on a master is left. It is much more than members of
	// many vBuckets, which take turns, leave between two questions to the owner.
	outOfTouch = 2 * time.Minute
)

// inTouch is why a master is better that comes after the present one otherwise.
const inTouch = "the present one is out of touch with the owner of the log"

// watchBetter returns when there has been a better master for a while, and this slave can
// continue from it. While the list of masters is out of date, none is better, unless the present one
// is out of touch.
func (s *session) watchBetter(ctx context.Context) error {
	t := time.NewTicker(betterLook)
	defer t.Stop()
	hold := betterFor + rand.N(betterJitter)
	var since time.Time
	reason := ""
	for {
		redirected := s.directed.Changed()
		if err := s.misdirected(); err != nil {
			return err
		}
		select {
		case <-t.C:
		case <-redirected:
			continue
		case <-ctx.Done():
			return nil
		}
		best, why := s.better()
		if why != source.LaterEra && s.status.above().age >= s.mostAbove() {
			best, why = s.another()
		}
		switch {
		case why == "":
			reason = ""
		case why == source.LaterEra:
			if s.fits(ctx, best) {
				return betterMaster{best.Address, why}
			}
			s.chooser.Failed(best.Address, 0)
		case why != reason: // or other numbers of slaves: one that has moved is seen first
			since, reason = time.Now(), why
		case time.Since(since) < hold:
		case s.fits(ctx, best):
			return betterMaster{best.Address, why}
		default:
			s.chooser.Failed(best.Address, 0)
		}
	}
}

// better returns the best master, and why it is better than the present one; nothing if it
// is not better.
func (s *session) better() (source.Source, string) {
	if !s.opts.Sources.Live() {
		return source.Source{}, ""
	}
	candidates := s.candidates()
	id, _ := s.opts.State.Position()
	return s.chooser.Better(candidates, s.source.Address, id)
}

// mostAbove is the age from which on a master is out of touch with the owner of its log. Slaves that
// poll are as old as their interval, each in a chain.
func (s *session) mostAbove() time.Duration {
	return max(outOfTouch, quietIntervals*s.opts.PollInterval)
}

// another returns the best one of the other masters, also while the list of masters is out of date:
// this node and the present master may be cut off together. An owner that waits for this copy is not
// left, nor is the only master.
func (s *session) another() (source.Source, string) {
	candidates := s.candidates()
	id, _ := s.opts.State.Position()
	if other, there := s.chooser.Other(candidates, s.source.Address, id); there {
		return other, inTouch
	}
	return source.Source{}, ""
}

const (
	// levelPatience is how long the next master may take to reach this slave's index: a
	// follower is always some milliseconds behind the leader.
	levelPatience = 500 * time.Millisecond
	levelPause    = 20 * time.Millisecond
)

// fits reports whether the copy can continue from another master that is in touch with the owner of
// its log, while it follows the present one, or gives way to what that has; see Puller.next.
func (s *session) fits(ctx context.Context, other source.Source) bool {
	pr, err := s.opts.Pool.Peer(other.Address)
	if err != nil {
		return false
	}
	look := &session{Puller: s.Puller, source: other, peer: pr}
	if look.connect(ctx) != nil {
		return false
	}
	found, err := look.attachLevel(ctx)
	id, _ := s.opts.State.Position()
	switch {
	case err != nil:
		return false
	case found.verdict == fit:
		// Half, so that this slave does not move to and fro between masters that are near the limit.
		return look.above.age <= s.mostAbove()/2
	}
	return found.verdict == promoted || found.verdict == surplus && other.LaterThan(id)
}

// attachLevel is attach to a master that may take a moment to reach the copy's index.
func (s *session) attachLevel(ctx context.Context) (finding, error) {
	for until := time.Now().Add(levelPatience); ; {
		found, err := s.attach(ctx)
		if err != nil || found.verdict != behind || time.Now().After(until) || !sleep.For(ctx, levelPause) {
			return found, err
		}
	}
}
