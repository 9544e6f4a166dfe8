// Package local is the replica of a standalone node: its log is the write-ahead log of its
// engine, and it is always the owner. Proposals that wait share one batch and one fsync.
package local

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/periodic"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/state"
	"github.com/dkvdb/dkv/internal/storage"
)

// Options are what a replica is opened with.
type Options struct {
	state.Options
	// BatchLimit is what the engine writes atomically.
	BatchLimit storage.BatchLimit
}

// Replica is a replica.Replica whose log is its engine's own: each group of waiting
// proposals becomes one engine batch with one fsync, after which all of them are
// acknowledged.
type Replica struct {
	state.Shared
	opts  state.Options
	state *state.Store
	limit storage.BatchLimit
	queue *queue
	// proposals bounds what waits in the queue and is being written.
	proposals *state.Proposals
	// cures says of a restore that the state which it replaces has failed, so that nothing more
	// is written to it.
	cures atomic.Bool
	// exclusive runs functions between two groups.
	exclusive chan func()
	// retired is why nothing is read; nil if reads are served. It is set before Run.
	retired error
	// lent decides who may read the change stream and back the state up; nil is everyone.
	lent func(ctx context.Context) bool
}

// These bound a group. A larger one would only wait longer for the disk, without more
// throughput.
const (
	maxGroupCommands = 4096
	maxGroupBytes    = 4 << 20
)

// Open opens the replica's present state. Nothing runs until Run does.
func Open(opts Options) (*Replica, error) {
	l := &Replica{
		limit:     opts.BatchLimit,
		queue:     newQueue(),
		proposals: state.NewProposals(),
		exclusive: make(chan func()),
	}
	opts.Withheld = l.withheld
	var err error
	if l.state, err = state.Open(opts.Options, fsm.New, l.Propose); err != nil {
		return nil, err
	}
	l.Shared, l.opts = l.state.Shared(l.read), l.state.Options()
	return l, nil
}

// Run commits proposals until ctx ends, then commits those that wait and returns. It is
// called once.
func (l *Replica) Run(ctx context.Context) error {
	if !l.state.Start() {
		return nil
	}
	l.state.Serve()
	defer l.state.End()
	tasks := periodic.Start(ctx, 0)
	defer tasks.Stop()
	l.state.AddExpiry(tasks)
	l.state.AddTrim(tasks, l.fail)
	l.state.AddRelief(tasks)
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
		case <-l.state.Closing():
		}
		l.queue.close()
		c.drain()
		return nil
	}
}

// Close ends Run, if it runs, as well as a backup or a restore, and closes the state once
// its readers are done. Proposals that still wait are rejected. It is idempotent.
func (l *Replica) Close() error {
	return l.state.Close(func() {
		l.queue.close()
		c := committer{local: l}
		c.drain() // rejects proposals that waited for a Run that never came
	})
}

// Retire ends reads and mutations for good, before Run: another node keeps the log.
func (l *Replica) Retire(reason error) {
	l.state.Become(replica.Failed, state.Retired(reason), replica.Starting)
	l.retired = kv.Errorf(kv.Unavailable, "%w", reason)
}

// Lend has the change stream given only to callers that admits accepts, and no backup made, before
// Run: the state may have what was never committed.
func (l *Replica) Lend(admits func(ctx context.Context) bool) { l.lent = admits }

// Changes implements Replica.
func (l *Replica) Changes(ctx context.Context, from kv.Index, limit, maxBytes int) (fsm.Changes, error) {
	if l.lent != nil && !l.lent(ctx) {
		return fsm.Changes{}, l.retired
	}
	return l.Shared.Changes(ctx, from, limit, maxBytes)
}

// withheld returns why no backup of the state may be made; nil if one may.
func (l *Replica) withheld() error {
	if l.lent != nil {
		return l.retired
	}
	return nil
}

// localOwner is the id of the log's only member.
const localOwner = 1

