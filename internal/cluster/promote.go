package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/sleep"
)

const (
	catchUpPoll    = 100 * time.Millisecond
	progressReport = 10 * time.Second
	// catchUpRound is how long a replica may take to apply what is applied here
	// when the round begins: one that needs longer is not close enough to vote,
	// since the log would have to wait for it.
	catchUpRound = 2 * time.Second
)

// behindError means that a replica did not catch up within a round. It has no kind, so
// that retry returns it, and settle waits on.
type behindError struct {
	applied, goal kv.Index
	// silence is why the replica does not say what it has applied; nil if it does.
	silence error
}

func (e *behindError) Error() string {
	if e.silence != nil {
		return e.silence.Error()
	}
	return fmt.Sprintf("it has applied %d of %d", e.applied, e.goal)
}

// settle waits until a replica has caught up, and gives it a vote unless it is to have
// none. It does not wait for one that votes already, which may be down. It waits for as
// long as the replica answers, however much there is to catch up with.
func (c *Cluster) settle(ctx context.Context, ch *change, l Log, n newcomer) error {
	heard, reported := time.Now(), time.Now()
	for {
		err := c.retry(ctx, func() error { return c.trySettle(ctx, ch, l, n) })
		behind, is := errors.AsType[*behindError](err)
		if !is {
			return err
		}
		if behind.silence == nil {
			heard = time.Now()
		}
		if time.Since(reported) > progressReport {
			reported = time.Now()
			c.log.Info("waiting for a new member to catch up", "member", n.id, "vbucket", l.VBucket, "reason", behind.Error())
		}
		if time.Since(heard) > c.patience || !sleep.For(ctx, catchUpPoll) {
			return kv.Errorf(kv.Unavailable, "member %d has not caught up yet (%w); it continues to catch up without a vote%s", n.id, behind, n.advice())
		}
	}
}

// trySettle is one attempt. The replica must be close behind at the moment when it gets
// its vote: from then on the log may need it for a majority.
func (c *Cluster) trySettle(ctx context.Context, ch *change, l Log, n newcomer) error {
	m, err := l.Membership(ctx)
	if err != nil {
		return err
	}
	p, is := m.At(n.address)
	switch {
	case !is:
		return kv.Errorf(kv.Precondition, "member %d was removed in the meantime", n.id)
	case p.Voting:
		return nil
	}
	if err := c.round(ctx, l, n.id); err != nil || n.nonVoting {
		return err
	}
	return ch.step(func() error { return l.Promote(ctx, n.id, n.address, m.Version) })
}

// round waits until a replica has applied what is applied here now. Its error is a
// behindError.
func (c *Cluster) round(ctx context.Context, l Log, id uint64) error {
	ctx, cancel := context.WithTimeout(ctx, catchUpRound)
	defer cancel()
	behind := &behindError{goal: l.Applied()}
	answered := false // in this round; a slow answer after that is no silence
	for {
		applied, err := c.appliedAt(ctx, l, id)
		switch {
		case err == nil && applied >= behind.goal:
			return nil
		case err == nil:
			behind.applied, behind.silence, answered = applied, nil, true
		case !answered:
			behind.silence = err
		}
		if !sleep.For(ctx, catchUpPoll) {
			return behind
		}
	}
}

// appliedAt asks a member what it has applied of a vBucket.
func (c *Cluster) appliedAt(ctx context.Context, l Log, id uint64) (kv.Index, error) {
	status, err := c.statusOf(ctx, id)
	if err != nil {
		return 0, err
	}
	switch v := vBucketIn(status, l.VBucket); {
	case v == nil:
		return 0, fmt.Errorf("it does not have vBucket %s", l.VBucket)
	case !takesPart(v):
		return 0, fmt.Errorf("its replica has stopped (%s): %s", v.GetState(), v.GetReason())
	default:
		return v.GetAppliedIndex(), nil
	}
}
