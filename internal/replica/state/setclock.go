package state

import (
	"context"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
)

// Stamp sets a command's clock, unless the command is one that sets the log's.
func (c *Store) Stamp(cmd *command.Command, now kv.Clock) {
	if cmd.Kind != command.SetClock {
		cmd.Clock = now
	}
}

// FollowClock resets this node's clock if a command has set the log's.
func (c *Store) FollowClock(entries []fsm.Entry, results []command.Result) {
	for i := range entries {
		cmd := entries[i].Command
		if cmd != nil && cmd.Kind == command.SetClock && results[i].Code == command.OK {
			c.opts.Clock.Reset(cmd.Clock.Time())
		}
	}
}

// SetClock implements Replica for one that has a log.
func (c *Store) SetClock(ctx context.Context, to time.Time) error {
	now, known := c.opts.Clock.Majority()
	if !known {
		return kv.Errorf(kv.Unavailable, "the clocks of a majority of the members are not known to this node yet; retry")
	}
	if to.IsZero() {
		to = now
	}
	if off, most := to.Sub(now), c.opts.Clock.MaxJump(); off.Abs() > most {
		return kv.Errorf(kv.Invalid, "the log's clock cannot be set to %s: by the clocks of a majority of the members it is %s, and max-clock-jump is %v; "+
			"set the machines' clocks right first", stated(to), stated(now), most)
	}
	if c.machine.Load().Restoring() {
		return replica.ErrRestoring // which would be cut short
	}
	from := c.machine.Load().Clock()
	res, err := c.propose(ctx, &command.Command{Kind: command.SetClock, Clock: kv.ClockOf(to)})
	switch {
	case err != nil:
		return err
	case res.Code != command.OK:
		return kv.Errorf(kv.Internal, "%v: %v", command.SetClock, res.Code)
	}
	c.opts.Log.Warn("the log's clock was set", "vbucket", c.opts.VBucket, "from", stated(from.Time()), "to", stated(to))
	return nil
}

// stated formats a time for errors and logs.
func stated(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
