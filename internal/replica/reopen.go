package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dkvdb/dkv/internal/fsm"
)

const (
	reopenInterval = time.Second
	// reopenPatience is how long new reads are held up for those that are under
	// way: a stream whose reader has stopped reading may stay open for ever.
	reopenPatience = 250 * time.Millisecond
	// reopenRoom is what opening an engine writes, beyond what was in its
	// memory.
	reopenRoom = 16 << 20
)

var errStillRead = errors.New("reads that have been under way for long keep storage open; end them, or restart the node")

// reopenWhenThereIsSpace opens the engine anew once the disk has room again:
// whether the batch that failed is there is then known. Reads go on until it is
// certain that this can be done.
func (l *Local) reopenWhenThereIsSpace() {
	t := time.NewTicker(reopenInterval)
	defer t.Stop()
	last := ""
	for {
		select {
		case <-l.closing:
			return
		case <-t.C:
		}
		if l.opts.Guard.Low() {
			continue
		}
		err := l.reopen()
		if err == nil {
			return
		}
		if err.Error() != last { // once per cause, not once a second
			last = err.Error()
			l.opts.Log.Error("writes do not resume yet", "vbucket", l.opts.VBucket, "error", err)
		}
	}
}

// reopen closes the engine after a failure and opens it again. Reads wait
// meanwhile; where it does not open, they are told so.
func (l *Local) reopen() error {
	l.swapping <- struct{}{}
	defer func() { <-l.swapping }()
	if l.State() != Failed {
		return nil
	}
	old := l.machine.Load()
	if old.Readable() {
		if err := l.opts.Guard.Fits(2*old.Stats().MemtableBytes + reopenRoom); err != nil {
			return err
		}
	}
	patience, done := context.WithTimeout(context.Background(), reopenPatience)
	defer done()
	closed, err := old.TryClose(patience)
	if !closed {
		l.setUnreadable(nil) // wakes whoever was turned away
		return errStillRead
	}
	if err != nil {
		// It failed before; what matters is whether it opens.
		l.opts.Log.Debug("storage does not close cleanly", "vbucket", l.opts.VBucket, "error", err)
	}
	m, err := l.openMachine(fsm.New)
	if err != nil {
		l.setUnreadable(err)
		return fmt.Errorf("storage does not open, and nothing can be read until it does: %w", err)
	}
	l.replace(m)
	l.become(Serving, nil, Failed)
	l.opts.Log.Info("storage is writable again", "vbucket", l.opts.VBucket)
	return nil
}
