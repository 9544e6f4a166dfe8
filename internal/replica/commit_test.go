package replica

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// outcome is what became of one proposal.
type outcome struct {
	res command.Result
	err error
}

// proposeAll starts a goroutine for each command and returns a function that
// waits for their outcomes.
func (r *rig) proposeAll(ctx context.Context, cs ...*command.Command) func() []outcome {
	out := make([]outcome, len(cs))
	var wg sync.WaitGroup
	for i, c := range cs {
		wg.Go(func() { out[i].res, out[i].err = r.Propose(ctx, c) })
	}
	return func() []outcome { wg.Wait(); return out }
}

func TestWaitingProposalsShareOneWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		begun, release := r.holdWrites()
		first := r.proposeAll(t.Context(), put("first", "1"))
		<-begun
		before := r.writes.Load()
		const n = 200
		cs := make([]*command.Command, n)
		for i := range cs {
			cs[i] = put(fmt.Sprint("k", i), fmt.Sprint("v", i))
		}
		rest := r.proposeAll(t.Context(), cs...)
		synctest.Wait() // all of them wait for the write that is held up
		release()
		if o := first()[0]; o.err != nil || o.res.Index != 1 {
			t.Fatalf("first: %+v", o)
		}
		var indexes []kv.Index
		for i, o := range rest() {
			if o.err != nil {
				t.Fatalf("proposal %d: %v", i, o.err)
			}
			indexes = append(indexes, o.res.Index)
			r.wantValue(fmt.Sprint("k", i), fmt.Sprint("v", i))
		}
		if got := r.writes.Load() - before; got != 1 {
			t.Errorf("%d proposals took %d writes, want 1", n, got)
		}
		slices.Sort(indexes)
		for i, index := range indexes {
			if index != kv.Index(i+2) {
				t.Fatalf("indexes are not contiguous: %v", indexes)
			}
		}
	})
}

// TestUnreadableKeyFailsAlone: of a group of mutations only the one whose key
// cannot be read is refused, and it is known not to be applied.
func TestUnreadableKeyFailsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) {
			open := r.opts.Open
			r.opts.Open = func(dir string) (storage.Engine, error) {
				e, err := open(dir)
				return rotten{e}, err
			}
		})
		begun, release := r.holdWrites()
		first := r.proposeAll(t.Context(), put("first", "1"))
		<-begun
		rest := r.proposeAll(t.Context(), put("a", "1"), del("rotten"), put("b", "2"), del("first"))
		synctest.Wait()
		release()
		if o := first()[0]; o.err != nil {
			t.Fatal(o.err)
		}
		for i, o := range rest() {
			if i == 1 {
				wantError(t, o.err, kv.Corrupt, kv.NotApplied)
			} else if o.err != nil {
				t.Errorf("mutation %d: %v", i, o.err)
			}
		}
		r.wantValue("a", "1")
		r.wantValue("b", "2")
		if s := r.Status(); s.State != Serving || s.Corruption == nil {
			t.Errorf("status %v, corruption %v", s.State, s.Corruption)
		}
	})
}

func TestGroupsAreBounded(t *testing.T) {
	for name, c := range map[string]struct {
		commands, size, groups int
	}{
		"by number": {maxGroupCommands + 1, 1, 2},
		"by bytes":  {5, maxGroupBytes / 2, 5},
		"not":       {maxGroupCommands, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				begun, release := r.holdWrites()
				first := r.proposeAll(t.Context(), put("first", "1"))
				<-begun
				before := r.writes.Load()
				value := strings.Repeat("v", c.size)
				cs := make([]*command.Command, c.commands)
				for i := range cs {
					cs[i] = put(fmt.Sprint(i), value)
				}
				rest := r.proposeAll(t.Context(), cs...)
				synctest.Wait()
				release()
				first()
				for _, o := range rest() {
					if o.err != nil {
						t.Fatal(o.err)
					}
				}
				if got := r.writes.Load() - before; got != int64(c.groups) {
					t.Errorf("%d writes, want %d", got, c.groups)
				}
			})
		})
	}
}

