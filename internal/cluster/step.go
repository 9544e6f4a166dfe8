package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/route"
	"github.com/dkvdb/dkv/internal/sleep"
)

const (
	// changeTimeout bounds a change of the membership, which may have to wait until
	// a node has caught up with a large state.
	changeTimeout = 30 * time.Minute
	// stepPatience bounds the attempts at one step of it, and how long a node that
	// catches up may be silent.
	stepPatience = time.Minute
	// retryPause is the time between two attempts at a step: another change, or an
	// election, is under way.
	retryPause = 50 * time.Millisecond
)

// change is a change of the membership in several steps.
type change struct {
	// made reports whether a step has taken effect, or may have.
	made bool
}

// step makes one step, and records whether it may have taken effect.
func (ch *change) step(f func() error) error {
	err := f()
	if err == nil || kv.OutcomeOf(err) == kv.Unknown {
		ch.made = true
	}
	return err
}

// outcome adds to the error of a change whether any step of it may have taken effect.
func (ch *change) outcome(err error) error {
	switch {
	case err == nil:
		return nil
	case ch.made:
		return kv.UnknownOutcome(kv.KindOf(err), err)
	default:
		return kv.Errorf(kv.KindOf(err), "%w", err)
	}
}

// reply is the answer to a request that changes the membership or a leader. Its error says
// what became of the change.
func reply(err error) (*serverpb.Status, error) {
	if err != nil {
		return nil, route.Call{Mutates: true}.Explain(err)
	}
	return &serverpb.Status{}, nil
}

// retry calls f again while it is unavailable, for at most patience. It does not
// use route.Repeat: the steps of a change may take minutes each, so that what is bounded is
// the time since they began to fail, and the pauses need not be short.
func (c *Cluster) retry(ctx context.Context, f func() error) error {
	var failed time.Time
	for {
		err := f()
		switch {
		case err == nil || kv.KindOf(err) != kv.Unavailable:
			return err
		case failed.IsZero():
			failed = time.Now() // not the beginning: an attempt may have taken long
		case time.Since(failed) > c.patience:
			return fmt.Errorf("given up after %v: %w", c.patience, err)
		}
		if !sleep.For(ctx, retryPause) {
			return err
		}
	}
}

// exclusively calls f while no other change of the membership is under way here.
func (c *Cluster) exclusively(ctx context.Context, f func() error) error {
	select {
	case c.changing <- struct{}{}:
		defer func() { <-c.changing }()
		return f()
	case <-ctx.Done():
		return kv.Errorf(kv.Unavailable, "another change of the membership is under way: %w", ctx.Err())
	}
}
