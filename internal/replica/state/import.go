package state

import (
	"context"
	"errors"

	"github.com/dkvdb/dkv/internal/backup"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/task"
)

// Kind says what engine a state is in: files of another kind are not opened as they are.
type Kind struct {
	Engine    string
	Encrypted bool
}

// Import opens an engine in the folder place, which does not exist, or in memory if place is empty,
// with the content of the backup at dir. The files of a backup of the same kind are taken as they
// are; of any other, the pairs. scratch returns the path of a folder for the copy that those are
// read from, and what removes it. After an error place is to be removed.
func (o *Options) Import(ctx context.Context, dir, place string, of *backup.Info, as Kind, scratch func() (string, func() error, error)) (storage.Engine, error) {
	if place != "" && as == (Kind{of.Engine, of.Encrypted}) {
		if err := backup.Extract(ctx, dir, place); err != nil {
			return nil, err
		}
		task.Step(ctx, "opens the new state", "", 0)
		return o.Open(place)
	}
	engine, err := o.Open(place)
	if err != nil {
		return nil, err
	}
	copied, remove, err := scratch()
	if err == nil {
		err = errors.Join(o.importInto(ctx, engine, dir, copied, of.Engine), remove())
	}
	if err != nil {
		return nil, errors.Join(err, engine.Close())
	}
	return engine, nil
}

// importInto copies the backup's state, whichever engine it is of, into engine.
func (o *Options) importInto(ctx context.Context, engine storage.Engine, dir, scratch, kind string) error {
	if err := backup.Extract(ctx, dir, scratch); err != nil {
		return err
	}
	source, err := o.OpenKind(kind, scratch)
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
