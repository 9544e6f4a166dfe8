package state

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/storage/diskspace"
)

const (
	ReopenInterval = time.Second
	// reopenPatience is how long new reads wait for those that are under way: a stream
	// whose client has stopped reading may stay open forever.
	reopenPatience = 250 * time.Millisecond
	// viewPatience is how long reads that do not end may keep storage from being reopened.
	// They are cut off then, since no write is accepted meanwhile.
	viewPatience = 10 * time.Second
	// OpenRoom is how many bytes opening an engine writes, beyond what was in its memory,
	// and reopenFiles about how many files it opens, beyond those that it had open.
	OpenRoom    = 16 << 20
	reopenFiles = 16
)

// WhenThereIsSpace waits until the disk, and those of the other guards, have room again and
// files can be opened. It then calls reopen, each second, until that succeeds or the
// replica closes.
func (c *Store) WhenThereIsSpace(reopen func() error, also ...*diskspace.Guard) {
	t := time.NewTicker(ReopenInterval)
	defer t.Stop()
	last := ""
	for {
		select {
		case <-c.closing:
			return
		case <-t.C:
		}
		if c.opts.Guard.Low() || slices.ContainsFunc(also, (*diskspace.Guard).Low) || !diskspace.FilesLeft(reopenFiles) {
			continue
		}
		err := reopen()
		if err == nil {
			return
		}
		if err.Error() != last { // once per cause, not once a second
			last = err.Error()
			c.opts.Log.Error("writes do not resume yet", "vbucket", c.opts.VBucket, "error", err)
		}
	}
}

// Recover reopens the state of a replica that has failed, and ends the failure.
func (c *Store) Recover(load Loader) error {
	defer c.HoldState()()
	if c.State() != replica.Failed {
		return nil
	}
	if err := c.Reopen(load); err != nil {
		return err
	}
	c.Become(replica.Serving, nil, replica.Failed)
	c.opts.Log.Info("storage is writable again", "vbucket", c.opts.VBucket)
	return nil
}

// Reopen closes the engine after a failure and opens it again: then it is known whether the
// batch that failed was written. Reads are served until it is certain that this can be
// done, and wait meanwhile; if the engine does not open, they get an error that says so.
// The caller holds the lock of LockState.
func (c *Store) Reopen(load Loader) error {
	old := c.machine.Load()
	if old.Readable() {
		if err := c.opts.Guard.Fits(2*old.Stats().MemtableBytes + OpenRoom); err != nil {
			return err
		}
	}
	closed, err := c.closeForReopen(old)
	if !closed {
		c.SetUnreadable(nil) // wakes the readers that were rejected
		c.endLongReads()
		return fmt.Errorf("reads that are under way keep storage open; they are cut off when that has lasted for %v", c.opts.ViewPatience)
	}
	if err != nil {
		// It has failed before; what matters is whether it opens.
		c.opts.Log.Debug("storage does not close cleanly", "vbucket", c.opts.VBucket, "error", err)
	}
	m, err := c.openMachine(load)
	if err != nil {
		c.SetUnreadable(err)
		return fmt.Errorf("storage does not open, and nothing can be read until it does: %w", err)
	}
	m.Continue(old)
	c.replace(m)
	return nil
}

// closeForReopen closes the engine, unless reads are under way. Those that last for too
// long are cut off. The caller holds the lock of LockState.
func (c *Store) closeForReopen(old *fsm.Machine) (closed bool, err error) {
	patience, done := context.WithTimeout(context.Background(), reopenPatience)
	defer done()
	if c.heldUpSince.IsZero() {
		c.heldUpSince = time.Now()
	}
	if time.Since(c.heldUpSince) < c.opts.ViewPatience {
		closed, err = old.TryClose(patience)
	} else {
		var revoked int
		closed, revoked, err = old.TryCloseWithout(patience)
		if revoked > 0 {
			c.opts.Log.Warn("reads that have been under way for long were cut off, so that storage can be reopened", "vbucket", c.opts.VBucket, "reads", revoked)
		}
	}
	if closed {
		c.heldUpSince = time.Time{}
	}
	return closed, err
}

// WhenHeldUp has f called, now and then, while reads keep the replica from reopening its
// storage, and so from writing. f ends long reads that can begin again; it does not wait
// for their end.
func (c *Store) WhenHeldUp(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heldUp = f
}

func (c *Store) endLongReads() {
	c.mu.Lock()
	f := c.heldUp
	c.mu.Unlock()
	if f != nil {
		f()
	}
}
