package raft

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/statemachine"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/replica"
)

// machine is what Dragonboat applies the log to: an adapter of the replica's state machine.
// An error that it returned would end the process, so a storage error stops the replica
// instead. Each start of the replica's part in the log has a machine of its own.
//
// Between a failure and the stop Dragonboat continues, and counts entries as applied that
// were skipped. So a machine that is no longer live applies no later entry, neither syncs
// for a snapshot nor sends one, and confirms no read.
type machine struct {
	r        *Replica
	log      dragonboat.ReadonlyLogReader
	gaps     logGaps
	entries  []fsm.Entry
	commands []command.Command
	results  []command.Result
	// state is what the log is applied to. It is no longer the replica's once the replica
	// has failed and reopened its state for another machine: what is still applied by this
	// one must not get there.
	state atomic.Pointer[fsm.Machine]
	// refused is why the replica takes no part in the log; nil if it does.
	refused atomic.Pointer[error]
	// unloaded is closed when Dragonboat no longer uses this start of the replica.
	unloaded   chan struct{}
	unloadOnce sync.Once
}

func newMachine(r *Replica) *machine { return &machine{r: r, unloaded: make(chan struct{})} }

// live reports whether every entry that Dragonboat has given to s is in the state. Once it
// is false it stays false.
func (s *machine) live() bool { return s.r.applier.Load() == s && s.r.State() != replica.Failed }

// retire makes s no longer live, and reports whether the log was applied by s.
func (s *machine) retire() bool { return s.r.applier.CompareAndSwap(s, nil) }

// fail retires s and fails the replica, unless s was retired before: then the replica may
// have recovered.
func (s *machine) fail(err error) {
	if s.retire() {
		s.r.fail(err)
	}
}

// at is the last entry of the log that the state reflects.
func (s *machine) at() uint64 {
	m := s.state.Load()
	return m.Applied() - m.Base()
}

// Update implements statemachine.IOnDiskStateMachine: all entries become one engine batch,
// which is not synced. The log is synced; a crash leaves an earlier, consistent state, to
// which the log is applied again.
func (s *machine) Update(entries []statemachine.Entry) ([]statemachine.Entry, error) {
	begun := time.Now()
	if err := s.apply(entries); err != nil {
		if s.r.cutShort(err) {
			s.retire()
		} else {
			s.fail(err)
		}
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
	s.r.moments.apply(entries[len(entries)-1].Index, begun, time.Now())
	return entries, nil
}

func (s *machine) apply(entries []statemachine.Entry) error {
	if !s.live() {
		return errPassedOver
	}
	if err := s.follows(entries); err != nil {
		return err
	}
	// Entries before one that is not understood are applied: an upgraded node continues
	// from there.
	n, unread := s.decode(entries)
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
	m := s.state.Load()
	s.r.followStaging(m)
	s.r.state.Advance(m.Applied())
	s.r.filled(m)
	if unread != nil {
		return unread
	}
	return s.r.understands(m)
}

// decode decodes entries, up to the first that it cannot, and returns how many.
func (s *machine) decode(entries []statemachine.Entry) (n int, err error) {
	n = len(entries)
	s.entries, s.commands, s.results = grow(s.entries, n), grow(s.commands, n), grow(s.results, n)
	for i := range entries {
		if s.commands[i], err = command.Decode(entries[i].Cmd); err != nil {
			return i, fmt.Errorf("log entry %d: %w", entries[i].Index, err)
		}
		s.entries[i] = fsm.Entry{Command: &s.commands[i]}
	}
	return n, nil
}

// errPassedOver is why an entry that follows a failure is not applied.
var errPassedOver = errors.New("an earlier entry of the log was not applied here")

// follows returns an error if entries do not continue from what is applied. Dragonboat does
// not show entries of its own, such as changes of the membership and the entry that begins
// a term. So gaps are allowed, unless the log shows a command in one.
func (s *machine) follows(entries []statemachine.Entry) error {
	last := s.at()
	for i := range entries {
		index := entries[i].Index
		if index <= last {
			return fmt.Errorf("log entry %d came after entry %d", index, last)
		}
		s.gaps.add(last+1, index)
		last = index
	}
	_, err := s.gaps.check(s.log)
	return err
}

// applyBatch applies entries, whose commands begin at first, as one engine batch.
func (s *machine) applyBatch(entries []statemachine.Entry, first int) error {
	m := s.state.Load()
	batch, results := s.entries[first:first+len(entries)], s.results[first:first+len(entries)]
	for i := range entries {
		batch[i].Index = m.Base() + entries[i].Index
	}
	if m.Restores(batch[0].Command) {
		restored, err := s.r.restored(batch[0], m)
		if err != nil {
			return err
		}
		s.state.Store(restored)
		results[0] = command.Result{Index: restored.Applied()}
		return nil
	}
	if err := m.Apply(batch, results, false); err != nil {
		return err
	}
	s.r.state.FollowClock(batch, results)
	return nil
}

// grow returns a slice of n elements, in the memory of s if that is enough.
func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// Lookup implements statemachine.IOnDiskStateMachine. Reads use the state machine itself,
// when ReadIndex or the lease allows them.
func (s *machine) Lookup(any) (any, error) {
	return nil, errors.New("reads do not go through the log's library")
}

// Sync implements statemachine.IOnDiskStateMachine: the log may be compacted up to what it
// has made durable. Dragonboat calls it before it compacts the log, and keeps the log on an
// error. It also calls it now and then, and after a snapshot was received, which is durable
// already; on these occasions an error would end the process.
func (s *machine) Sync() error {
	err := s.sync()
	if err == nil || !calledBy("concurrentSave") {
		return nil
	}
	return unsynced{err}
}

func (s *machine) sync() error {
	if err := s.whole(); err != nil {
		return err
	}
	synced := s.at()
	err := s.state.Load().Sync()
	if err == nil {
		err = s.r.host.NoteSynced(s.r.raft.Shard, synced)
	}
	if err != nil {
		s.fail(err)
	}
	return err
}

// whole returns an error unless every command that Dragonboat counts as applied has been
// applied, as far as it has shown them.
func (s *machine) whole() error {
	if !s.live() {
		return errPassedOver
	}
	checked, err := s.gaps.check(s.log)
	switch {
	case err != nil:
		s.fail(err)
	case !checked:
		return errUnchecked
	}
	return err
}

var errUnchecked = errors.New("the log does not show yet whether it is applied without a gap")

// calledBy reports whether a function of Dragonboat's state machine is among the callers.
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

// unsynced is the error of Sync. If Sync fails before the log is compacted, Dragonboat
// gives up the attempt for errors that it knows, and ends the process for all others. It
// does not export the errors that it knows, but an error's own Is method decides what it
// counts as.
type unsynced struct{ error }

func (e unsynced) Unwrap() error { return e.error }

// Is has errors.Is find the error by which no snapshot was taken and nothing may be
// compacted.
func (unsynced) Is(target error) bool { return target.Error() == "snapshot out of date" }

// Close implements statemachine.IOnDiskStateMachine: no worker of Dragonboat uses this start of
// the replica any more. The state is closed by its replica, since reads may still be under way.
func (s *machine) Close() error {
	s.markUnloaded()
	return nil
}

func (s *machine) markUnloaded() { s.unloadOnce.Do(func() { close(s.unloaded) }) }

func (s *machine) isUnloaded() bool {
	select {
	case <-s.unloaded:
		return true
	default:
		return false
	}
}
