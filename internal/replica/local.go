package replica

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// LocalOptions are what a Local replica is made of.
type LocalOptions struct {
	StateOptions
	// BatchLimit is what the engine writes atomically.
	BatchLimit storage.BatchLimit
}

// Local is a Replica whose log is the engine's own: every group of waiting
// proposals becomes one engine batch with one fsync, after which all of them
// are acknowledged.
type Local struct {
	core
	limit storage.BatchLimit
	queue *queue
	// exclusive runs functions between two groups.
	exclusive chan func()
}

// groups bound what one engine batch takes in: beyond them a longer wait for
// the disk buys no more throughput.
const (
	maxGroupCommands = 4096
	maxGroupBytes    = 4 << 20
)

// OpenLocal opens the replica's present state. Nothing runs until Run does.
func OpenLocal(opts LocalOptions) (*Local, error) {
	l := &Local{
		limit:     opts.BatchLimit,
		queue:     newQueue(),
		exclusive: make(chan func()),
	}
	l.propose = l.Propose
	if err := l.init(opts.StateOptions, fsm.New); err != nil {
		return nil, err
	}
	return l, nil
}

// Run commits proposals until ctx ends, then finishes those that wait and
// returns. It is called once.
func (l *Local) Run(ctx context.Context) error {
	if !l.start() {
		return nil
	}
	l.serve()
	defer close(l.stopped)
	loops, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { l.expireLoop(loops) })
	wg.Go(func() { l.trimLoop(loops, l.fail) })
	wg.Go(func() { l.relieveLoop(loops) })
	c := committer{local: l}
	for {
		select {
		case <-l.queue.ready:
			l.queue.linger()
			c.drain()
			continue
		case f := <-l.exclusive:
			f()
			continue
		case <-ctx.Done():
		case <-l.closing:
		}
		l.queue.close()
		c.drain()
		return nil
	}
}

// Close ends Run, if it runs, as well as a backup or a restore, and closes the
// state once its readers are done. Proposals that still wait are not applied. It
// is idempotent.
func (l *Local) Close() error {
	return l.shut(func() {
		l.queue.close()
		c := committer{local: l}
		c.drain() // refuses what waited for a Run that never came
	})
}

// localOwner owns the log of one.
const localOwner = 1

// Owner implements Replica.
func (l *Local) Owner() Owner { return Owner{Self: true, ID: localOwner} }

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

// Propose implements Replica.
func (l *Local) Propose(ctx context.Context, c *command.Command) (command.Result, error) {
	if err := ctx.Err(); err != nil {
		return command.Result{}, kv.Errorf(kv.Unavailable, "the mutation came too late: %w", err)
	}
	size := c.Size()
	if err := l.admit(c, size); err != nil {
		return command.Result{}, err
	}
	trace := kv.TraceOf(ctx)
	begin := trace.Start()
	p := l.queue.proposal(c, size)
	if err := l.queue.push(p); err != nil {
		kind := kv.Unavailable
		if errors.Is(err, errQueueFull) {
			kind = kv.Exhausted
		}
		return command.Result{}, kv.Errorf(kind, "%w", err)
	}
	select {
	case <-p.done:
		trace.Wrote(begin, p.begun)
		return l.queue.settle(p)
	case <-ctx.Done():
		return l.giveUp(ctx, p)
	}
}

// giveUp ends a proposal whose caller does not wait any longer.
func (l *Local) giveUp(ctx context.Context, p *proposal) (command.Result, error) {
	if p.state.CompareAndSwap(queued, abandoned) {
		return command.Result{}, kv.Errorf(kv.Unavailable, "the mutation was still waiting: %w", ctx.Err())
	}
	select {
	case <-p.done: // it came to an end at the same time
		return l.queue.settle(p)
	default:
		return command.Result{}, kv.UnknownOutcome(kv.Unavailable,
			fmt.Errorf("the mutation was being written: %w", ctx.Err()))
	}
}

// admit refuses what cannot be written now.
func (l *Local) admit(c *command.Command, size int) error {
	if err := l.refusal(); err != nil && !l.duringRestore(c) {
		return err
	}
	if bytes, ops := fsm.BatchCost(c); !l.limit.Allows(bytes, ops) {
		return kv.Errorf(kv.Invalid,
			"the request may take %d bytes and %d operations to write, and the %s engine writes at most %d and %d at once; split it",
			bytes, ops, l.machine.Load().EngineKind(), l.limit.Bytes, l.limit.Ops)
	}
	if c.Kind >= command.SetPaused { // concerns the log, not the keyspace
		return nil
	}
	if l.machine.Load().Paused() {
		return errPaused
	}
	if err := l.opts.Guard.Admit(size, frees(c)); err != nil {
		return kv.Errorf(kv.Exhausted, "%w", err)
	}
	return nil
}

// duringRestore reports whether c only moves the clock of a state that is read while a
// restore builds another one.
func (l *Local) duringRestore(c *command.Command) bool {
	return c.Kind == command.Tick && l.State() == Restoring
}

var errPaused = kv.Errorf(kv.Precondition, "writes are paused; dkvctl -resumeWrites ends the pause")

// frees tells whether a command only removes keys.
func frees(c *command.Command) bool {
	for i := range c.Mutations {
		if !c.Mutations[i].Delete {
			return false
		}
	}
	return len(c.Mutations) > 0
}
