package raft

import (
	"context"
	"errors"
	"time"

	"github.com/dkvdb/dkv/internal/backup"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/state"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/task"
)

// Restore implements Replica. The backup's pairs go through the log and are staged by every
// member; one command at the end makes them the keyspace. If the restore is cut short
// before that, the old keyspace stays. Only the owner of the log can restore. The restore is
// done once those that the log's answers wait for have confirmed it.
func (r *Replica) Restore(ctx context.Context, dir string) error {
	r.restores.Add(1)
	defer r.restores.Add(-1)
	at, err := r.restore(ctx, dir)
	if err != nil {
		return err
	}
	task.Step(ctx, "waits until those that answers wait for have it", "", 0)
	return r.state.AwaitRestored(ctx, at)
}

// Restoring reports whether a restore is under way here, from before it looks at the backup: it
// has no effect if another member becomes the owner meanwhile.
func (r *Replica) Restoring() bool { return r.restores.Load() > 0 }

// restore replaces the keyspace, and returns the index at which it did.
func (r *Replica) restore(ctx context.Context, dir string) (kv.Index, error) {
	unlock, err := r.state.LockCopy(ctx)
	if err != nil {
		return 0, err
	}
	defer unlock()
	ctx, cancel := r.state.UntilClosing(ctx)
	defer cancel()
	if !r.Owner().Self {
		return 0, replica.ErrNotOwner
	}
	manifest, err := backup.Verify(ctx, dir)
	if err != nil {
		return 0, state.NothingChanged(err)
	}
	// The log, the staged pairs, and the new state.
	if err := r.opts.Guard.Fits(3 * manifest.Bytes()); err != nil {
		return 0, state.NothingChanged(err)
	}
	view, closeView, err := r.openBackup(ctx, dir, manifest.Engine)
	if err != nil {
		return 0, state.NothingChanged(err)
	}
	defer closeView()
	return r.stageAll(ctx, view)
}

// openBackup opens a copy of the backup at dir for reading.
func (r *Replica) openBackup(ctx context.Context, dir, kind string) (*fsm.View, func(), error) {
	scratch, remove, err := r.state.Scratch(dir, "restore")
	if err != nil {
		return nil, nil, err
	}
	fail := func(err error) (*fsm.View, func(), error) { return nil, nil, errors.Join(err, remove()) }
	if err := backup.Extract(ctx, dir, scratch); err != nil {
		return fail(err)
	}
	task.Step(ctx, "opens the backup", "", 0)
	engine, err := r.opts.OpenKind(kind, scratch)
	if err != nil {
		return fail(err)
	}
	m, err := fsm.New(engine)
	if err != nil {
		return fail(errors.Join(err, engine.Close()))
	}
	view, err := m.View()
	if err != nil {
		return fail(errors.Join(err, m.Close()))
	}
	return view, func() {
		view.Close()
		if err := errors.Join(m.Close(), remove()); err != nil {
			r.opts.Log.Warn("the copy of a backup cannot be removed", "folder", scratch, "error", err)
		}
	}, nil
}

const (
	// stageBytes and stagePairs bound one command of a restore.
	stageBytes = 1 << 20
	stagePairs = 4096
)

// stageAll sends the pairs of a view through the log and ends the restore at the index that it
// returns.
func (r *Replica) stageAll(ctx context.Context, view *fsm.View) (kv.Index, error) {
	epoch, err := r.keeper.Epoch(ctx)
	if err != nil {
		return 0, ownership(err)
	}
	end := command.Restored{Index: view.Index(), History: era.Restored(ctx, r.state.Machine().Identity().History)}
	id := []byte(end.History)
	_, err = r.step(ctx, epoch, &command.Command{Kind: command.BeginRestore, Expect: id})
	if err == nil {
		end.Pairs, err = r.stage(ctx, epoch, id, view)
	}
	if err == nil {
		err = r.seal(ctx, epoch, id)
	}
	if err == nil {
		// From here on the outcome is that of the log.
		at, err := r.step(ctx, epoch, &command.Command{Kind: command.EndRestore, Expect: id, Restored: &end})
		if err != nil {
			r.abort(epoch, id) // after an end that was applied it has no effect
		}
		return at, err
	}
	r.abort(epoch, id)
	return 0, state.NothingChanged(err)
}

// abort ends a restore that was cut short, since mutations are rejected while it is under
// way. If that fails it is tried again in the background.
func (r *Replica) abort(epoch kv.Index, id []byte) {
	err := r.tryAbort(epoch, id)
	if err == nil {
		return
	}
	r.opts.Log.Warn("a restore was cut short, and mutations are rejected until that is in the log", "vbucket", r.opts.VBucket, "error", err)
	r.state.Go(func() { r.abortLater(epoch, id) })
}

