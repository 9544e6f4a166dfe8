package confirm

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
)

// silent reports whether nothing asks for more than kv.AckAsync. It takes no lock, so that a
// database without standbys pays nothing.
func (l *Log) silent(want kv.Ack) bool {
	if l.opts.Level > kv.AckAsync || want > kv.AckAsync {
		return false
	}
	_, changed := l.state.Standbys()
	return changed == 0 && !l.opts.Leases || changed != 0 && changed == l.quiet.Load()
}

// errAll rejects a level that this log cannot reach.
var errAll = kv.Errorf(kv.Unimplemented, "ack level all is not available for this log; use sync")

// Admit implements replica.Gate.
func (l *Log) Admit(_ context.Context, want kv.Ack) error {
	if max(want, l.opts.Level) >= kv.AckAll && l.everyone == nil {
		return errAll
	}
	if l.silent(want) {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refresh()
	_, _, err := l.promise(want)
	if err != nil {
		l.counts.refused.Add(1)
	}
	return err
}

// Await implements replica.Gate.
func (l *Log) Await(ctx context.Context, index kv.Index, want kv.Ack) (kv.Ack, error) {
	if l.silent(want) {
		return kv.AckAsync, nil
	}
	index, err := l.target(ctx, index)
	if err != nil {
		return 0, err
	}
	if (max(want, l.opts.Level) >= kv.AckAll || l.all.Load()) && l.everyone != nil {
		return l.awaitAll(ctx, index, want)
	}
	return l.awaitStandbys(ctx, index, want)
}

// awaitAll awaits the standbys and meanwhile every other node that keeps the log.
func (l *Log) awaitAll(ctx context.Context, index kv.Index, want kv.Ack) (kv.Ack, error) {
	limited, cancel := context.WithTimeout(ctx, l.opts.Patience)
	defer cancel()
	everyone, began := make(chan error, 1), time.Now()
	go func() { everyone <- l.everyone.Await(limited, index) }()
	reached, err := l.awaitStandbys(ctx, index, want)
	if err != nil || reached <= kv.AckAsync { // it has failed, or falls back
		cancel()
		<-everyone
		return reached, err
	}
	if err := <-everyone; err != nil {
		l.counts.unconfirmed.Add(1)
		return 0, unconfirmed(err)
	}
	l.counts.waited(kv.AckAll, time.Since(began))
	return kv.AckAll, nil
}

// awaitStandbys returns once the standing set has confirmed an index.
func (l *Log) awaitStandbys(ctx context.Context, index kv.Index, want kv.Ack) (kv.Ack, error) {
	w, answer := l.enter(index, want)
	if w == nil {
		return answer.reached, answer.err
	}
	patience := time.NewTimer(l.opts.Patience)
	defer patience.Stop()
	select {
	case answer := <-w.done:
		l.waiters.Put(w)
		return answer.reached, answer.err
	case <-ctx.Done():
		return l.giveUp(w, context.Cause(ctx))
	case <-patience.C:
		return l.giveUp(w, fmt.Errorf("after %v", l.opts.Patience))
	}
}

// target is the index that slaves must have confirmed before an answer up to an index. Of an
// entry of which readers see nothing there is nothing to lose.
func (l *Log) target(ctx context.Context, index kv.Index) (kv.Index, error) {
	if index == replica.Shown {
		return l.state.Shown(ctx)
	}
	return min(index, l.state.LastEffect()), nil
}

// enter returns the answer if there is nothing to wait for, and otherwise a waiter.
func (l *Log) enter(index kv.Index, want kv.Ack) (*waiter, answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refresh()
	w, _ := l.waiters.Get().(*waiter)
	if w == nil {
		w = &waiter{done: make(chan answer, 1)}
	}
	w.index, w.want, w.since = index, want, time.Now()
	l.askSync(w)
	if a, done := l.judge(w, l.floors()); done {
		l.waiters.Put(w)
		return nil, a
	}
	if level, pending, err := l.promise(want); err == nil && !pending {
		l.await(index, level, w.since)
	}
	l.waiting = append(l.waiting, w)
	return w, answer{}
}

// syncStretch is for how long standbys sync what they apply after a single request has asked
// for it.
const syncStretch = 10 * time.Second

// askSync has standbys sync what they apply, for a request that asks for more than the
// standing set promises. l.mu is held.
func (l *Log) askSync(w *waiter) {
	if w.want < kv.AckSync || max(l.opts.Level, l.set.Level) >= kv.AckSync {
		return
	}
	if !w.since.Before(l.syncUntil) {
		l.opts.Changed.Raise()
	}
	l.syncUntil = w.since.Add(syncStretch)
}

// giveUp ends the wait of a caller that waits no longer.
func (l *Log) giveUp(w *waiter, cause error) (kv.Ack, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case a := <-w.done: // it was answered at the same moment
		l.waiters.Put(w)
		return a.reached, a.err
	default:
	}
	l.remove(w)
	l.counts.unconfirmed.Add(1)
	return 0, l.notConfirmed(w, cause)
}

// notConfirmed is the error of an answer that standbys have not confirmed.
func (l *Log) notConfirmed(w *waiter, cause error) error {
	level, pending, err := l.promise(w.want)
	switch {
	case err != nil:
		return unconfirmed(err)
	case pending:
		return unconfirmed(fmt.Errorf("no slave stands by for level %v, and the log does not say so yet: %w", level, cause))
	}
	var missing []string
	for i := range l.set.Nodes {
		n := &l.set.Nodes[i]
		if l.reached(n.Disk, level) < w.index {
			missing = append(missing, n.Address)
		}
	}
	return unconfirmed(fmt.Errorf("level %v needs the slaves %s: %w", level, strings.Join(missing, ", "), cause))
}

// unconfirmed says that a state is applied here and must not be shown.
func unconfirmed(err error) error {
	return kv.UnknownOutcome(kv.NotConfirmed, fmt.Errorf("applied here, not confirmed: %w", err))
}
