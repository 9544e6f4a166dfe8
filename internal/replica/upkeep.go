package replica

import (
	"context"
	"errors"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/storage"
)

const (
	expireInterval = 500 * time.Millisecond
	// expireBatch bounds one Expire, so that a million keys that end in the
	// same second do not hold up the writes between them.
	expireBatch = 1024

	trimInterval = 5 * time.Second
)

// expireLoop takes expired keys out of the store. Reads hide them from the
// moment on; this frees the space and puts the deletes into the change stream.
func (l *Local) expireLoop(ctx context.Context) {
	every(ctx, expireInterval, func() bool {
		m := l.machine.Load()
		if m.Paused() || l.refusal() != nil {
			return false
		}
		due, err := m.Expiring(l.now(m), expireBatch)
		if errors.Is(err, fsm.ErrClosed) {
			return false // it is being replaced
		}
		if err != nil {
			l.opts.Log.Warn("cannot look for expired keys", "vbucket", l.opts.VBucket, "error", err)
			return false
		}
		if len(due) == 0 {
			return false
		}
		if _, err := l.Propose(ctx, &command.Command{Kind: command.Expire, Mutations: due}); err != nil {
			if ctx.Err() == nil {
				l.opts.Log.Warn("cannot expire keys", "vbucket", l.opts.VBucket, "error", err)
			}
			return false
		}
		return len(due) == expireBatch
	})
}

// trimLoop holds the changelog to its retention.
func (l *Local) trimLoop(ctx context.Context) {
	every(ctx, trimInterval, func() bool {
		if l.refusal() != nil {
			return false
		}
		m := l.machine.Load()
		more, err := m.TrimChangelog(l.opts.Retention)
		switch {
		case err == nil:
			return more
		case errors.Is(err, fsm.ErrClosed) || m != l.machine.Load():
			return false // it is being replaced
		case errors.Is(err, storage.ErrCorrupt):
			l.opts.Log.Warn("cannot trim the changelog", "vbucket", l.opts.VBucket, "error", err)
			return false
		default:
			l.fail(err)
			return false
		}
	})
}

// every calls step at each interval until ctx ends, and again at once while
// step says that there is more to do.
func every(ctx context.Context, interval time.Duration, step func() bool) {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		for ctx.Err() == nil && step() {
		}
	}
}
