package raft

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/lni/dragonboat/v4"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/raft/host"
	"github.com/dkvdb/dkv/internal/replica/raft/lease"
	"github.com/dkvdb/dkv/internal/replica/state"
	"github.com/dkvdb/dkv/internal/storage/diskspace"
)

// Propose implements replica.Replica. Only the log's owner serves it; at other members the
// error is a kv.NotOwner. A command that is not fenced, as Unseal, is proposed by any member,
// since there may be no owner.
func (r *Replica) Propose(ctx context.Context, c *command.Command) (command.Result, error) {
	if err := ctx.Err(); err != nil {
		return command.Result{}, kv.Errorf(kv.Unavailable, "the mutation came too late: %w", err)
	}
	if err := r.admit(c); err != nil {
		return command.Result{}, err
	}
	if !c.Kind.Fenced() {
		return (group{r}).propose(ctx, c)
	}
	c = r.lowered(c)
	limit := time.Now().Add(r.raft.Timeout)
	// Who asks the wrong node hears so at once, however many wait.
	if _, err := r.owns(ctx, limit); err != nil {
		return command.Result{}, err
	}
	res, err := r.inTurn(ctx, c, limit)
	if err != nil {
		return command.Result{}, err
	}
	return r.state.Answer(ctx, c, res)
}

// inTurn proposes a command once there is room for it in the log, and gives the room back.
func (r *Replica) inTurn(ctx context.Context, c *command.Command, limit time.Time) (command.Result, error) {
	turn, err := r.proposals.Begin(ctx, c, limit)
	if err != nil {
		return command.Result{}, err
	}
	var left *dragonboat.RequestState
	defer func() {
		if left != nil {
			r.outlive(leftover{left, turn})
		} else {
			turn.End()
		}
	}()
	var res command.Result
	res, left, err = r.inEpoch(ctx, c, limit)
	return res, err
}

// inEpoch proposes a command that has room in the log, in each epoch until one takes it, and
// before it what the log must have first. If it is given up while the log has either, left is
// the request.
func (r *Replica) inEpoch(ctx context.Context, c *command.Command, limit time.Time) (res command.Result, left *dragonboat.RequestState, err error) {
	trace := kv.TraceOf(ctx)
	for {
		next := r.nextFor(c)
		begin := trace.Start()
		epoch, err := r.epoch(ctx, next, limit)
		if err != nil {
			return command.Result{}, nil, err
		}
		if err := r.state.AdmitAnswer(ctx, c); err != nil {
			return command.Result{}, nil, err
		}
		taken := trace.Start()
		next.Fence = epoch
		r.state.Stamp(next, r.state.Clock(r.state.Machine()))
		res, left, err := r.appendOrLeave(ctx, next, time.Until(limit))
		trace.Add(kv.LeaseWait, begin, taken)
		if err == nil {
			r.moments.trace(trace, taken, res.Index-r.state.Machine().Base())
		} else {
			trace.Since(kv.Commit, taken)
		}
		switch {
		case err != nil && next != c:
			// Whatever became of the format, the command itself was not proposed.
			return command.Result{}, left, kv.Errorf(kv.KindOf(err), "the format of the log, which comes before this mutation, is not written: %w; the mutation itself was not applied, retry", err)
		case err != nil:
			return command.Result{}, left, err
		case res.Code == command.Fenced:
			// Certainly not applied: it is proposed again in the next epoch, if that is
			// ours.
			r.keeper.Fenced(epoch)
			continue
		case res.Code == command.Sealed:
			return command.Result{}, nil, replica.Sealed(r.state.Machine().Sealed())
		case res.Code == command.Restoring:
			return command.Result{}, nil, replica.ErrRestoring
		case res.Code == command.Paused:
			return command.Result{}, nil, replica.ErrPaused
		case next != c:
			continue
		}
		return res, nil, nil
	}
}

// nextFor returns what is proposed next so that c can be: c itself, or the format that was agreed
// on when the log was begun, if the log does not say it yet and c has an id. A change is recorded
// with its request from a format on, and what was recorded without it stays so: after a promotion
// a repeat would be applied again. Several callers may propose the format at once; only one of
// these has an effect.
func (r *Replica) nextFor(c *command.Command) *command.Command {
	if c.Request.IsZero() || r.state.Machine().Format() >= r.raft.Agreed {
		return c
	}
	return &command.Command{Kind: command.SetFormat, Delta: int64(r.raft.Agreed)}
}

// owns waits until this replica owns the log, at most until limit, and returns the epoch. Only
// if that has to be waited for is the limit worth a context of its own.
func (r *Replica) owns(ctx context.Context, limit time.Time) (kv.Index, error) {
	if epoch, active := r.keeper.Active(); active {
		return epoch, nil
	}
	ctx, cancel := context.WithDeadline(ctx, limit)
	defer cancel()
	epoch, err := r.keeper.Epoch(ctx)
	return epoch, ownership(err)
}

