package local

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
)

// committer writes the proposals, in the goroutine of Run.
type committer struct {
	local   *Replica
	group   []*proposal
	entries []fsm.Entry
	results []command.Result
}

// drain commits all waiting proposals, group by group.
func (c *committer) drain() {
	waiting := c.local.queue.take()
	for len(waiting) > 0 {
		waiting = c.gather(waiting)
		if len(c.group) > 0 {
			c.commit()
		}
	}
}

// gather moves the next group out of waiting and returns the rest.
func (c *committer) gather(waiting []*proposal) []*proposal {
	clear(c.group)
	c.group = c.group[:0]
	bytes, costBytes, costOps := 0, 0, 0
	now := time.Now()
	for i, p := range waiting {
		moreBytes, moreOps := fsm.BatchCost(p.cmd)
		if len(c.group) > 0 && (bytes+p.size > maxGroupBytes || len(c.group) == maxGroupCommands ||
			!c.local.limit.Allows(costBytes+moreBytes, costOps+moreOps)) {
			return waiting[i:]
		}
		if p.state.CompareAndSwap(queued, taken) {
			p.begun = now
			c.group = append(c.group, p)
			bytes, costBytes, costOps = bytes+p.size, costBytes+moreBytes, costOps+moreOps
		} else {
			p.drop()
		}
	}
	return nil
}

// commit writes the group and answers it.
func (c *committer) commit() {
	l := c.local
	if err := l.state.Refusal(); err != nil && !c.allDuringRestore() {
		c.answer(err)
		return
	}
	m := l.state.Machine()
	// Not behind any read's clock: a key that a read found expired is expired for a
	// CompareAndSet that follows.
	clock := l.state.Clock(m)
	c.entries, c.results = c.entries[:0], c.results[:0]
	for i, p := range c.group {
		l.state.Stamp(p.cmd, clock)
		c.entries = append(c.entries, fsm.Entry{Index: m.Applied() + 1 + uint64(i), Command: p.cmd})
	}
	c.results = append(c.results, make([]command.Result, len(c.entries))...)
	err := m.Apply(c.entries, c.results, true)
	if err == nil {
		l.state.FollowClock(c.entries, c.results)
	}
	clear(c.entries)
	switch {
	case errors.Is(err, fsm.ErrUnread) && len(c.group) > 1:
		c.split()
		return
	case errors.Is(err, fsm.ErrUnread):
		c.answer(kv.Errorf(replica.KindOf(err), "%w", err))
		return
	case err != nil:
		l.fail(err)
		c.answer(kv.UnknownOutcome(replica.KindOf(err), fmt.Errorf("storage failed: %w", err)))
		return
	}
	l.state.Advance(m.Applied())
	for i, p := range c.group {
		p.result = c.results[i]
		p.err = refused(p.result.Code, m)
		p.answer()
	}
}

// refused returns why a command had no effect, for the codes that are errors.
func refused(code command.Code, m *fsm.Machine) error {
	switch code {
	case command.Paused:
		return replica.ErrPaused
	case command.Sealed:
		return replica.Sealed(m.Sealed())
	default:
		return nil
	}
}

// allDuringRestore reports whether the group is admitted during a restore.
func (c *committer) allDuringRestore() bool {
	return !slices.ContainsFunc(c.group, func(p *proposal) bool { return !c.local.duringRestore(p.cmd) })
}

// split commits the members of the group one by one, after some needed data that could not
// be read, so that only these fail.
func (c *committer) split() {
	members := slices.Clone(c.group)
	for _, p := range members {
		c.group = append(c.group[:0], p)
		c.commit()
	}
}

func (c *committer) answer(err error) {
	for _, p := range c.group {
		p.err = err
		p.answer()
	}
}
