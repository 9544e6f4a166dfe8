package restoration

import (
	"context"
	"errors"
	"os"

	"github.com/dkvdb/dkv/internal/backup"
	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/fsm/history"
	"github.com/dkvdb/dkv/internal/fsm/offline"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/state"
	"github.com/dkvdb/dkv/internal/storage"
)

// kind is how this node keeps a state.
func (r *restore) kind() state.Kind {
	cfg := &r.cfg.Storage
	return state.Kind{Engine: string(cfg.Engine), Encrypted: cfg.EncryptionKeyFile != ""}
}

// asIs reports whether the files of a backup can be used as they are.
func (r *restore) asIs(of *backup.Info) bool {
	return r.kind() == state.Kind{Engine: of.Engine, Encrypted: of.Encrypted}
}

// fillOne makes the state of one vBucket, and makes it the present one of its folder.
func (r *restore) fillOne(ctx context.Context, p *part) error {
	opts, err := r.node.StateOptions(p.vBucket)
	if err != nil {
		return err
	}
	place, err := opts.Generations.Next()
	if err != nil {
		return err
	}
	former := opts.Generations.Current()
	scratch := func() (string, func() error, error) {
		path, err := opts.Generations.Scratch("restore")
		return path, func() error { return os.RemoveAll(path) }, err
	}
	engine, err := opts.Import(ctx, p.dir, place, &p.Info, r.kind(), scratch)
	if err != nil {
		return err
	}
	if err := errors.Join(r.begin(ctx, p, engine), engine.Close()); err != nil {
		return err
	}
	if err := r.after("built " + p.vBucket); err != nil {
		return err
	}
	if err := opts.Generations.Commit(place); err != nil {
		return err
	}
	return opts.Generations.Remove(former)
}

// begin makes the state in engine the first one of a new cluster.
func (r *restore) begin(ctx context.Context, p *part, engine storage.Engine) error {
	id, at, err := offline.Inspect(engine)
	if err != nil {
		return err
	}
	if err := offline.Rebase(ctx, engine, history.Identity{Cluster: kv.NewID(), History: id.History}, at+era.Gap, false); err != nil {
		return err
	}
	if err := offline.KeepSlaves(engine, nil); err != nil {
		return err
	}
	if err := engine.Sync(); err != nil {
		return err
	}
	id, p.index, err = offline.Inspect(engine)
	p.history = id.History
	return err
}
