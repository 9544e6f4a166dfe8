package replica

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/dkvdb/dkv/internal/backup"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// recover replaces the state by the snapshot in, which a member sent.
func (r *Raft) recover(ctx context.Context, in io.Reader) error {
	was := r.machine.Load().Applied()
	err := r.exchange(ctx, func(place string) (*fsm.Machine, error) { return r.receive(ctx, in, place) })
	if err != nil {
		return err
	}
	m := r.machine.Load()
	if err := r.host.noteSynced(r.raft.Shard, m.Applied()-m.Base()); err != nil {
		return err
	}
	r.stats.snapshotsReceived.Add(1)
	r.opts.Log.Info("caught up by a snapshot", "vbucket", r.opts.VBucket, "index", m.Applied(), "was", was)
	return nil
}

// receive builds a state machine in place of what in holds.
func (r *Raft) receive(ctx context.Context, in io.Reader, place string) (*fsm.Machine, error) {
	if err := readFiles(ctx, in, place, r.opts.Guard.Fits); err != nil {
		return nil, err
	}
	m, err := r.openAt(place, fsm.NewReplica)
	if err != nil {
		return nil, err
	}
	if err := m.Sync(); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// restored makes what a restore has staged the present state. Nothing is applied
// meanwhile. It returns the index of the new state.
func (r *Raft) restored(e fsm.Entry) (kv.Index, error) {
	old := r.machine.Load()
	err := r.exchange(context.Background(), func(place string) (*fsm.Machine, error) {
		engine, err := r.opts.Open(place)
		if err != nil {
			return nil, err
		}
		err = old.Restored(context.Background(), e, engine)
		if err := errors.Join(err, engine.Close()); err != nil {
			return nil, err
		}
		return r.openAt(place, fsm.NewReplica)
	})
	if err != nil {
		return 0, err
	}
	m := r.machine.Load()
	r.opts.Log.Info("the keyspace was restored", "vbucket", r.opts.VBucket, "index", m.Applied(), "history", m.Identity().History)
	return m.Applied(), nil
}

// Restore implements Replica. The backup's pairs go through the log and are laid
// aside by every member; one command at the end makes them the keyspace. Whatever
// cuts it short before that, the old keyspace stays. Only the owner of the log can
// restore.
func (r *Raft) Restore(ctx context.Context, dir string) error {
	unlock, err := r.lockCopy(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	ctx, cancel := r.untilClosing(ctx)
	defer cancel()
	if !r.Owner().Self {
		return errNotOwner
	}
	manifest, err := backup.Verify(ctx, dir)
	if err != nil {
		return nothingChanged(err)
	}
	// The log, the pairs that are laid aside, and the new state.
	if err := r.opts.Guard.Fits(3 * manifest.Bytes()); err != nil {
		return nothingChanged(err)
	}
	view, closeView, err := r.openBackup(ctx, dir, manifest.Engine)
	if err != nil {
		return nothingChanged(err)
	}
	defer closeView()
	return r.stageAll(ctx, view)
}

// openBackup opens a copy of the backup at dir for reading.
func (r *Raft) openBackup(ctx context.Context, dir, kind string) (*fsm.View, func(), error) {
	scratch, err := r.scratch(dir, "restore")
	if err != nil {
		return nil, nil, err
	}
	fail := func(err error) (*fsm.View, func(), error) { return nil, nil, errors.Join(err, os.RemoveAll(scratch)) }
	if err := backup.Extract(ctx, dir, scratch); err != nil {
		return fail(err)
	}
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
		if err := errors.Join(m.Close(), os.RemoveAll(scratch)); err != nil {
			r.opts.Log.Warn("the copy of a backup stays", "folder", scratch, "error", err)
		}
	}, nil
}

const (
	// stageBytes and stagePairs bound one command of a restore.
	stageBytes = 1 << 20
	stagePairs = 4096
)

// stageAll sends the pairs of a view through the log and ends the restore.
func (r *Raft) stageAll(ctx context.Context, view *fsm.View) error {
	epoch, err := r.keeper.Epoch(ctx)
	if err != nil {
		return ownership(err)
	}
	end := command.Restored{Index: view.Index(), History: fsm.NewID()}
	id := []byte(end.History)
	err = r.step(ctx, epoch, &command.Command{Kind: command.BeginRestore, Expect: id})
	if err == nil {
		end.Pairs, err = r.stage(ctx, epoch, id, view)
	}
	if err == nil {
		// From here on the outcome is what the log says.
		return r.step(ctx, epoch, &command.Command{Kind: command.EndRestore, Expect: id, Restored: &end})
	}
	abort, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.raft.Timeout)
	defer cancel()
	if e := r.step(abort, epoch, &command.Command{Kind: command.AbortRestore, Expect: id}); e != nil {
		r.opts.Log.Warn("a restore was cut short; the next owner of the log will drop what it has staged", "vbucket", r.opts.VBucket, "error", e)
	}
	return nothingChanged(err)
}

// stage sends all pairs, and counts them. What has expired by now is not worth a
// place.
func (r *Raft) stage(ctx context.Context, epoch kv.Index, id []byte, view *fsm.View) (pairs uint64, err error) {
	it := view.Iterate(storage.Range{Bulk: true}, r.now(r.machine.Load()))
	defer it.Close()
	c := command.Command{Kind: command.StageRestore, Expect: id}
	bytes := 0
	flush := func() error {
		pairs += uint64(len(c.Mutations))
		err := r.step(ctx, epoch, &c)
		c.Mutations, bytes = c.Mutations[:0], 0
		return err
	}
	for it.Next() {
		p := it.Pair()
		m := kv.Mutation{Key: append([]byte(nil), p.Key...), Value: append([]byte(nil), p.Value...), ExpireTS: p.ExpireTS}
		c.Mutations = append(c.Mutations, m)
		if bytes += len(m.Key) + len(m.Value) + 16; bytes < stageBytes && len(c.Mutations) < stagePairs {
			continue
		}
		if err := flush(); err != nil {
			return pairs, err
		}
	}
	if err := it.Err(); err != nil {
		return pairs, err
	}
	if len(c.Mutations) > 0 {
		return pairs, flush()
	}
	return pairs, nil
}

// restoreStep is how long one command of a restore may take: the last one builds
// the new state.
const restoreStep = 10 * time.Minute

// busyPause is how long a restore waits for members that are behind.
const busyPause = 50 * time.Millisecond

// step puts one command of a restore into the log.
func (r *Raft) step(ctx context.Context, epoch kv.Index, c *command.Command) error {
	ctx, cancel := context.WithTimeout(ctx, restoreStep)
	defer cancel()
	c.Fence, c.Clock = epoch, r.now(r.machine.Load())
	res, err := r.append(ctx, c, restoreStep)
	for err != nil && kv.KindOf(err) == kv.Exhausted && kv.OutcomeOf(err) == kv.NotApplied {
		// A member is behind; it will not be for ever.
		select {
		case <-time.After(busyPause):
		case <-ctx.Done():
			return err
		}
		res, err = r.append(ctx, c, restoreStep)
	}
	switch {
	case err != nil:
		return err
	case res.Code == command.Fenced:
		r.keeper.Fenced(epoch)
		return kv.Errorf(kv.Unavailable, "the log has changed hands during the restore; try again")
	case res.Code != command.OK:
		return kv.Errorf(kv.Internal, "%v: %v", c.Kind, res.Code)
	}
	return nil
}
