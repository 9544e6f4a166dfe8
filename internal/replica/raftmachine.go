package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/lni/dragonboat/v4/statemachine"
	"golang.org/x/time/rate"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm"
)

// raftMachine is what Dragonboat applies the log to: a thin coat around the
// replica's state machine. An error that it returns ends the process, so what
// storage reports stops the replica instead.
type raftMachine struct {
	r        *Raft
	entries  []fsm.Entry
	commands []command.Command
	results  []command.Result
}

// Open implements statemachine.IOnDiskStateMachine.
func (s *raftMachine) Open(<-chan struct{}) (uint64, error) {
	m := s.r.machine.Load()
	return m.Applied() - m.Base(), nil
}

// Update implements statemachine.IOnDiskStateMachine: all entries become one
// engine batch, which is not synced. The log is what was synced; a crash leaves
// an earlier state, whole, from which the log goes on.
func (s *raftMachine) Update(entries []statemachine.Entry) ([]statemachine.Entry, error) {
	if err := s.apply(entries); err != nil {
		s.r.fail(err)
		for i := range entries {
			entries[i].Result = statemachine.Result{Value: storageFailed << resultIndexBits}
		}
		return entries, nil
	}
	for i := range entries {
		entries[i].Result = packResult(s.results[i])
	}
	clear(s.entries)
	clear(s.commands)
	clear(s.results)
	return entries, nil
}

func (s *raftMachine) apply(entries []statemachine.Entry) error {
	if s.r.State() == Failed {
		return s.r.standing.Load().err
	}
	n := len(entries)
	s.entries, s.commands, s.results = grow(s.entries, n), grow(s.commands, n), grow(s.results, n)
	for i := range entries {
		c, err := command.Decode(entries[i].Cmd)
		if err != nil {
			return fmt.Errorf("log entry %d: %w", entries[i].Index, err)
		}
		s.commands[i] = c
		s.entries[i] = fsm.Entry{Command: &s.commands[i]}
	}
	// One batch, unless the state is replaced in the middle of it.
	for begin := 0; begin < n; {
		end := begin
		for end < n && s.commands[end].Kind != command.EndRestore {
			end++
		}
		if end == begin {
			end++
		}
		if err := s.applyBatch(entries[begin:end], begin); err != nil {
			return err
		}
		begin = end
	}
	s.r.progress.advance(s.r.machine.Load().Applied())
	return nil
}

// applyBatch applies entries, whose commands begin at first, as one engine batch.
func (s *raftMachine) applyBatch(entries []statemachine.Entry, first int) error {
	m := s.r.machine.Load()
	batch, results := s.entries[first:first+len(entries)], s.results[first:first+len(entries)]
	for i := range entries {
		batch[i].Index = m.Base() + entries[i].Index
	}
	if m.Restores(batch[0].Command) {
		index, err := s.r.restored(batch[0])
		results[0] = command.Result{Index: index}
		return err
	}
	return m.Apply(batch, results, false)
}

// grow returns a slice of n elements, in the memory of s where that is enough.
func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// Lookup implements statemachine.IOnDiskStateMachine. Reads go to the state
// machine itself, once ReadIndex or the lease allows them.
func (s *raftMachine) Lookup(any) (any, error) {
	return nil, errors.New("reads do not go through the log's library")
}

// Sync implements statemachine.IOnDiskStateMachine: the log may be cut behind
// what it made durable. Dragonboat calls it before it cuts the log, where an error
// has it keep the log, and on two occasions where nothing comes of it and an error
// would end the process: now and then, and behind a snapshot that was received,
// which is durable by itself.
func (s *raftMachine) Sync() error {
	m := s.r.machine.Load()
	synced := m.Applied() - m.Base()
	err := m.Sync()
	if err == nil {
		err = s.r.host.noteSynced(s.r.raft.Shard, synced)
	}
	if err == nil {
		return nil
	}
	s.r.fail(err)
	if !calledBy("concurrentSave") {
		return nil
	}
	return unsynced{err}
}

// calledBy tells whether a function of Dragonboat's state machine is among the
// callers.
func calledBy(name string) bool {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for {
		frame, more := frames.Next()
		if strings.HasSuffix(frame.Function, "internal/rsm.(*StateMachine)."+name) {
			return true
		}
		if !more {
			return false
		}
	}
}

// unsynced is the error of Sync. Before the log is cut, Dragonboat calls Sync and
// gives the attempt up where the error is one of those that it knows; it ends the
// process for all others. Those that it knows are not exported, but an error may
// say itself what it is.
type unsynced struct{ error }

func (e unsynced) Unwrap() error { return e.error }

// Is tells errors.Is that nothing was snapshot and nothing may be cut.
func (unsynced) Is(target error) bool { return target.Error() == "snapshot out of date" }

// Close implements statemachine.IOnDiskStateMachine. The state is closed by its
// replica, since reads may still be under way.
func (s *raftMachine) Close() error { return nil }

// raftSnapshot is a state that is being streamed to a follower.
type raftSnapshot struct {
	dir string
}

// PrepareSnapshot implements statemachine.IOnDiskStateMachine. Nothing is applied
// meanwhile, so it only links files.
func (s *raftMachine) PrepareSnapshot() (any, error) {
	dir, err := s.r.snapshotDir()
	if err == nil {
		err = s.r.machine.Load().Checkpoint(dir)
	}
	if err != nil {
		s.r.opts.Log.Error("cannot prepare a snapshot for a follower", "error", err)
		return nil, statemachine.ErrSnapshotAborted
	}
	return &raftSnapshot{dir: dir}, nil
}

// SaveSnapshot implements statemachine.IOnDiskStateMachine.
func (s *raftMachine) SaveSnapshot(prepared any, w io.Writer, done <-chan struct{}) error {
	snapshot := prepared.(*raftSnapshot)
	defer os.RemoveAll(snapshot.dir)
	ctx, cancel := untilDone(done)
	defer cancel()
	var limit *rate.Limiter
	if n := s.r.raft.SnapshotRate; n > 0 {
		limit = rate.NewLimiter(rate.Limit(n), max(int(n), streamBuffer))
	}
	counted := &countingWriter{w: w}
	err := writeFiles(ctx, counted, snapshot.dir, limit)
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

// RecoverFromSnapshot implements statemachine.IOnDiskStateMachine: the new state
// is built aside and takes the old one's place with one rename.
func (s *raftMachine) RecoverFromSnapshot(in io.Reader, done <-chan struct{}) error {
	ctx, cancel := untilDone(done)
	defer cancel()
	if err := s.r.recover(ctx, in); err != nil {
		if ctx.Err() == nil {
			s.r.fail(fmt.Errorf("receive a snapshot: %w", err))
			// Dragonboat takes the error for a stop, and would go on with the
			// entries behind the snapshot.
			<-done
		}
		return statemachine.ErrSnapshotStopped
	}
	return nil
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

// snapshotDir returns a folder that does not exist, for one snapshot.
func (r *Raft) snapshotDir() (string, error) {
	return r.opts.Generations.Scratch(fmt.Sprintf("snapshot-%d", r.scratches.Add(1)))
}
