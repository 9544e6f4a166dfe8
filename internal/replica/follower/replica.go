// Package follower is the replica of a slave: it has no log, and applies the changes of
// another node, or replaces its state by a snapshot of that node's. Package slave decides
// which node, and fetches them.
package follower

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/periodic"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/state"
	"github.com/dkvdb/dkv/internal/storage"
)

// Options are what a follower is opened with.
type Options struct {
	state.Options
	// BatchLimit is what the engine writes atomically.
	BatchLimit storage.BatchLimit
	// Reject rejects linearizable reads. Otherwise they are a kv.NotOwner, which has them
	// forwarded to the owner.
	Reject bool
}

// Replica is a replica.Replica without a log. Its caller, a slave's puller, applies the
// changes of another node, in order, or replaces the state by a whole new one if it cannot
// follow the changes. It answers sequential reads and the change stream. It rejects
// mutations, and names the leader.
//
// Apply and Replace are called by one goroutine at a time.
type Replica struct {
	state.Shared
	opts   state.Options
	state  *state.Store
	limit  storage.BatchLimit
	reject bool
	leader atomic.Pointer[string]
	fresh  freshness
	// wanted holds a token while a reader waits for a newer state.
	wanted chan struct{}
	// least is the index that reads wait for: a state that is opened after a failure may be
	// older than one that was read.
	least atomic.Uint64
	// order is the cluster for whose state an operator has given up the present one; nil
	// for none.
	order atomic.Pointer[string]
	seal  seal
	// synced is what of the state is on disk.
	synced synced
}

// Open opens the replica's state, which may be empty. Nothing runs until Run does.
func Open(opts Options) (*Replica, error) {
	f := &Replica{limit: opts.BatchLimit, reject: opts.Reject, wanted: make(chan struct{}, 1)}
	opts.Withheld = f.Withheld
	var err error
	if f.state, err = state.Open(opts.Options, fsm.NewReplica, nil); err != nil {
		return nil, err
	}
	f.Shared, f.opts = f.state.Shared(f.read), f.state.Options()
	if err := errors.Join(f.loadOrder(), f.loadSeal()); err != nil {
		return nil, errors.Join(err, f.state.Machine().Close())
	}
	if f.empty() {
		f.state.SetUnreadable(errNoState)
	}
	return f, nil
}

var errNoState = kv.Errorf(kv.Unavailable, "this node is a slave that has no data yet; retry when it has bootstrapped, or ask another node")

// empty reports whether there has never been a state to read.
func (f *Replica) empty() bool { return f.state.Machine().Identity().History == "" }

// Run maintains the state until ctx ends: it trims the changelog and makes durable what was
// applied. It is called once.
func (f *Replica) Run(ctx context.Context) error {
	if !f.state.Start() {
		return nil
	}
	defer f.state.End()
	f.state.Serve()
	if f.empty() {
		f.state.Become(replica.Bootstrapping, nil, replica.Serving)
	}
	defer f.makeDurable()
	tasks := periodic.Start(ctx, 0)
	defer tasks.Stop()
	f.state.AddTrim(tasks, f.fail)
	f.state.AddRelief(tasks)
	tasks.Every(syncInterval, func(context.Context) bool { f.makeDurable(); return false })
	select {
	case <-ctx.Done():
	case <-f.state.Closing():
	}
	return nil
}

// Close ends Run, if it runs, as well as a backup or a Replace, and closes the state
// once its readers are done. It is idempotent.
func (f *Replica) Close() error { return f.state.Close(func() {}) }

// syncInterval is the longest time whose changes have to be fetched again after a crash.
const syncInterval = time.Second

// makeDurable makes durable what was applied. A crash in between leaves an earlier,
// consistent state, from which the changes continue.
func (f *Replica) makeDurable() {
	if f.state.Refusal() == nil {
		_ = f.Sync() // a failure is the state's from then on
	}
}

// fail stops applying after a storage error. A shortage is waited out; every other error
// needs an operator.
func (f *Replica) fail(err error) {
	if !f.state.Become(replica.Failed, err, replica.Starting, replica.Serving, replica.Bootstrapping) {
		return // it has failed before
	}
	f.opts.Log.Error("storage failed; nothing more is applied, reads go on", "vbucket", f.opts.VBucket, "error", err)
	if state.Shortage(err) != nil && f.opts.Generations != nil {
		f.state.Go(func() { f.state.WhenThereIsSpace(f.reopen) })
	}
}

// Failure is why nothing can be applied until an operator, or room on the disk, cures it;
// nil if changes can be applied.
func (f *Replica) Failure() error {
	if st := f.state.Standing(); st.State == replica.Failed {
		return st.Refusal
	}
	return nil
}

// reopen opens the state again after a failure. It may then be at an earlier index, at
// which it is not read.
func (f *Replica) reopen() error {
	_, before := f.Position()
	f.least.Store(max(f.least.Load(), before)) // it may fail again before it is back where it was
	if err := f.state.Recover(fsm.NewReplica); err != nil {
		return err
	}
	if f.empty() {
		f.state.SetUnreadable(errNoState)
		f.state.Become(replica.Bootstrapping, nil, replica.Serving)
	}
	return nil
}

// followedOwner is the id that stands for the log's owner, whose own id is not known here.
const followedOwner = 1

// SetLeader sets the host:port at which the leader, which accepts mutations, serves gRPC;
// empty while that is unknown.
func (f *Replica) SetLeader(address string) { f.leader.Store(&address) }

// Owner implements Replica.
func (f *Replica) Owner() replica.Owner {
	if a := f.leader.Load(); a != nil && *a != "" {
		return replica.Owner{ID: followedOwner, Address: *a}
	}
	return replica.Owner{}
}

// notHere is the error of a request that only the owner of the log serves.
func (f *Replica) notHere(what, instead string) error {
	if at := f.Owner().Address; at != "" {
		return kv.Errorf(kv.Precondition, "%w%s; %s the leader at %s", kv.ErrSlave, what, instead, at)
	}
	return kv.Errorf(kv.Precondition, "%w%s, and does not know the leader at present; %s a master", kv.ErrSlave, what, instead)
}

// Propose implements Replica: it rejects the command, and names the leader.
func (f *Replica) Propose(context.Context, *command.Command) (command.Result, error) {
	return command.Result{}, f.notHere("", "write to")
}

// Restore implements Replica: it rejects that. A slave gets what its master restores.
func (f *Replica) Restore(context.Context, string) error {
	return f.notHere(" and gets what its master has", "restore on")
}

// SetClock implements Replica: it rejects that. A slave's clock follows its master's.
func (f *Replica) SetClock(context.Context, time.Time) error {
	return f.notHere(" and goes by its master's clock", "set that of")
}

// Status implements Replica.
func (f *Replica) Status() replica.Status {
	s := f.state.Status()
	s.Mode = replica.ModeStream
	s.Owner = f.Owner()
	s.Age = f.Age()
	s.Paused = false // a pause concerns the master
	if s.State == replica.Serving || s.State == replica.Bootstrapping {
		s.ReadOnly = f.notHere("", "write to").Error()
	}
	if promotion := f.Sealed(); promotion != "" {
		s.ReadOnly = fmt.Sprintf("promotion %s has sealed this copy, which follows no master until it is decided or given up", promotion)
	}
	return s
}