// epoch returns the epoch to propose a command in, once the log can take it. A format has no
// time.
func (r *Replica) epoch(ctx context.Context, c *command.Command, limit time.Time) (kv.Index, error) {
	epoch, err := r.owns(ctx, limit)
	if err != nil || c.Kind == command.SetFormat || r.state.Machine().Clock() != 0 {
		return epoch, err
	}
	ctx, cancel := context.WithDeadline(ctx, limit)
	defer cancel()
	return epoch, r.awaitTime(ctx)
}

// SetClock implements Replica.
func (r *Replica) SetClock(ctx context.Context, to time.Time) error { return r.state.SetClock(ctx, to) }

// timePatience is how long the first mutation of a new log waits for the members' clocks.
const timePatience = 3 * time.Second

// awaitTime waits, before the first mutation of a new log, until the clocks of a majority
// are known, for timePatience at most. The log has no clock yet, and a change without a
// time would be years old: too old for the changelog to keep it.
func (r *Replica) awaitTime(ctx context.Context) error {
	var patience <-chan time.Time
	for {
		known, changed := r.opts.Clock.Await()
		if known {
			return nil
		}
		if patience == nil {
			patience = time.After(timePatience)
		}
		select {
		case <-changed:
		case <-patience:
			return nil // the others' clocks are not available, and the log can do without them
		case <-r.state.Closing():
			return replica.ErrClosed
		case <-ctx.Done():
			return kv.Errorf(kv.Unavailable, "a new log waits for the members' clocks: %w; retry", ctx.Err())
		}
	}
}

// admit rejects a command that cannot be written at present.
func (r *Replica) admit(c *command.Command) error {
	if err := r.state.Refusal(); err != nil {
		return err
	}
	if state.Sealable(c) {
		if err := r.state.Unsealed(); err != nil {
			return err
		}
	}
	if state.ConcernsLog(c) {
		return nil
	}
	switch m := r.state.Machine(); {
	case m.Restoring():
		return replica.ErrRestoring
	case m.Paused():
		return replica.ErrPaused
	}
	for _, guard := range []*diskspace.Guard{r.opts.Guard, r.host.Guard()} {
		if err := guard.Admit(c.Size(), state.Frees(c)); err != nil {
			return kv.Errorf(replica.KindOf(err), "%w", err)
		}
	}
	return nil
}

// bounded gives ctx the replica's own deadline if it has none or a later one.
func (r *Replica) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= r.raft.Timeout {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, r.raft.Timeout)
}

// ownership turns the lease keeper's errors into those of a replica.
func ownership(err error) error {
	if errors.Is(err, lease.ErrNotOwner) {
		return replica.ErrNotOwner
	}
	return err
}

// encodings are buffers for encoded commands, which Dragonboat copies.
var encodings = sync.Pool{New: func() any { return new([]byte) }}

// maxPooled is the size, in bytes, of the largest buffer that is kept for another command.
const maxPooled = 64 << 10

// append appends c to the log and waits until it is applied here, at most for patience.
func (r *Replica) append(ctx context.Context, c *command.Command, patience time.Duration) (command.Result, error) {
	res, _, err := r.appendOrLeave(ctx, c, patience)
	return res, err
}

// appendOrLeave is append. If it waits no longer while the log has the command, left is the
// request.
func (r *Replica) appendOrLeave(ctx context.Context, c *command.Command, patience time.Duration) (res command.Result, left *dragonboat.RequestState, err error) {
	if err := r.admitFormat(c); err != nil {
		return command.Result{}, nil, err
	}
	if err := c.Check(); err != nil { // in the log it would stop every member for good
		return command.Result{}, nil, kv.Errorf(kv.Invalid, "not proposed: %w", err)
	}
	buf := encodings.Get().(*[]byte)
	*buf = c.Append((*buf)[:0])
	command.ForLog(*buf, r.Format())
	rs, err := r.submit(*buf, patience)
	if cap(*buf) <= maxPooled {
		encodings.Put(buf)
	}
	if err != nil {
		return command.Result{}, nil, err
	}
	return r.await(ctx, rs, c.Kind.Fenced(), patience)
}

// submit hands an encoded command to Dragonboat. An error means that it was not proposed.
func (r *Replica) submit(encoded []byte, patience time.Duration) (rs *dragonboat.RequestState, err error) {
	if len(encoded) > host.LargestEntry {
		return nil, tooLarge(host.LargestEntry) // the log would take it, and could not send it
	}
	// Not less if the caller has less: who gives up has to see how long the log has it.
	timeout := max(patience, 2*r.host.Timing().RTT)
	err = r.host.Use(func(nh *dragonboat.NodeHost) (err error) {
		rs, err = nh.Propose(r.session, encoded, timeout)
		return err
	})
	switch {
	case err == nil:
		return rs, nil
	case errors.Is(err, dragonboat.ErrSystemBusy):
		return nil, kv.Errorf(kv.Exhausted, "a follower is too slow for so many mutations; slow down and retry: %w", err)
	case errors.Is(err, dragonboat.ErrPayloadTooBig):
		return nil, tooLarge(r.raft.MaxInMemory)
	default:
		return nil, kv.Errorf(kv.Unavailable, "the log is unavailable: %w", err)
	}
}