// TestEachProposalHasItsOwnResult puts commands with different results into one
// group; they are applied in the order in which they came.
func TestEachProposalHasItsOwnResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		begun, release := r.holdWrites()
		first := r.proposeAll(t.Context(), put("k", "old"))
		<-begun
		cas := func(expect, value string) *command.Command {
			c := put("k", value)
			c.Kind, c.Expect = command.CompareAndSet, []byte(expect)
			return c
		}
		counter := &command.Command{Kind: command.Increment, Delta: 5, Mutations: []kv.Mutation{{Key: []byte("n")}}}
		notACounter := &command.Command{Kind: command.Increment, Delta: 1, Mutations: []kv.Mutation{{Key: []byte("k")}}}
		var waits []func() []outcome
		for _, c := range []*command.Command{cas("old", "new"), cas("old", "newer"), counter, notACounter} {
			waits = append(waits, r.proposeAll(t.Context(), c))
			synctest.Wait() // one after the other into the queue
		}
		release()
		first()
		want := []command.Result{
			{Index: 2, Code: command.OK},
			{Index: 3, Code: command.NotUpdated},
			{Index: 4, Code: command.OK, Counter: 5},
			{Index: 5, Code: command.NotACounter},
		}
		for i, wait := range waits {
			if o := wait()[0]; o.err != nil || o.res != want[i] {
				t.Errorf("command %d: %+v, %v; want %+v", i, o.res, o.err, want[i])
			}
		}
		r.wantValue("k", "new")
	})
}

func TestProposalGivenUpWhileQueuedIsNotApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		begun, release := r.holdWrites()
		first := r.proposeAll(t.Context(), put("first", "1"))
		<-begun
		ctx, cancel := context.WithCancel(t.Context())
		second := r.proposeAll(ctx, put("second", "2"))
		synctest.Wait()
		cancel()
		err := second()[0].err
		wantError(t, err, kv.Unavailable, kv.NotApplied)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v does not tell why", err)
		}
		third := r.proposeAll(t.Context(), put("third", "3"))
		synctest.Wait()
		release()
		first()
		if o := third()[0]; o.err != nil || o.res.Index != 2 {
			t.Errorf("the proposal behind it: %+v", o)
		}
		r.wantValue("second", "")
		changes, err := r.Changes(t.Context(), 1, 0, 1<<20)
		if err != nil || len(changes.Changes) != 2 || changes.Newest != 2 {
			t.Errorf("changes %+v, %v", changes, err)
		}
	})
}

func TestProposalGivenUpWhileWrittenIsUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		begun, release := r.holdWrites()
		ctx, cancel := context.WithCancel(t.Context())
		wait := r.proposeAll(ctx, put("k", "v"))
		<-begun
		cancel()
		wantError(t, wait()[0].err, kv.Unavailable, kv.Unknown)
		r.wantValue("k", "") // not visible before it is durable
		release()
		synctest.Wait()
		r.wantValue("k", "v") // it did land
		// The proposal that was given up must not be used again for another.
		if got := r.mustPut("k2", "v2"); got != 2 {
			t.Errorf("next index is %d", got)
		}
	})
}

func TestProposalOfEndedContextIsNotApplied(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := r.Propose(ctx, put("k", "v"))
	wantError(t, err, kv.Unavailable, kv.NotApplied)
	if got := r.mustPut("next", "v"); got != 1 {
		t.Errorf("it took an index: the next one is %d", got)
	}
}

