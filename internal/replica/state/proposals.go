package state

import (
	"context"
	"errors"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fair"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
)

// Proposals bounds what is on its way through a log at once. A log is one queue: a command
// waits until all before it have been written, sent and applied, no matter who proposed them. So a
// client with a few large ones in it makes all others wait for seconds. Those that find no
// room wait in front of the log instead, where clients take turns. What keeps a log busy has
// room: beyond that a longer queue is only a longer wait.
//
// Commands are measured by what applying them costs, which covers both large values and
// many small pairs, or by what travels if that is more: the old value of a CompareAndSet is
// in the log of every member, though nothing of it is written by the engine. Small ones have
// room of their own, so that they never wait for large ones that wait: at most for those that
// are in the log.
type Proposals struct{ small, large *fair.Gate }

const (
	// smallCost is what a small command costs at most, in bytes of costOf.
	smallCost = 32 << 10
	// smallRoom and largeRoom are what all small commands in the log may cost together, and
	// all others. A single one may cost more.
	smallRoom, largeRoom = 4 << 20, 8 << 20
)

// NewProposals makes the bound of a log.
func NewProposals() *Proposals {
	return &Proposals{small: fair.New(smallRoom), large: fair.New(largeRoom)}
}

// Turn is the room that a command has in the log. The zero Turn is that of a command which
// needs none.
type Turn struct {
	of   *fair.Gate
	cost int
}

// End gives the room back, once the command has been applied or certainly never will be.
func (t Turn) End() {
	if t.of != nil {
		t.of.LeaveAs(t.cost)
	}
}

// costOf returns how much of the room a command takes.
func costOf(c *command.Command) int {
	applied, _ := fsm.BatchCost(c)
	return max(applied, c.Size())
}

// errLate ends the wait of a command in time.
var errLate = errors.New("too little of its time is left to write it")

// patience returns until when a command waits in front of the log if its caller waits until
// limit: for three quarters of the time that is left. The rest is for the log. In a line that
// is too long the first one has always waited for nearly as long as any may; if it then had no
// time left, the log would be busy with nothing but commands whose callers have just left.
func patience(limit time.Time) time.Time {
	left := time.Until(limit)
	return limit.Add(-left / 4)
}

// Begin waits until there is room for a command, for most of the time until ctx ends or limit is
// reached, unless that is zero. Its error means that the command was not proposed. Commands about
// the log itself do not wait.
func (p *Proposals) Begin(ctx context.Context, c *command.Command, limit time.Time) (Turn, error) {
	if ConcernsLog(c) {
		return Turn{}, nil
	}
	cost := costOf(c)
	t := Turn{of: p.small, cost: cost}
	if cost > smallCost {
		t.of = p.large
	}
	if t.of.TryEnterAs(cost) {
		return t, nil
	}
	trace := kv.TraceOf(ctx)
	defer trace.Since(kv.Queue, trace.Start())
	if end, ends := ctx.Deadline(); ends && (limit.IsZero() || end.Before(limit)) {
		limit = end
	}
	waiting := ctx
	if !limit.IsZero() {
		var cancel context.CancelFunc
		waiting, cancel = context.WithDeadlineCause(ctx, patience(limit), errLate)
		defer cancel()
	}
	if err := t.of.EnterAs(waiting, kv.PlaceOf(ctx).Client(), cost); err != nil {
		return Turn{}, kv.Errorf(kv.Exhausted, "the mutation waited for others in front of the log: %w; slow down and retry", err)
	}
	return t, nil
}
