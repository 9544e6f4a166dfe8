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
	// reopenPatience is how long new reads are held up for those that are under
	// way: a stream whose reader has stopped reading may stay open for ever.
	reopenPatience = 250 * time.Millisecond
	// viewPatience is how long reads that go on and on may keep storage from being
	// opened again. They are given up then: no write is taken meanwhile.
	viewPatience = 10 * time.Second
	// OpenRoom is what opening an engine writes, beyond what was in its
	// memory, and reopenFiles about how many files it opens, beyond those that it
	// had open.
	OpenRoom    = 16 << 20
	reopenFiles = 16
)

// whenThereIsSpace calls reopen once the disk, and those of other guards, have room
// again, and files can be opened, until it succeeds or the replica closes.
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

// recoverState opens the state of a replica that has failed anew, and ends the
// failure.
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

// reopenState closes the engine after a failure and opens it again: whether the
// batch that failed is there is then known. Reads wait meanwhile, and go on until
// it is certain that this can be done; where it does not open, they are told so.
// The caller holds swapping.
func (c *Store) Reopen(load Loader) error {
	old := c.machine.Load()
	if old.Readable() {
		if err := c.opts.Guard.Fits(2*old.Stats().MemtableBytes + OpenRoom); err != nil {
			return err
		}
	}
	closed, err := c.closeForReopen(old)
	if !closed {
		c.SetUnreadable(nil) // wakes whoever was turned away
		c.endLongReads()
		return fmt.Errorf("reads that are under way keep storage open; they are given up when that has lasted for %v", c.opts.ViewPatience)
	}
	if err != nil {
		// It failed before; what matters is whether it opens.
		c.opts.Log.Debug("storage does not close cleanly", "vbucket", c.opts.VBucket, "error", err)
	}
	m, err := c.openMachine(load)
	if err != nil {
		c.SetUnreadable(err)
		return fmt.Errorf("storage does not open, and nothing can be read until it does: %w", err)
	}
	c.replace(m)
	return nil
}

// closeForReopen closes the engine, unless reads are under way. Those that hold it up
// for too long are given up. The caller holds swapping.
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
			c.opts.Log.Warn("reads that have been under way for long were given up, so that storage can be opened again", "vbucket", c.opts.VBucket, "reads", revoked)
		}
	}
	if closed {
		c.heldUpSince = time.Time{}
	}
	return closed, err
}

// WhenHeldUp has f called, now and then, while reads keep the replica from opening
// its storage anew, and with that from writing. f ends what reads for long and can
// begin again; it does not wait for that.
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
