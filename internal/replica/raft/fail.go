package raft

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lni/dragonboat/v4"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/periodic"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/state"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/diskspace"
)

// fail stops the replica's part in the log after a storage error: nothing can be
// acknowledged here after that, and the other members continue. A shortage is waited out;
// every other error needs an operator.
func (r *Replica) fail(err error) {
	if !r.state.Become(replica.Failed, err, replica.Starting, replica.Serving, replica.Restoring) {
		return
	}
	r.state.Advance(r.state.Machine().Applied()) // wakes catchUp
	if b := r.build.Load(); b != nil {
		b.cancel() // the replica needs the room for itself
	}
	what := "storage failed"
	if errors.Is(err, command.ErrNewer) {
		what = "the log is of a newer release"
	}
	r.opts.Log.Error(what+"; this replica stops, the other members continue", "vbucket", r.opts.VBucket, "error", err)
	short := state.Shortage(err) != nil
	r.state.Go(func() {
		r.stop()
		if short {
			r.state.WhenThereIsSpace(r.rejoin, r.host.Guard())
		}
	})
}

// rejoin opens the state again and takes part in the log again, from which it gets what it
// has missed.
func (r *Replica) rejoin() error {
	if err := r.awaited.there(); err != nil {
		return err
	}
	if again, err := r.reopenFailed(); err != nil || !again {
		return err
	}
	// Not under the lock of LockState: a snapshot that the log begins with takes that.
	err := r.join(context.Background())
	if err != nil {
		err = r.fullAgain(err)
		if r.state.Become(replica.Failed, err, replica.Starting) {
			return err
		}
		return nil // it has failed again meanwhile, and that failure is waited out in turn
	}
	r.catchUp(context.Background())
	if r.state.Become(replica.Serving, nil, replica.Starting) {
		r.opts.Log.Info("storage is writable again; the replica takes part in the log", "vbucket", r.opts.VBucket)
	}
	return nil
}

// reopenFailed opens the state of a failed replica again, and reports whether it did.
func (r *Replica) reopenFailed() (bool, error) {
	r.dropBuild() // it reads the state, which is about to be closed
	defer r.state.HoldState()()
	if r.State() != replica.Failed || r.retired.Load() != nil {
		return false, nil
	}
	// Dragonboat may still be applying entries for the machine that has failed.
	r.applier.Store(nil)
	r.atLeast(r.state.Machine().Applied())
	if err := r.state.Reopen(fsm.NewReplica); err != nil {
		return false, err
	}
	if r.filled(r.state.Machine()); r.empty.Load() { // what has failed may be on the disk all the same
		r.state.SetUnreadable(errNoState)
	}
	// Before it takes part: it may apply at once.
	return r.state.Become(replica.Starting, nil, replica.Failed), nil
}

// fullAgain keeps the shortage that the replica waits out in the error of an attempt to
// come back.
func (r *Replica) fullAgain(err error) error {
	if errors.Is(err, dragonboat.ErrShardAlreadyExist) {
		err = errors.New("it has not quite stopped yet")
	}
	short := state.Shortage(err)
	if short == nil {
		short = storage.ErrNoSpace
	}
	return fmt.Errorf("%w: the replica was stopped for that, and does not start: %w", short, err)
}

const (
	spaceInterval = time.Second
	// lastSpace is the fraction (a fourth) of the reserve below which a follower stops: its
	// owner's disk may always have room, and the log would be written until this disk is
	// full.
	lastSpace = 4
)

// addSpace adds the task that stops a follower before its disk is full, which an owner rejects
// mutations long before, and any replica whose data folder is gone: what it has promised the others
// would be forgotten, and they can go on without it.
func (r *Replica) addSpace(tasks *periodic.Tasks) {
	tasks.Every(spaceInterval, func(context.Context) bool {
		if r.State() != replica.Serving {
			return false
		}
		if fault := r.opts.Guard.Fault(); fault != nil {
			r.fail(fault)
			return false
		}
		if r.Owner().Self {
			return false
		}
		for _, guard := range []*diskspace.Guard{r.opts.Guard, r.host.Guard()} {
			if disk := guard.Usage(); disk.Free < disk.Reserve/lastSpace {
				r.fail(fmt.Errorf("%w: %d MiB are left on the file system of %s", storage.ErrNoSpace, disk.Free>>20, guard.Path()))
				break
			}
		}
		return false
	})
}