const abortInterval = 500 * time.Millisecond

// abortLater tries to abort a restore until that succeeds, or until the restore's epoch,
// and so the restore, has ended.
func (r *Replica) abortLater(epoch kv.Index, id []byte) {
	t := time.NewTicker(abortInterval)
	defer t.Stop()
	for {
		select {
		case <-r.state.Closing():
			return
		case <-t.C:
		}
		if r.state.Machine().Epoch().ID != epoch || r.tryAbort(epoch, id) == nil {
			r.opts.Log.Info("the restore that was cut short is dropped", "vbucket", r.opts.VBucket)
			return
		}
	}
}

// tryAbort proposes to abort a restore. That has no effect in a later epoch, or if the
// restore has ended.
func (r *Replica) tryAbort(epoch kv.Index, id []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), r.raft.Timeout)
	defer cancel()
	ctx, cancelClosing := r.state.UntilClosing(ctx)
	defer cancelClosing()
	c := command.Command{Kind: command.AbortRestore, Expect: id, Fence: epoch, Clock: r.state.Clock(r.state.Machine())}
	_, err := r.append(ctx, &c, r.raft.Timeout)
	return err
}

// seal has every member begin to build the state that the restore ends with, and waits
// until it is built here: at the end of the restore, each member applies nothing until its
// own is built. It is left out if not all members understand it.
func (r *Replica) seal(ctx context.Context, epoch kv.Index, id []byte) error {
	c := &command.Command{Kind: command.SealRestore, Expect: id}
	if r.Format() < c.Format() {
		return nil
	}
	if _, err := r.step(ctx, epoch, c); err != nil {
		return err
	}
	task.Step(ctx, "builds the state", "", 0)
	return r.awaitBuild(ctx, id)
}

// stage sends all pairs, but those that have expired, and counts them.
func (r *Replica) stage(ctx context.Context, epoch kv.Index, id []byte, view *fsm.View) (pairs uint64, err error) {
	it := view.Iterate(storage.Range{Bulk: true}, r.state.Clock(r.state.Machine()))
	defer it.Close()
	c := command.Command{Kind: command.StageRestore, Expect: id}
	task.Step(ctx, "sends the keys to the members", task.Keys, view.EstimatedKeys())
	bytes := 0
	flush := func() error {
		pairs += uint64(len(c.Mutations))
		_, err := r.step(ctx, epoch, &c)
		task.Add(ctx, uint64(len(c.Mutations)))
		c.Mutations, bytes = c.Mutations[:0], 0
		return err
	}
	for it.Next() {
		p := it.Pair()
		m := kv.Mutation{Key: append([]byte(nil), p.Key...), Value: append([]byte(nil), p.Value...), ExpireTS: p.ExpireTS}
		size := len(m.Key) + len(m.Value) + 16
		// A large pair goes alone: the log takes no more than when the pair was written.
		if n := len(c.Mutations); n > 0 && (bytes+size > stageBytes || n == stagePairs) {
			if err := flush(); err != nil {
				return pairs, err
			}
		}
		c.Mutations = append(c.Mutations, m)
		bytes += size
	}
	if err := it.Err(); err != nil {
		return pairs, err
	}
	if len(c.Mutations) > 0 {
		return pairs, flush()
	}
	return pairs, nil
}

// restoreStep is how long one command of a restore may take: the last one may have to build
// the new state.
const restoreStep = 10 * time.Minute

// busyPause is how long a restore waits for members that are behind.
const busyPause = 50 * time.Millisecond

// step proposes one command of a restore, and returns its index.
func (r *Replica) step(ctx context.Context, epoch kv.Index, c *command.Command) (kv.Index, error) {
	ctx, cancel := context.WithTimeout(ctx, restoreStep)
	defer cancel()
	c.Fence, c.Clock = epoch, r.state.Clock(r.state.Machine())
	res, err := r.append(ctx, c, restoreStep)
	for err != nil && kv.KindOf(err) == kv.Exhausted && kv.OutcomeOf(err) == kv.NotApplied {
		// A member lags, and will catch up.
		select {
		case <-time.After(busyPause):
		case <-ctx.Done():
			return 0, err
		}
		res, err = r.append(ctx, c, restoreStep)
	}
	switch {
	case err != nil:
		return 0, err
	case res.Code == command.Fenced:
		r.keeper.Fenced(epoch)
		return 0, kv.Errorf(kv.Unavailable, "the log got another owner during the restore; try again")
	case res.Code == command.Sealed:
		return 0, replica.Sealed(r.state.Machine().Sealed())
	case res.Code != command.OK:
		return 0, kv.Errorf(kv.Internal, "%v: %v", c.Kind, res.Code)
	}
	return res.Index, nil
}