func TestWriteErrorEndsMutations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.mustPut("before", "1")
		broken := errors.New("input/output error")
		begun, gate := make(chan struct{}, 1), make(chan struct{})
		r.onWrite(func() error { begun <- struct{}{}; <-gate; return broken })
		group := r.proposeAll(t.Context(), put("a", "1"))
		<-begun
		queued := r.proposeAll(t.Context(), put("b", "1"), put("c", "1"))
		synctest.Wait()
		r.onWrite(nil) // only that one write fails
		close(gate)

		err := group()[0].err
		wantError(t, err, kv.Internal, kv.Unknown)
		if !errors.Is(err, broken) {
			t.Errorf("%v does not tell why", err)
		}
		for _, o := range queued() {
			wantError(t, o.err, kv.Unavailable, kv.NotApplied)
		}
		_, err = r.Propose(t.Context(), put("d", "1"))
		wantError(t, err, kv.Unavailable, kv.NotApplied)
		const want = "storage failed, only reads are served: apply at index 2: memory engine: sync: input/output error; repair it and restart, or restore a backup"
		if err.Error() != want {
			t.Errorf("error %q, want %q", err, want)
		}
		r.wantValue("before", "1")
		r.wantValue("b", "")
		s := r.Status()
		if s.State != Failed || !errors.Is(s.Err, broken) || s.ReadOnly != want || s.Applied != 1 {
			t.Errorf("status %+v", s)
		}
		if _, err := r.Propose(t.Context(), &command.Command{Kind: command.SetPaused, Flag: true}); err == nil {
			t.Error("a pause was accepted by a failed replica")
		}
	})
}

func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		begun, release := r.holdWrites()
		defer release()
		r.proposeAll(t.Context(), put("first", "1"))
		<-begun
		big := strings.Repeat("v", maxQueued/2)
		waiting := r.proposeAll(t.Context(), put("a", big))
		synctest.Wait()
		_, err := r.Propose(t.Context(), put("b", big))
		wantError(t, err, kv.Exhausted, kv.NotApplied)
		release()
		if o := waiting()[0]; o.err != nil {
			t.Error(o.err)
		}
		r.mustPut("b", "there is room again")
	})
}

func TestPause(t *testing.T) {
	r := newRig(t)
	r.mustPut("k", "v")
	r.mustPropose(&command.Command{Kind: command.SetPaused, Flag: true})
	_, err := r.Propose(context.Background(), put("k", "w"))
	wantError(t, err, kv.Precondition, kv.NotApplied)
	if s := r.Status(); !s.Paused || s.ReadOnly != err.Error() || s.State != Serving {
		t.Errorf("status %+v", s)
	}
	r.wantValue("k", "v")
	r.mustPropose(&command.Command{Kind: command.SetPaused})
	r.mustPut("k", "w")
	if s := r.Status(); s.Paused || s.ReadOnly != "" {
		t.Errorf("status %+v", s)
	}
}

// TestPauseMeetsQueuedProposals has a pause in front of a put in one group: the
// put passed the check at the door, and is refused by the log.
func TestPauseMeetsQueuedProposals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		begun, release := r.holdWrites()
		first := r.proposeAll(t.Context(), put("first", "1"))
		<-begun
		pause := r.proposeAll(t.Context(), &command.Command{Kind: command.SetPaused, Flag: true})
		synctest.Wait()
		late := r.proposeAll(t.Context(), put("late", "1"))
		synctest.Wait()
		release()
		first()
		if o := pause()[0]; o.err != nil {
			t.Fatal(o.err)
		}
		wantError(t, late()[0].err, kv.Precondition, kv.NotApplied)
		r.wantValue("late", "")
	})
}

func TestKindOf(t *testing.T) {
	for _, c := range []struct {
		err  error
		want kv.Kind
	}{
		{kv.Errorf(kv.OutOfRange, "x"), kv.OutOfRange},
		{fmt.Errorf("y: %w", kv.Errorf(kv.NotFound, "x")), kv.NotFound},
		{storage.ErrNoSpace, kv.Exhausted},
		{storage.ErrCorrupt, kv.Corrupt},
		{storage.ErrClosed, kv.Unavailable},
		{context.DeadlineExceeded, kv.Unavailable},
		{&fs.PathError{Op: "mkdir", Path: "/x", Err: syscall.EROFS}, kv.Precondition},
		{&fs.PathError{Op: "open", Path: "/x", Err: syscall.EACCES}, kv.Precondition},
		{&fs.PathError{Op: "mkdir", Path: "/x", Err: syscall.ENOTDIR}, kv.Precondition},
		{errors.New("anything"), kv.Internal},
	} {
		if got := kindOf(fmt.Errorf("wrapped: %w", c.err)); got != c.want {
			t.Errorf("kindOf(%v) = %d, want %d", c.err, got, c.want)
		}
	}
}
