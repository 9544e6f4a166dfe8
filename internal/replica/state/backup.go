package state

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dkvdb/dkv/internal/backup"
	"github.com/dkvdb/dkv/internal/fsm/offline"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/diskspace"
	"github.com/dkvdb/dkv/internal/task"
)

// Backup implements Replica. The copy is opened and read before it counts: a backup that
// cannot be restored must be noticed while there is still something to back up.
func (c *Store) Backup(ctx context.Context, dir string) error {
	unlock, err := c.LockCopy(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	ctx, cancel := c.UntilClosing(ctx)
	defer cancel()
	if err := c.backup(ctx, dir); err != nil {
		return wrap("backup", err)
	}
	return nil
}

func (c *Store) backup(ctx context.Context, dir string) error {
	if err := backup.Prepare(dir); err != nil {
		return err
	}
	scratch, remove, err := c.Scratch(dir, "backup")
	if err != nil {
		return err
	}
	defer remove()
	task.Step(ctx, "makes a checkpoint", "", 0)
	kind, err := c.link(ctx, scratch)
	if err != nil {
		return err
	}
	info := backup.Info{
		Engine:   kind,
		Database: c.opts.Database,
		VBucket:  c.opts.VBucket,
		VBuckets: c.opts.VBuckets,
		Set:      backup.SetOf(ctx),
		Created:  c.opts.Clock.Wall().UTC(),
		Version:  c.opts.Version,
	}
	task.Step(ctx, "reads the checkpoint through", "", 0)
	switch err := c.inspect(ctx, scratch, &info); {
	case storage.Shortage(err) != nil:
		return fmt.Errorf("read the checkpoint: %w", err) // which says nothing of the copy
	case err != nil:
		return fmt.Errorf("the copy is not sound: %w", err)
	}
	if err := c.fits(scratch, dir); err != nil {
		return err
	}
	_, err = backup.Create(ctx, dir, scratch, info)
	return err
}

// link makes a checkpoint of the present state. The state is locked for that alone; to copy
// the checkpoint takes much longer.
func (c *Store) link(ctx context.Context, dir string) (kind string, err error) {
	unlock, err := c.LockState(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	if c.opts.Withheld != nil {
		if err := c.opts.Withheld(); err != nil {
			return "", err
		}
	}
	m := c.machine.Load()
	if err := m.Corruption(); err != nil {
		return "", fmt.Errorf("a read has found damaged data, which the backup would contain: %w; restore an earlier backup", err)
	}
	return m.EngineKind(), m.Checkpoint(dir)
}

// fits checks that a copy of the folder src leaves the reserve of the data's
// file system alone, if that is where it goes. (A checkpoint may share its
// files with the engine; a backup never does.)
func (c *Store) fits(src, dir string) error {
	if !c.opts.Guard.Covers(filepath.Dir(dir)) {
		return nil
	}
	need, err := diskspace.FilesIn(src)
	if err != nil {
		return err
	}
	return c.opts.Guard.Fits(need)
}

// Scratch returns the path of a temporary folder, which does not exist yet, and a function
// that removes it. It is beside the data, so that engines can link files instead of copying
// them, or beside the backup if there is no data folder.
func (c *Store) Scratch(beside, purpose string) (path string, remove func() error, err error) {
	if c.opts.Generations != nil {
		path, err := c.opts.Generations.Scratch(purpose)
		return path, func() error { return os.RemoveAll(path) }, err
	}
	w, err := backup.NewWorkspace(filepath.Dir(beside))
	if err != nil {
		return "", nil, err
	}
	return w.Path(purpose), w.Close, nil
}

// inspect opens the copy, reads all of it and notes in info whose state it is.
func (c *Store) inspect(ctx context.Context, dir string, info *backup.Info) error {
	engine, err := c.opts.OpenKind(info.Engine, dir)
	if err != nil {
		return err
	}
	info.Encrypted = storage.Encrypted(engine)
	id, index, err := offline.Inspect(engine)
	info.Cluster, info.History, info.Index = id.Cluster, id.History, index
	if err == nil {
		err = engine.Verify(ctx)
	}
	return errors.Join(err, engine.Close())
}

// wrap says what failed, unless the error is a kv.Error, which says it itself.
func wrap(what string, err error) error {
	var known *kv.Error
	if errors.As(err, &known) {
		return err
	}
	return kv.Errorf(replica.KindOf(err), "%s: %w", what, err)
}

// NothingChanged is the error of a restore that had no effect.
func NothingChanged(err error) error {
	return kv.Errorf(replica.KindOf(err), "restore: %w; nothing was changed", err)
}
