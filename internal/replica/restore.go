package replica

import (
	"context"
	"errors"
	"fmt"

	"github.com/dkvdb/dkv/internal/backup"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/datadir"
)

// Restore implements Replica. The new state is built aside, while reads go on
// from the old one, and takes its place at one index, which is greater than any
// that either had: change numbers never go backwards.
func (l *Local) Restore(ctx context.Context, dir string) error {
	unlockCopy, err := l.lockCopy(ctx)
	if err != nil {
		return err
	}
	defer unlockCopy()
	unlock, err := l.lockState(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	ctx, cancel := l.untilClosing(ctx)
	defer cancel()
	manifest, err := backup.Verify(ctx, dir)
	if err != nil {
		return nothingChanged(err)
	}
	if err := l.opts.Guard.Fits(l.restoreBytes(&manifest)); err != nil {
		return nothingChanged(err)
	}
	back, err := l.beginRestore()
	if err != nil {
		return err
	}
	if err := l.restore(ctx, dir, &manifest); err != nil {
		back()
		return err
	}
	l.become(Serving, nil, Restoring)
	l.opts.Log.Info("restored", "vbucket", l.opts.VBucket, "backup", dir, "index", l.machine.Load().Applied())
	return nil
}

// beginRestore admits a restore: to a replica that serves, and to one whose
// storage failed, since a new state is a cure for that. The function that it
// returns undoes it.
func (l *Local) beginRestore() (back func(), err error) {
	before := l.standing.Load()
	from := Serving
	if before.state == Failed && storage.Shortage(before.err) == nil {
		from = Failed
	}
	if l.become(Restoring, nil, from) {
		return func() { l.become(from, before.err, Restoring) }, nil
	}
	if err := l.refusal(); err != nil {
		return nil, err
	}
	return nil, kv.Errorf(kv.Unavailable, "the node is starting; retry when it serves")
}

func nothingChanged(err error) error {
	return kv.Errorf(kindOf(err), "restore: %w; nothing was changed", err)
}

// restoreBytes is about what a restore writes beside the present state.
func (l *Local) restoreBytes(m *backup.Manifest) uint64 {
	if m.Engine == l.machine.Load().EngineKind() {
		return m.Bytes()
	}
	return 2 * m.Bytes() // the copy to read from, and what is read from it
}

// restore builds the new state and swaps it in. The old one goes when its last
// reader does.
func (l *Local) restore(ctx context.Context, dir string, manifest *backup.Manifest) error {
	old, oldPlace, place := l.machine.Load(), "", ""
	if g := l.opts.Generations; g != nil {
		var err error
		oldPlace = g.Current()
		if place, err = g.Next(); err != nil {
			return nothingChanged(err)
		}
	}
	engine, err := l.build(ctx, dir, place, manifest.Engine)
	if err == nil {
		if err = l.do(ctx, func() error { return l.swapIn(engine, place) }); err != nil {
			err = errors.Join(err, engine.Close())
		}
	}
	switch {
	case errors.Is(err, datadir.ErrUncertain):
		return kv.UnknownOutcome(kindOf(err), fmt.Errorf("restore: %w; restart the node", err))
	case err != nil:
		l.remove(place)
		return nothingChanged(err)
	}
	l.later(func() { l.discard(old, oldPlace) })
	return nil
}

// build opens an engine in place with the content of a backup of the given
// kind.
func (l *Local) build(ctx context.Context, dir, place, kind string) (storage.Engine, error) {
	if place != "" && kind == l.machine.Load().EngineKind() {
		if err := backup.Extract(ctx, dir, place); err != nil {
			return nil, err
		}
		return l.opts.Open(place)
	}
	engine, err := l.opts.Open(place)
	if err != nil {
		return nil, err
	}
	if err := l.importInto(ctx, engine, dir, kind); err != nil {
		return nil, errors.Join(err, engine.Close())
	}
	return engine, nil
}

// importInto copies the backup's state, whichever engine it is of, into engine.
func (l *Local) importInto(ctx context.Context, engine storage.Engine, dir, kind string) error {
	scratch, remove, err := l.scratch(dir, "restore")
	if err != nil {
		return err
	}
	defer remove()
	if err := backup.Extract(ctx, dir, scratch); err != nil {
		return err
	}
	source, err := l.opts.OpenKind(kind, scratch)
	if err != nil {
		return err
	}
	machine, err := fsm.New(source)
	if err != nil {
		return errors.Join(err, source.Close())
	}
	view, err := machine.View()
	if err != nil {
		return errors.Join(err, machine.Close())
	}
	err = view.CopyTo(ctx, engine)
	view.Close()
	return errors.Join(err, machine.Close())
}

// swapIn makes engine the present state. Nothing is applied meanwhile.
func (l *Local) swapIn(engine storage.Engine, place string) error {
	if l.State() != Restoring {
		return l.refusal() // the last group before this has failed
	}
	old := l.machine.Load()
	if err := fsm.Rebase(engine, old.Identity().Cluster, old.Applied()+1, old.Paused()); err != nil {
		return err
	}
	if err := old.KeepRequests(context.Background(), engine); err != nil {
		return err
	}
	if err := old.KeepLineage(engine); err != nil {
		return err
	}
	slaves, err := old.Slaves()
	if err != nil {
		return err
	}
	if err := fsm.KeepSlaves(engine, slaves); err != nil {
		return err
	}
	// A backup brings keys back, and no other time.
	if err := fsm.KeepClock(engine, old.Clock()); err != nil {
		return err
	}
	if err := engine.Sync(); err != nil {
		return err
	}
	m, err := fsm.New(engine)
	if err != nil {
		return err
	}
	if l.opts.Generations != nil {
		if err := l.opts.Generations.Commit(place); err != nil {
			if errors.Is(err, datadir.ErrUncertain) {
				// Acknowledge nothing more in a state that a restart may not
				// find again.
				l.fail(err)
			}
			return err
		}
	}
	l.replace(m)
	return nil
}