// SetClock implements Replica.
func (l *Replica) SetClock(ctx context.Context, to time.Time) error { return l.state.SetClock(ctx, to) }

// Owner implements Replica.
func (l *Replica) Owner() replica.Owner { return replica.Owner{Self: true, ID: localOwner} }

// do runs f between two groups of proposals: nothing is applied meanwhile.
func (l *Replica) do(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	select {
	case l.exclusive <- func() { done <- f() }:
		return <-done
	case <-l.state.Closing():
		return replica.ErrClosed
	case <-l.state.Ended():
		return replica.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Propose implements Replica.
func (l *Replica) Propose(ctx context.Context, c *command.Command) (command.Result, error) {
	if err := ctx.Err(); err != nil {
		return command.Result{}, kv.Errorf(kv.Unavailable, "the mutation came too late: %w", err)
	}
	size := c.Size()
	if err := l.admit(ctx, c, size); err != nil {
		return command.Result{}, err
	}
	res, err := l.inTurn(ctx, c, size)
	if err != nil {
		return res, err
	}
	return l.state.Answer(ctx, c, res)
}

// inTurn writes a command once there is room for it in the queue. The room is given back when
// the queue no longer has the command.
func (l *Replica) inTurn(ctx context.Context, c *command.Command, size int) (command.Result, error) {
	turn, err := l.proposals.Begin(ctx, c, time.Time{})
	if err != nil {
		return command.Result{}, err
	}
	trace := kv.TraceOf(ctx)
	begin := trace.Start()
	p := l.queue.proposal(c, size, turn)
	if err := l.queue.push(p); err != nil {
		turn.End()
		return command.Result{}, err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		switch {
		case p.state.CompareAndSwap(queued, withdrawn):
			return command.Result{}, kv.Errorf(kv.Unavailable, "the mutation was still waiting: %w", ctx.Err())
		case p.state.CompareAndSwap(taken, left):
			return command.Result{}, kv.UnknownOutcome(kv.Unavailable,
				fmt.Errorf("the mutation was being written: %w", ctx.Err()))
		}
		<-p.done // it is answered at this moment
	}
	trace.Add(kv.Queue, begin, p.begun)
	trace.Since(kv.Commit, p.begun)
	return l.queue.settle(p)
}

// admit rejects a command that cannot be written at present.
func (l *Replica) admit(ctx context.Context, c *command.Command, size int) error {
	if err := l.state.Refusal(); err != nil && !l.duringRestore(c) {
		return err
	}
	if err := c.Check(); err != nil {
		return kv.Errorf(kv.Invalid, "not proposed: %w", err)
	}
	if bytes, ops := fsm.BatchCost(c); !l.limit.Allows(bytes, ops) {
		return kv.Errorf(kv.Invalid,
			"the request may take %d bytes and %d operations to write, and the %s engine writes at most %d and %d at once; split it",
			bytes, ops, l.state.Machine().EngineKind(), l.limit.Bytes, l.limit.Ops)
	}
	if state.Sealable(c) {
		if err := l.state.Unsealed(); err != nil {
			return err
		}
	}
	if state.ConcernsLog(c) {
		return nil
	}
	if l.state.Machine().Paused() {
		return replica.ErrPaused
	}
	if err := l.state.AdmitAnswer(ctx, c); err != nil {
		return err
	}
	if err := l.opts.Guard.Admit(size, state.Frees(c)); err != nil {
		return kv.Errorf(replica.KindOf(err), "%w", err)
	}
	return nil
}

// duringRestore reports whether c is applied to a state that is read while a restore builds its
// successor: it moves the clock, or it is about standbys and slaves, which the successor keeps.
// The owner's lease depends on the former: without it the standby would take over. The latter
// would be taken off their list after a long restore if they could not renew their entries.
func (l *Replica) duringRestore(c *command.Command) bool {
	switch c.Kind {
	case command.Tick, command.SetStandbys, command.SetSlave:
		return l.State() == replica.Restoring && !l.cures.Load()
	default:
		return false
	}
}
