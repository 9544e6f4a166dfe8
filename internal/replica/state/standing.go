package state

import (
	"errors"
	"fmt"
	"slices"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/storage"
)

// Standing is what a replica is doing, and with which error it refuses mutations
// meanwhile. It never changes; another one takes its place.
type Standing struct {
	State replica.State
	// Err is what failed if State is Failed.
	Err error
	// Refusal is nil if mutations are admitted.
	Refusal error
}

// retiredError is why a replica has stopped for good although its storage works.
type retiredError struct{ error }

func (e *retiredError) Unwrap() error { return e.error }

// Retired is the error to become Failed with of a replica that stops for good although its
// storage works.
func Retired(reason error) error {
	return &retiredError{fmt.Errorf("this replica has stopped: %w", reason)}
}

func newStanding(s replica.State, err error) *Standing {
	st := &Standing{State: s, Err: err}
	var retired *retiredError
	switch {
	case s == replica.Failed && errors.As(err, &retired):
		st.Refusal = kv.Errorf(kv.Unavailable, "%w", err)
	case s == replica.Failed && errors.Is(err, command.ErrNewer):
		st.Refusal = kv.Errorf(kv.Unavailable, "this replica has stopped: %w", err)
	case s == replica.Failed && Shortage(err) != nil:
		st.Refusal = kv.Errorf(kv.Exhausted, "storage failed, reads go on: %w; %s, writes resume by themselves", err, storage.Remedy(err))
	case s == replica.Failed:
		st.Refusal = kv.Errorf(kv.Unavailable, "storage failed, only reads are served: %w; repair it and restart, or restore a backup", err)
	case s == replica.Restoring:
		st.Refusal = replica.ErrRestoring
	case s == replica.Removed:
		st.Refusal = replica.ErrRemoved
	case s == replica.Closed:
		st.Refusal = replica.ErrClosed
	}
	return st
}

// Become moves the replica to another state if it is in one of those given (any, if none is
// given), and reports whether it did.
func (c *Store) Become(s replica.State, err error, from ...replica.State) bool {
	next := newStanding(s, err)
	for {
		now := c.standing.Load()
		if len(from) > 0 && !slices.Contains(from, now.State) {
			return false
		}
		if c.standing.CompareAndSwap(now, next) {
			c.opts.Changed.Raise()
			return true
		}
	}
}

// Refusal is the error that rejects a mutation in the present standing; nil if mutations
// are admitted. It costs a proposal one atomic load.
func (c *Store) Refusal() error { return c.standing.Load().Refusal }

// State is that of Status. It costs one atomic load.
func (c *Store) State() replica.State { return c.standing.Load().State }

// Standing returns what the replica is doing.
func (c *Store) Standing() Standing { return *c.standing.Load() }

// Cluster implements Replica.
func (c *Store) Cluster() string { return c.machine.Load().Identity().Cluster }

// Status returns the part of the status that does not depend on what keeps the log.
func (c *Store) Status() replica.Status {
	m, st := c.machine.Load(), c.standing.Load()
	s := replica.Status{
		VBucket:        c.opts.VBucket,
		State:          st.State,
		Commit:         m.Applied(),
		Applied:        m.Applied(),
		Clock:          m.Clock().Time(),
		Paused:         m.Paused(),
		Restoring:      m.Restoring(),
		Err:            st.Err,
		Identity:       m.Identity(),
		ChangelogFloor: m.ChangelogFloor(),
		ExpiredTotal:   m.ExpiredTotal(),
		Requests:       m.Requests(),
		Corruption:     m.Corruption(),
		Engine:         m.EngineKind(),
	}
	c.mu.Lock()
	s.Unreadable = c.unreadable
	c.mu.Unlock()
	switch {
	case st.Refusal != nil:
		s.ReadOnly = st.Refusal.Error()
	case s.Paused:
		s.ReadOnly = replica.ErrPaused.Error()
	default:
		s.ReadOnly = c.opts.Guard.Shortage()
	}
	return s
}

// Usage reports what the state takes.
func (c *Store) Usage() replica.Usage {
	m := c.machine.Load()
	u := replica.Usage{Storage: m.Stats()}
	u.ChangelogBytes, _ = m.ChangelogBytes() // a figure for a graph
	return u
}