func tooLarge(most uint64) error {
	return kv.Errorf(kv.Invalid, "the request is larger than an entry of the log may be, %d bytes; split it", most)
}

// timeout is how long Dragonboat may keep a request. It counts in round trips, and rejects
// less than one.
func (r *Replica) timeout(ctx context.Context) time.Duration {
	left := r.raft.Timeout
	if deadline, ok := ctx.Deadline(); ok {
		left = min(left, time.Until(deadline))
	}
	return max(left, 2*r.host.Timing().RTT)
}

// outcome is the result of a command that Dragonboat accepted.
func (r *Replica) outcome(done *dragonboat.RequestResult) (command.Result, error) {
	switch {
	case done.Completed():
		res, applied, err := unpackResult(done.GetResult())
		if err != nil {
			return res, kv.UnknownOutcome(kv.Internal, err)
		}
		if !applied {
			return res, kv.UnknownOutcome(kv.Unavailable, errors.New("this node's storage failed; the other members may have applied the mutation"))
		}
		return res, nil
	case done.Dropped():
		return command.Result{}, kv.Errorf(kv.Unavailable, "the log has no leader at present; retry")
	case done.Timeout():
		return command.Result{}, kv.UnknownOutcome(kv.Unavailable, errors.New("the mutation was not confirmed in time by a majority"))
	default:
		return command.Result{}, kv.UnknownOutcome(kv.Unavailable, errors.New("the replica stopped while the mutation was being replicated"))
	}
}

// group is a replica as the lease keeper sees it.
type group struct{ r *Replica }

// Leader implements lease.Group.
func (g group) Leader() (term uint64, self bool) {
	id, term := g.r.leads()
	return term, id != 0 && id == g.r.raft.Replica
}

// Begin implements lease.Group.
func (g group) Begin(ctx context.Context, term, nonce uint64, lease time.Duration) (
	now, previous command.Epoch, accepted bool, err error) {
	begin := command.Begin{Term: term, Owner: g.r.raft.Replica, Nonce: nonce, Lease: lease, Stated: true}
	if g.r.Format() == command.FirstFormat {
		// It counts as command.UnstatedLease, and the keeper's leases are no longer than
		// that.
		begin.Lease, begin.Stated = 0, false
	}
	if g.r.state.Machine().Identity().Cluster == "" {
		begin.Cluster, begin.History = kv.NewID(), kv.NewID()
	}
	if begin.Origin, err = g.r.state.Machine().Origin(); err != nil {
		return now, previous, false, err
	}
	if err := g.awaitUnsealed(ctx); err != nil {
		return now, previous, false, err
	}
	res, err := g.propose(ctx, &command.Command{Kind: command.BeginEpoch, Begin: &begin})
	if err == nil && res.Code == command.Sealed {
		err = replica.Sealed(g.r.state.Machine().Sealed())
	}
	if err != nil {
		return now, previous, false, err
	}
	switch {
	case res.Previous == nil:
		return now, previous, false, errors.New("a begin-epoch without the epoch before it")
	case res.Code != command.OK:
		return *res.Previous, *res.Previous, false, nil
	}
	now, _ = res.Previous.Next(&begin, res.Index)
	return now, *res.Previous, true, nil
}

// awaitUnsealed waits while a seal keeps epochs from beginning.
func (g group) awaitUnsealed(ctx context.Context) error {
	for {
		_, grown := g.r.state.Watch()
		err := g.r.state.Unsealed()
		if err == nil {
			return nil
		}
		select {
		case <-grown:
		case <-g.r.state.Closing():
			return replica.ErrClosed
		case <-ctx.Done():
			return err
		}
	}
}

// End implements lease.Group.
func (g group) End(ctx context.Context, epoch kv.Index) error {
	res, err := g.propose(ctx, &command.Command{Kind: command.EndEpoch, Fence: epoch})
	switch {
	case err != nil:
		return err
	case res.Code == command.Fenced:
		return errors.New("the epoch is another one by now")
	case res.Code == command.Sealed:
		return replica.Sealed(g.r.state.Machine().Sealed())
	}
	return nil
}

// ReadIndex implements lease.Group.
func (g group) ReadIndex(ctx context.Context) error {
	applier := g.r.applier.Load()
	var rs *dragonboat.RequestState
	timeout := g.r.timeout(ctx)
	err := g.r.host.Use(func(nh *dragonboat.NodeHost) (err error) {
		rs, err = nh.ReadIndex(g.r.raft.Shard, timeout)
		return err
	})
	if err != nil {
		return err
	}
	select {
	case done := <-rs.ResultC():
		ok := done.Completed()
		rs.Release()
		switch {
		case !ok:
			return errNoQuorum
		case applier == nil || !applier.live():
			return errPassedOver
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

var errNoQuorum = errors.New("no majority of the members has confirmed the leader in time")

func (g group) propose(ctx context.Context, c *command.Command) (command.Result, error) {
	ctx, cancel := g.r.bounded(ctx)
	defer cancel()
	c.Clock = g.r.state.Clock(g.r.state.Machine())
	return g.r.append(ctx, c, g.r.raft.Timeout)
}
