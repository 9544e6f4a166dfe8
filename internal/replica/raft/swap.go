package raft

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/raft/filestream"
	"github.com/dkvdb/dkv/internal/replica/state"
)

// recover replaces the state, old, by the snapshot that another member has sent, and
// returns the new state.
func (r *Replica) recover(ctx context.Context, in io.Reader, old *fsm.Machine) (m *fsm.Machine, err error) {
	defer r.host.TakenUp(onHost{r})
	r.dropBuild() // it is built in the folder that the snapshot needs
	err = r.state.Exchange(ctx, func(place string) (_ *fsm.Machine, err error) {
		if err := r.isPresent(old); err != nil {
			return nil, err
		}
		m, err = r.receive(ctx, in, place)
		return m, err
	})
	if err != nil {
		return nil, err
	}
	if err := r.host.NoteSynced(r.raft.Shard, m.Applied()-m.Base()); err != nil {
		return nil, err
	}
	r.followStaging(m)
	r.filled(m)
	r.stats.snapshotsReceived.Add(1)
	r.opts.Log.Info("caught up by a snapshot", "vbucket", r.opts.VBucket, "index", m.Applied(), "was", old.Applied())
	return m, nil
}

// isPresent returns an error if m is no longer the replica's state: the replica has failed
// and reopened it. The caller holds the lock of LockState.
func (r *Replica) isPresent(m *fsm.Machine) error {
	if r.state.Machine() != m {
		return errPassedOver
	}
	return nil
}

// fits returns an error if there is no room for a state of so many bytes. A replica that
// fails for that does not recover before there is.
func (r *Replica) fits(bytes uint64) error {
	if err := r.awaited.fits(r.opts.Guard, bytes); err != nil {
		return fmt.Errorf("the state that a snapshot brings does not fit: %w", err)
	}
	return nil
}

// receive builds a state machine in the folder place from a snapshot.
func (r *Replica) receive(ctx context.Context, in io.Reader, place string) (*fsm.Machine, error) {
	if err := filestream.Read(ctx, in, place, r.fits); err != nil {
		return nil, err
	}
	m, err := r.state.OpenAt(place, fsm.NewReplica)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(r.understands(m), m.Sync()); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// restored makes the state that a restore has staged in old the present one, and returns
// it. Nothing is applied meanwhile, but most of it was built before.
func (r *Replica) restored(e fsm.Entry, old *fsm.Machine) (*fsm.Machine, error) {
	ctx, cancel := r.state.UntilClosing(context.Background())
	defer cancel()
	m, err := r.exchangeBuilt(ctx, e, old)
	if err != nil {
		return nil, err
	}
	r.opts.Log.Info("the keyspace was restored", "vbucket", r.opts.VBucket, "index", m.Applied(), "history", m.Identity().History)
	return m, nil
}

func (r *Replica) exchangeBuilt(ctx context.Context, e fsm.Entry, old *fsm.Machine) (m *fsm.Machine, err error) {
	b := r.takeBuild(e.Command.Expect)
	if b == nil {
		err = r.state.Exchange(ctx, func(place string) (_ *fsm.Machine, err error) {
			if err := r.isPresent(old); err != nil {
				return nil, err
			}
			b := &restoreBuild{place: place}
			if err := b.build(ctx, r, old); err != nil {
				return nil, errors.Join(err, b.discard())
			}
			m, err = b.finish(ctx, r, old, e)
			return m, err
		})
		return m, err
	}
	defer r.state.HoldState()()
	err = r.isPresent(old)
	if r.State() == replica.Closed {
		err = replica.ErrClosed
	}
	if err != nil {
		return nil, errors.Join(err, b.discard())
	}
	if m, err = b.finish(ctx, r, old, e); err != nil {
		return nil, errors.Join(err, state.RemoveFolder(b.place))
	}
	return m, r.state.TakeOver(state.Successor{Machine: m, Place: b.place})
}

// cutShort reports whether err only says that the replica is being closed.
func (r *Replica) cutShort(err error) bool {
	return r.state.IsClosing() && (errors.Is(err, context.Canceled) || errors.Is(err, replica.ErrClosed))
}
