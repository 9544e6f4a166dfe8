package state

import (
	"context"
	"errors"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
)

// answered reports whether a command is one that a client waits for, so that its answer
// passes the gate.
func answered(c *command.Command) bool { return c.Kind.ChangesKeys() && c.Kind != command.Expire }

// AdmitAnswer rejects a command that could not be acknowledged at present.
func (c *Store) AdmitAnswer(ctx context.Context, cmd *command.Command) error {
	if c.opts.Gate == nil || !answered(cmd) {
		return nil
	}
	return c.opts.Gate.Admit(ctx, cmd.Ack)
}

// Answer returns the result of an applied command once it may be told. Any result may be one
// that shows what earlier commands have done.
func (c *Store) Answer(ctx context.Context, cmd *command.Command, res command.Result) (command.Result, error) {
	if c.opts.Gate == nil || !answered(cmd) {
		return res, nil
	}
	trace := kv.TraceOf(ctx)
	begun := trace.Start()
	acked, err := c.opts.Gate.Await(ctx, res.Index, cmd.Ack)
	trace.Since(kv.Confirm, begun)
	if err != nil {
		return command.Result{}, err
	}
	res.Acked, res.History = acked, c.machine.Load().Identity().History
	return res, nil
}

// AwaitRestored returns once the state that a restore made at an index may be acknowledged. The
// caller holds no lock of this store, since slaves copy the state meanwhile.
func (c *Store) AwaitRestored(ctx context.Context, index kv.Index) error {
	if c.opts.Gate == nil {
		return nil
	}
	ctx, cancel := c.UntilClosing(ctx)
	defer cancel()
	_, err := c.opts.Gate.Await(ctx, index, kv.AckDefault)
	return err
}

// AwaitShown returns once what a linearizable read has seen may be shown.
func (c *Store) AwaitShown(ctx context.Context) error {
	if c.opts.Gate == nil {
		return nil
	}
	trace := kv.TraceOf(ctx)
	begun := trace.Start()
	_, err := c.opts.Gate.Await(ctx, replica.Shown, kv.AckDefault)
	trace.Since(kv.Confirm, begun)
	return err
}

// Shown returns the index of the newest entry of which a read that has ended may have seen
// anything. A batch that is being written may be seen before it is counted, so its end is awaited.
func (c *Store) Shown(ctx context.Context) (kv.Index, error) {
	m := c.machine.Load()
	if at := m.Applied(); !m.StandsAt(at) {
		switch _, err := c.progress.wait(ctx, c.closing, at+1); {
		case errors.Is(err, replica.ErrClosed):
			return 0, err
		case err != nil:
			return 0, kv.Errorf(kv.Unavailable, "what was read is still being written: %w", err)
		}
	}
	return c.machine.Load().LastEffect(), nil
}

// Usage is replica.Replica's.
func (s Shared) Usage() replica.Usage { return s.state.Usage() }

// Standbys returns the record of the nodes that the log's owner waits for, and the index of
// its last change; see fsm.Machine.Standbys.
func (s Shared) Standbys() (record []byte, changed kv.Index) {
	return s.state.machine.Load().Standbys()
}

// Tenure grows each time that the log gets another owner; it is 0 in a log with one owner for
// ever.
func (s Shared) Tenure() uint64 { return s.state.machine.Load().Epoch().Term }

// LastEffect is the index of the newest entry of which readers see anything; see
// fsm.Machine.LastEffect.
func (s Shared) LastEffect() kv.Index { return s.state.machine.Load().LastEffect() }

// History is the id of the history that indexes belong to.
func (s Shared) History() string { return s.state.machine.Load().Identity().History }

// Shown returns the index of the newest entry of which a read that has ended may have seen
// anything.
func (s Shared) Shown(ctx context.Context) (kv.Index, error) { return s.state.Shown(ctx) }
