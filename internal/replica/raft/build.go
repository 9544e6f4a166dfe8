package raft

import (
	"bytes"
	"context"
	"errors"
	"sync"

	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/state"
	"github.com/dkvdb/dkv/internal/storage"
)

// restoreBuild builds the state that a restore will end with, in the next generation's
// folder. One goroutine does all of it, and removes the folder if it is not used.
type restoreBuild struct {
	id     []byte
	cancel context.CancelFunc
	// ready is closed when there is a result, gone when the build no longer uses the
	// folder.
	ready, gone chan struct{}
	// These are set before ready is closed.
	place  string
	engine storage.Engine
	staged fsm.Unstaged
	err    error

	mu sync.Mutex
	// taken says that the result has been taken over by the end of the restore, or is being
	// removed.
	taken bool
}

// followStaging begins to build the state that a restore will end with as soon as all of it
// is staged, and cancels that if the restore is aborted. It is called after every batch
// that is applied, and does not wait for the build.
func (r *Replica) followStaging(m *fsm.Machine) {
	b := r.build.Load()
	if b == nil && !m.Restoring() {
		return
	}
	switch id, staged := m.Staged(); {
	case staged && (b == nil || !bytes.Equal(b.id, id)):
		r.beginBuild(m, id, b)
	case !staged && b != nil:
		r.build.Store(nil)
		b.cancel()
	}
}

// beginBuild builds what is staged in m; before is an earlier build, or nil.
func (r *Replica) beginBuild(m *fsm.Machine, id []byte, before *restoreBuild) {
	ctx, cancel := context.WithCancel(context.Background())
	b := &restoreBuild{id: bytes.Clone(id), cancel: cancel, ready: make(chan struct{}), gone: make(chan struct{})}
	r.build.Store(b)
	begun := r.state.Go(func() {
		defer close(b.gone)
		defer cancel()
		ctx, stop := r.state.UntilClosing(ctx)
		defer stop()
		if before != nil {
			before.cancel()
			<-before.gone // they build in the same folder
		}
		b.run(ctx, r, m)
	})
	if !begun {
		r.build.Store(before)
		cancel()
	}
}

// run builds, and keeps the result until it is taken or ctx ends.
func (b *restoreBuild) run(ctx context.Context, r *Replica, m *fsm.Machine) {
	b.err = b.unstage(ctx, r, m)
	if b.err != nil && ctx.Err() == nil {
		r.opts.Log.Warn("cannot build the restored state before the end of the restore", "vbucket", r.opts.VBucket, "error", b.err)
	}
	close(b.ready)
	<-ctx.Done()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.taken {
		return
	}
	b.taken = true
	if err := b.discard(); err != nil {
		r.opts.Log.Warn("the folder of a restore that was cut short cannot be removed", "vbucket", r.opts.VBucket, "folder", b.place, "error", err)
	}
}

// unstage builds in the next generation's folder.
func (b *restoreBuild) unstage(ctx context.Context, r *Replica, m *fsm.Machine) error {
	var err error
	if b.place, err = r.nextPlace(ctx); err != nil {
		return err
	}
	return b.build(ctx, r, m)
}

// build opens an engine in the folder and puts the staged pairs into it.
func (b *restoreBuild) build(ctx context.Context, r *Replica, m *fsm.Machine) error {
	view, err := m.View()
	if err != nil {
		return err
	}
	defer view.Close()
	if b.engine, err = r.opts.Open(b.place); err != nil {
		return err
	}
	b.staged, err = view.Unstage(ctx, b.engine)
	return err
}

// finish adds to the state what EndRestore keeps of old, and opens it.
func (b *restoreBuild) finish(ctx context.Context, r *Replica, old *fsm.Machine, e fsm.Entry) (*fsm.Machine, error) {
	err := old.Restored(ctx, e, b.engine, b.staged)
	if err := errors.Join(err, b.engine.Close()); err != nil {
		return nil, err
	}
	return r.state.OpenAt(b.place, fsm.NewReplica)
}

// nextPlace returns the folder of the next generation; "" for a diskless state.
func (r *Replica) nextPlace(ctx context.Context) (string, error) {
	unlock, err := r.state.LockState(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	return r.state.NextPlace()
}

// discard removes what was built.
func (b *restoreBuild) discard() error {
	var err error
	if b.engine != nil {
		err = b.engine.Close()
	}
	return errors.Join(err, state.RemoveFolder(b.place))
}

// take waits for the result and hands it over: the caller closes the engine, and uses or
// removes the folder. It fails if nothing was built, or the build was cancelled.
func (b *restoreBuild) take() error {
	<-b.ready
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil && b.taken {
		return context.Canceled
	}
	if b.err == nil {
		b.taken = true
	}
	return b.err
}

// takeBuild ends the build of a restore, if there is one, and returns it if it was
// successful.
func (r *Replica) takeBuild(id []byte) *restoreBuild {
	b := r.build.Swap(nil)
	if b == nil {
		return nil
	}
	err := errors.New("it is of another restore")
	if bytes.Equal(b.id, id) {
		err = b.take()
	}
	b.cancel()
	<-b.gone
	if err != nil {
		return nil
	}
	return b
}

// dropBuild cancels the build, if there is one, and waits until its folder is removed.
func (r *Replica) dropBuild() {
	if b := r.build.Swap(nil); b != nil {
		b.cancel()
		<-b.gone
	}
}

// awaitBuild waits until the state that a restore will end with is built here. The error is
// why it cannot be built.
func (r *Replica) awaitBuild(ctx context.Context, id []byte) error {
	b := r.build.Load()
	if b == nil || !bytes.Equal(b.id, id) {
		return nil // EndRestore builds it
	}
	select {
	case <-b.ready:
		if errors.Is(b.err, context.Canceled) && ctx.Err() == nil {
			return r.whyDropped()
		}
		return b.err
	case <-ctx.Done():
		return ctx.Err()
	case <-r.state.Closing():
		return replica.ErrClosed
	}
}

// whyDropped returns why a build was cancelled that its caller still waits for.
func (r *Replica) whyDropped() error {
	if r.state.IsClosing() {
		return replica.ErrClosed
	}
	if err := r.state.Refusal(); err != nil {
		return err
	}
	return kv.Errorf(kv.Unavailable, "what was staged is dropped, since the log got another owner, or its clock was set, during the restore; try again")
}
