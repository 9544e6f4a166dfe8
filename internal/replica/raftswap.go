package replica

import (
	"context"
	"errors"
	"io"

	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
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
	if err := errors.Join(r.understands(m), m.Sync()); err != nil {
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
