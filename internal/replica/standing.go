package replica

import (
	"errors"
	"slices"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// standing is what a replica is doing, and with which error it refuses
// mutations meanwhile. It never changes; another one takes its place.
type standing struct {
	state State
	// err is what failed, where state is Failed.
	err error
	// refusal is nil where mutations are admitted.
	refusal error
}

var (
	errRestoring = kv.Errorf(kv.Unavailable, "a restore is under way; retry when it is done")
	errRemoved   = kv.Errorf(kv.Precondition, "this node was removed from the cluster; ask another one")
	errClosed    = kv.Errorf(kv.Unavailable, "%w", errQueueClosed)
)

func newStanding(s State, err error) *standing {
	st := &standing{state: s, err: err}
	var retired *retiredError
	switch {
	case s == Failed && errors.As(err, &retired):
		st.refusal = kv.Errorf(kv.Unavailable, "%w", err)
	case s == Failed && errors.Is(err, command.ErrNewer):
		st.refusal = kv.Errorf(kv.Unavailable, "this replica has stopped: %w", err)
	case s == Failed && storage.Shortage(err) != nil:
		st.refusal = kv.Errorf(kv.Exhausted, "storage failed, reads go on: %w; %s, writes resume by themselves", err, storage.Remedy(err))
	case s == Failed:
		st.refusal = kv.Errorf(kv.Unavailable, "storage failed, only reads are served: %w; repair it and restart, or restore a backup", err)
	case s == Restoring:
		st.refusal = errRestoring
	case s == Removed:
		st.refusal = errRemoved
	case s == Closed:
		st.refusal = errClosed
	}
	return st
}

// become moves the replica to another state, if it is in one of those given
// (any, where none is), and tells whether it was.
func (c *core) become(s State, err error, from ...State) bool {
	next := newStanding(s, err)
	for {
		now := c.standing.Load()
		if len(from) > 0 && !slices.Contains(from, now.state) {
			return false
		}
		if c.standing.CompareAndSwap(now, next) {
			return true
		}
	}
}

// refusal is the error of a mutation that the replica's state does not admit.
// It costs a proposal one atomic load.
func (c *core) refusal() error { return c.standing.Load().refusal }

// State tells what the replica is doing. Unlike Status it costs nothing.
func (c *core) State() State { return c.standing.Load().state }

// fail stops mutations after a storage error: nothing may be acknowledged on
// top of a write whose fate is open. A shortage is waited out; everything else needs
// an operator. Only what Run waits for may call it.
func (l *Local) fail(err error) {
	if !l.become(Failed, err, Starting, Serving, Restoring) {
		return // it has failed before
	}
	l.opts.Log.Error("storage failed; mutations are refused", "vbucket", l.opts.VBucket, "error", err)
	if storage.Shortage(err) != nil && l.opts.Generations != nil {
		l.later(func() { l.whenThereIsSpace(l.reopen) })
	}
}

// Status implements Replica.
func (l *Local) Status() Status {
	s := l.status()
	s.Mode = ModeLocal
	s.IsLeader = s.State != Closed
	s.Owner = l.Owner()
	return s
}

// Cluster implements Replica.
func (c *core) Cluster() string { return c.machine.Load().Identity().Cluster }

// status is what can be told of a replica whatever keeps its log.
func (c *core) status() Status {
	m, st := c.machine.Load(), c.standing.Load()
	s := Status{
		VBucket:        c.opts.VBucket,
		State:          st.state,
		Commit:         m.Applied(),
		Applied:        m.Applied(),
		Clock:          m.Clock().Time(),
		Paused:         m.Paused(),
		Err:            st.err,
		Identity:       m.Identity(),
		ChangelogFloor: m.ChangelogFloor(),
		ExpiredTotal:   m.ExpiredTotal(),
		Requests:       m.Requests(),
		Corruption:     m.Corruption(),
		Engine:         m.EngineKind(),
		Storage:        m.Stats(),
	}
	c.mu.Lock()
	s.Unreadable = c.unreadable
	c.mu.Unlock()
	s.ChangelogBytes, _ = m.ChangelogBytes() // a figure for a graph; 0 where it cannot be read
	switch {
	case st.refusal != nil:
		s.ReadOnly = st.refusal.Error()
	case s.Paused:
		s.ReadOnly = errPaused.Error()
	case c.opts.Guard.Low():
		s.ReadOnly = "the disk is nearly full; free some space, writes resume by themselves"
	}
	return s
}
