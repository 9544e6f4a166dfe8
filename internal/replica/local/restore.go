package local

import (
	"context"
	"errors"
	"fmt"

	"github.com/dkvdb/dkv/internal/backup"
	"github.com/dkvdb/dkv/internal/durable"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/fsm/offline"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/state"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/task"
)

// Restore implements replica.Replica. The new state is built beside the old one, which is
// read meanwhile, and takes its place at an index greater than any that either had: change
// numbers never go backwards. The restore is done once those that the log's answers wait for
// have confirmed it.
func (l *Replica) Restore(ctx context.Context, dir string) error {
	at, err := l.restoreHere(ctx, dir)
	if err != nil {
		return err
	}
	task.Step(ctx, "waits until those that answers wait for have it", "", 0)
	return l.state.AwaitRestored(ctx, at)
}

// restoreHere replaces the state, and returns the index at which the new one begins.
func (l *Replica) restoreHere(ctx context.Context, dir string) (kv.Index, error) {
	if l.retired != nil {
		return 0, state.NothingChanged(l.retired) // it would accept mutations again, beside the node that keeps the log now
	}
	unlockCopy, err := l.state.LockCopy(ctx)
	if err != nil {
		return 0, err
	}
	defer unlockCopy()
	if err := l.state.Unsealed(); err != nil {
		return 0, err
	}
	unlock, err := l.state.LockState(ctx)
	if err != nil {
		return 0, err
	}
	defer unlock()
	ctx, cancel := l.state.UntilClosing(ctx)
	defer cancel()
	manifest, err := backup.Verify(ctx, dir)
	if err != nil {
		return 0, state.NothingChanged(err)
	}
	if err := l.opts.Guard.Fits(l.restoreBytes(&manifest)); err != nil {
		return 0, state.NothingChanged(err)
	}
	back, err := l.beginRestore()
	if err != nil {
		return 0, err
	}
	if err := l.restore(ctx, dir, &manifest); err != nil {
		back()
		return 0, err
	}
	at := l.state.Machine().Applied() // no key has changed since
	l.state.Become(replica.Serving, nil, replica.Restoring)
	l.opts.Log.Info("restored", "vbucket", l.opts.VBucket, "backup", dir, "index", at)
	return at, nil
}

// beginRestore admits a restore at a replica that serves, and at one whose storage failed,
// which a new state cures. The function that it returns undoes it.
func (l *Replica) beginRestore() (back func(), err error) {
	before := l.state.Standing()
	from := replica.Serving
	if before.State == replica.Failed && state.Shortage(before.Err) == nil {
		from = replica.Failed
	}
	l.cures.Store(from == replica.Failed)
	if l.state.Become(replica.Restoring, nil, from) {
		return func() { l.state.Become(from, before.Err, replica.Restoring) }, nil
	}
	if err := l.state.Refusal(); err != nil {
		return nil, err
	}
	return nil, kv.Errorf(kv.Unavailable, "the node is starting; retry when it serves")
}

// restoreBytes is about how many bytes a restore writes beside the present state.
func (l *Replica) restoreBytes(m *backup.Manifest) uint64 {
	if m.Engine == l.state.Machine().EngineKind() {
		return m.Bytes()
	}
	return 2 * m.Bytes() // the copy to read from, and what is read from it
}

// restore builds the new state beside the present one, which it replaces between two
// groups of proposals.
func (l *Replica) restore(ctx context.Context, dir string, manifest *backup.Manifest) error {
	err := l.replaceBy(ctx, func(place string) (storage.Engine, error) { return l.build(ctx, dir, place, &manifest.Info) })
	switch {
	case errors.Is(err, durable.ErrUncertain):
		return kv.UnknownOutcome(replica.KindOf(err), fmt.Errorf("restore: %w; restart the node", err))
	case err != nil:
		return state.NothingChanged(err)
	}
	return nil
}

// replaceBy makes what build puts into an engine the present state. The caller holds
// swapping.
func (l *Replica) replaceBy(ctx context.Context, build func(place string) (storage.Engine, error)) error {
	place, err := l.state.NextPlace()
	if err != nil {
		return err
	}
	engine, err := build(place)
	if err != nil {
		return errors.Join(err, state.RemoveFolder(place))
	}
	completed := false
	err = l.do(ctx, func() error {
		m, err := l.complete(ctx, engine)
		if err != nil {
			return err
		}
		completed = true
		err = l.state.TakeOver(state.Successor{Machine: m, Place: place})
		if errors.Is(err, durable.ErrUncertain) {
			// Acknowledge nothing more in a state that a restart may not find again.
			l.fail(err)
		}
		return err
	})
	if !completed {
		err = errors.Join(err, engine.Close(), state.RemoveFolder(place))
	}
	return err
}

// build opens an engine in place with the content of a backup.
func (l *Replica) build(ctx context.Context, dir, place string, of *backup.Info) (storage.Engine, error) {
	present := l.state.Machine()
	as := state.Kind{Engine: present.EngineKind(), Encrypted: present.Encrypted()}
	return l.opts.Import(ctx, dir, place, of, as, func() (string, func() error, error) { return l.state.Scratch(dir, "restore") })
}

// complete copies to the engine what a restore keeps of the present state, and opens a
// machine in it. Nothing is applied meanwhile.
func (l *Replica) complete(ctx context.Context, engine storage.Engine) (*fsm.Machine, error) {
	if l.State() != replica.Restoring {
		return nil, l.state.Refusal() // the last group before this has failed
	}
	if err := l.state.Unsealed(); err != nil {
		return nil, err
	}
	old := l.state.Machine()
	if err := offline.Rebase(ctx, engine, old.Identity(), old.Applied()+1, old.Paused()); err != nil {
		return nil, err
	}
	if err := old.KeepRequests(context.Background(), engine); err != nil {
		return nil, err
	}
	if err := offline.KeepLineage(engine, old.Identity().History, old.Lineage()); err != nil {
		return nil, err
	}
	standbys, changed := old.Standbys()
	if err := offline.KeepStandbys(engine, standbys, changed); err != nil {
		return nil, err
	}
	slaves, err := old.Slaves()
	if err != nil {
		return nil, err
	}
	if err := offline.KeepSlaves(engine, slaves); err != nil {
		return nil, err
	}
	// A backup brings back keys, and not its time.
	if err := offline.KeepClock(engine, old.Clock()); err != nil {
		return nil, err
	}
	if err := engine.Sync(); err != nil {
		return nil, err
	}
	return fsm.New(engine)
}
