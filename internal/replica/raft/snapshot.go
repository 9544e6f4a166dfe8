package raft

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/lni/dragonboat/v4/statemachine"
	"golang.org/x/time/rate"

	"github.com/dkvdb/dkv/internal/replica/raft/filestream"
)

// preparedSnapshot is a state that is being streamed to a follower.
type preparedSnapshot struct {
	dir string
	// failed says that it could not be prepared.
	failed bool
}

// PrepareSnapshot implements statemachine.IOnDiskStateMachine. Nothing is applied
// meanwhile, so it only links files.
//
// It returns no error: Dragonboat would then leave the stream to the follower open forever,
// and never send it another one. SaveSnapshot ends the stream.
func (s *machine) PrepareSnapshot() (any, error) {
	if s.whole() != nil {
		return &preparedSnapshot{failed: true}, nil
	}
	var size uint64
	dir, err := s.r.snapshotDir()
	if err == nil {
		err = s.state.Load().Checkpoint(dir)
	}
	if err == nil {
		_, size, err = filestream.Files(dir)
	}
	if err != nil {
		s.r.opts.Log.Error("cannot prepare a snapshot for a follower", "error", err)
		return &preparedSnapshot{dir: dir, failed: true}, nil
	}
	s.r.sending.Store(size)
	return &preparedSnapshot{dir: dir}, nil
}

// SaveSnapshot implements statemachine.IOnDiskStateMachine.
func (s *machine) SaveSnapshot(prepared any, w io.Writer, done <-chan struct{}) error {
	snapshot := prepared.(*preparedSnapshot)
	if snapshot.dir != "" {
		defer os.RemoveAll(snapshot.dir)
	}
	if snapshot.failed || !s.live() {
		return statemachine.ErrSnapshotAborted
	}
	ctx, cancel := untilDone(done)
	defer cancel()
	var limit *rate.Limiter
	if n := s.r.raft.SnapshotRate; n > 0 {
		limit = rate.NewLimiter(rate.Limit(n), max(int(n), filestream.BufferSize))
	}
	counted := &countingWriter{w: w}
	err := filestream.Write(ctx, counted, snapshot.dir, limit)
	switch {
	case err == nil:
		s.r.stats.snapshotsSent.Add(1)
		s.r.stats.snapshotBytes.Add(counted.n)
		s.r.opts.Log.Info("sent a snapshot to a follower", "bytes", counted.n)
		return nil
	case ctx.Err() != nil:
		return statemachine.ErrSnapshotStopped
	case errors.Is(err, statemachine.ErrSnapshotStreaming), errors.Is(err, statemachine.ErrSnapshotStopped):
		return err
	}
	s.r.opts.Log.Warn("cannot send a snapshot to a follower", "error", err)
	return statemachine.ErrSnapshotAborted
}

// RecoverFromSnapshot implements statemachine.IOnDiskStateMachine: the new state is built
// beside the old one and replaces it by one rename.
func (s *machine) RecoverFromSnapshot(in io.Reader, done <-chan struct{}) error {
	ctx, cancel := untilDone(done)
	defer cancel()
	m, err := s.r.recover(ctx, in, s.state.Load())
	switch {
	case err == nil:
		s.state.Store(m)
		return nil
	case ctx.Err() != nil:
		s.retire()
	default:
		s.fail(fmt.Errorf("receive a snapshot: %w", err))
		// Dragonboat takes the error for a stop, and would continue with the entries after
		// the snapshot.
		<-done
	}
	return statemachine.ErrSnapshotStopped
}

// untilDone returns a context that ends when done is closed.
func untilDone(done <-chan struct{}) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		select {
		case <-done:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

type countingWriter struct {
	w io.Writer
	n uint64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += uint64(n)
	return n, err
}

// snapshotDir returns the path of a new folder for one snapshot.
func (r *Replica) snapshotDir() (string, error) {
	return r.opts.Generations.Scratch(fmt.Sprintf("snapshot-%d", r.scratches.Add(1)))
}
