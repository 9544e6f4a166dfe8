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
	r.dropBuild() // it is built where the snapshot goes
	err := r.exchange(ctx, func(place string) (*fsm.Machine, error) { return r.receive(ctx, in, place) })
	if err != nil {
		return err
	}
	m := r.machine.Load()
	if err := r.host.noteSynced(r.raft.Shard, m.Applied()-m.Base()); err != nil {
		return err
	}
	r.followStaging(m)
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
// meanwhile, but most of it was built before. It returns the index of the new state.
func (r *Raft) restored(e fsm.Entry) (kv.Index, error) {
	ctx, cancel := r.untilClosing(context.Background())
	defer cancel()
	err := r.exchangeBuilt(ctx, e, r.machine.Load())
	if err != nil {
		return 0, err
	}
	m := r.machine.Load()
	r.opts.Log.Info("the keyspace was restored", "vbucket", r.opts.VBucket, "index", m.Applied(), "history", m.Identity().History)
	return m.Applied(), nil
}

func (r *Raft) exchangeBuilt(ctx context.Context, e fsm.Entry, old *fsm.Machine) error {
	b := r.takeBuild(e.Command.Expect)
	if b == nil {
		return r.exchange(ctx, func(place string) (*fsm.Machine, error) {
			b := &restoreBuild{place: place}
			if err := b.build(ctx, r, old); err != nil {
				return nil, errors.Join(err, b.discard())
			}
			return b.finish(ctx, r, old, e)
		})
	}
	r.swapping <- struct{}{}
	defer func() { <-r.swapping }()
	if r.State() == Closed {
		return errors.Join(errClosed, b.discard())
	}
	m, err := b.finish(ctx, r, old, e)
	if err != nil {
		return errors.Join(err, removeAll(b.place))
	}
	return r.takeOver(successor{Machine: m, place: b.place})
}

// cutShort reports whether err only says that the replica is being closed.
func (r *Raft) cutShort(err error) bool {
	select {
	case <-r.closing:
		return errors.Is(err, context.Canceled) || errors.Is(err, errClosed)
	default:
		return false
	}
}
