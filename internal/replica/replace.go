package replica

import (
	"context"

	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
)

// lockState makes the caller the only one that replaces or copies the state,
// until it calls unlock.
func (l *Local) lockState(ctx context.Context) (unlock func(), err error) {
	select {
	case l.swapping <- struct{}{}:
	case <-l.closing:
		return nil, errClosed
	case <-ctx.Done():
		return nil, kv.Errorf(kv.Unavailable, "another backup or restore is under way: %w", ctx.Err())
	}
	unlock = func() { <-l.swapping }
	if l.State() == Closed {
		unlock()
		return nil, errClosed
	}
	return unlock, nil
}

// untilClosing returns a ctx that also ends when the replica closes: a backup
// takes as long as a disk is large.
func (l *Local) untilClosing(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-l.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// replace puts m in the place of the present machine.
func (l *Local) replace(m *fsm.Machine) {
	l.machine.Store(m)
	l.progress.advance(m.Applied())
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.replaced)
	l.replaced = make(chan struct{})
}

// do runs f between two groups of proposals, so that nothing is applied
// meanwhile.
func (l *Local) do(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	select {
	case l.exclusive <- func() { done <- f() }:
		return <-done
	case <-l.closing:
		return errClosed
	case <-l.stopped:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reopen closes the engine after a failure and opens it again. Reads wait
// meanwhile.
func (l *Local) reopen() error {
	l.swapping <- struct{}{}
	defer func() { <-l.swapping }()
	if l.State() != Failed {
		return nil
	}
	if err := l.machine.Load().Close(); err != nil {
		// It failed before; what matters is whether it opens.
		l.opts.Log.Warn("storage does not close cleanly", "vbucket", l.opts.VBucket, "error", err)
	}
	m, err := l.openMachine()
	if err != nil {
		return err
	}
	l.replace(m)
	l.become(Serving, nil, Failed)
	return nil
}
