package state

import (
	"context"
	"errors"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/periodic"
	"github.com/dkvdb/dkv/internal/storage"
)

const (
	expireInterval = 500 * time.Millisecond
	// expireBatch bounds one Expire, so that a million keys that end in the
	// same second do not hold up the writes between them. Long keys are fewer.
	expireBatch = 1024

	TrimInterval = 5 * time.Second
)

// AddExpiry adds the task that proposes to delete expired keys. Reads hide them from the
// moment on; this frees their space and adds the deletes to the change stream.
func (c *Store) AddExpiry(tasks *periodic.Tasks) {
	last := ""
	report := func(err error) {
		if text := err.Error(); text != last { // once per cause, not twice a second
			last = text
			c.opts.Log.Warn("cannot expire keys", "vbucket", c.opts.VBucket, "error", err)
		}
	}
	tasks.Every(expireInterval, func(ctx context.Context) bool {
		m := c.machine.Load()
		if m.Paused() || c.Refusal() != nil || c.opts.Clock.Doubtful() {
			return false
		}
		due, more, err := m.Expiring(c.Clock(m), expireBatch)
		switch {
		case errors.Is(err, fsm.ErrClosed):
			return false // it is being replaced
		case err != nil:
			report(err)
			return false
		case len(due) == 0:
			return false
		}
		if _, err := c.propose(ctx, &command.Command{Kind: command.Expire, Mutations: due}); err != nil {
			if ctx.Err() == nil && kv.KindOf(err) != kv.NotOwner {
				report(err)
			}
			return false
		}
		last = ""
		return more
	})
}

// AddTrim adds the task that deletes changes that the retention does not keep. It calls
// fail with a storage error.
func (c *Store) AddTrim(tasks *periodic.Tasks, fail func(error)) {
	var idle idleTrim
	tasks.Every(TrimInterval, func(context.Context) bool {
		m := c.machine.Load()
		applied := m.Applied()
		if c.Refusal() != nil || idle.skip(m, applied) {
			return false
		}
		more, err := m.TrimChangelog(c.opts.Retention)
		switch {
		case err == nil && !more:
			idle.trimmed(m, applied)
			return false
		case err == nil:
			return true
		case errors.Is(err, fsm.ErrClosed) || m != c.machine.Load():
			return false // it is being replaced
		case errors.Is(err, storage.ErrCorrupt), errors.Is(err, storage.ErrNewer):
			c.opts.Log.Warn("cannot trim the changelog", "vbucket", c.opts.VBucket, "error", err)
			return false
		default:
			fail(err)
			return false
		}
	})
}

// idleTrims is how many times as long as TrimInterval a changelog is left alone to which
// nothing is added: only the age of its changes makes some of them superfluous.
const idleTrims = 12

// idleTrim decides when such a changelog is looked at again.
type idleTrim struct {
	of      *fsm.Machine
	applied kv.Index
	left    int
}

// skip reports whether there is nothing to be expected from trimming m at an index.
func (t *idleTrim) skip(m *fsm.Machine, applied kv.Index) bool {
	if t.of != m || t.applied != applied || t.left == 0 {
		return false
	}
	t.left--
	return true
}

// trimmed notes that m, at an index, has nothing left to trim.
func (t *idleTrim) trimmed(m *fsm.Machine, applied kv.Index) {
	t.of, t.applied, t.left = m, applied, idleTrims-1
}

const (
	relieveInterval = time.Second
	// relieveFrom is the size of memtables that are worth writing to free the space of
	// their log.
	relieveFrom = 4 << 20
)

// AddRelief adds the task that flushes memtables when the disk becomes full: their log is
// removed then, and the space that was reserved for them becomes free.
func (c *Store) AddRelief(tasks *periodic.Tasks) {
	tasks.Every(relieveInterval, func(context.Context) bool {
		if !c.opts.Guard.Low() || c.opts.Guard.Fault() != nil || c.Refusal() != nil {
			return false
		}
		owed, disk := c.owed(), c.opts.Guard.Usage()
		// Half of the reserve is for this.
		if owed < relieveFrom || disk.Free < owed+disk.Reserve/2 {
			return false
		}
		if err := c.machine.Load().Flush(); err != nil && !errors.Is(err, fsm.ErrClosed) {
			c.opts.Log.Warn("cannot write memtables on a disk that is nearly full", "vbucket", c.opts.VBucket, "error", err)
		}
		return false
	})
}
