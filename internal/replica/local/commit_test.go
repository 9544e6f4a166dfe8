package local_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/local"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/storage"
)

func TestWaitingProposalsShareOneWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := replicatest.RunNode(t)
		begun, release := r.HoldWrites()
		first := r.ProposeAll(t.Context(), replicatest.Put("first", "1"))
		<-begun
		before := r.Writes()
		const n = 200
		cs := make([]*command.Command, n)
		for i := range cs {
			cs[i] = replicatest.Put(fmt.Sprint("k", i), fmt.Sprint("v", i))
		}
		rest := r.ProposeAll(t.Context(), cs...)
		synctest.Wait() // all of them wait for the write that is held up
		release()
		if o := first()[0]; o.Err != nil || o.Res.Index != 1 {
			t.Fatalf("first: %+v", o)
		}
		var indexes []kv.Index
		for i, o := range rest() {
			if o.Err != nil {
				t.Fatalf("proposal %d: %v", i, o.Err)
			}
			indexes = append(indexes, o.Res.Index)
			r.WantValue(fmt.Sprint("k", i), fmt.Sprint("v", i))
		}
		if got := r.Writes() - before; got != 1 {
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
		r := replicatest.RunNode(t, func(r *replicatest.Rig) {
			open := r.Opts.Open
			r.Opts.Open = func(dir string) (storage.Engine, error) {
				e, err := open(dir)
				return replicatest.Rotten{Engine: e}, err
			}
		})
		begun, release := r.HoldWrites()
		first := r.ProposeAll(t.Context(), replicatest.Put("first", "1"))
		<-begun
		rest := r.ProposeAll(t.Context(), replicatest.Put("a", "1"), replicatest.Del("rotten"), replicatest.Put("b", "2"), replicatest.Del("first"))
		synctest.Wait()
		release()
		if o := first()[0]; o.Err != nil {
			t.Fatal(o.Err)
		}
		for i, o := range rest() {
			if i == 1 {
				replicatest.WantError(t, o.Err, kv.Corrupt, kv.NotApplied)
			} else if o.Err != nil {
				t.Errorf("mutation %d: %v", i, o.Err)
			}
		}
		r.WantValue("a", "1")
		r.WantValue("b", "2")
		if s := r.Status(); s.State != replica.Serving || s.Corruption == nil {
			t.Errorf("status %v, corruption %v", s.State, s.Corruption)
		}
	})
}

func TestGroupsAreBounded(t *testing.T) {
	for name, c := range map[string]struct {
		commands, size, groups int
	}{
		"by number": {local.MaxGroupCommands + 1, 1, 2},
		"by bytes":  {5, local.MaxGroupBytes / 2, 5},
		"not":       {local.MaxGroupCommands, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := replicatest.RunNode(t)
				begun, release := r.HoldWrites()
				first := r.ProposeAll(t.Context(), replicatest.Put("first", "1"))
				<-begun
				before := r.Writes()
				value := strings.Repeat("v", c.size)
				cs := make([]*command.Command, c.commands)
				for i := range cs {
					cs[i] = replicatest.Put(fmt.Sprint(i), value)
				}
				rest := r.ProposeAll(t.Context(), cs...)
				synctest.Wait()
				release()
				first()
				for _, o := range rest() {
					if o.Err != nil {
						t.Fatal(o.Err)
					}
				}
				if got := r.Writes() - before; got != int64(c.groups) {
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
		r := replicatest.RunNode(t)
		begun, release := r.HoldWrites()
		first := r.ProposeAll(t.Context(), replicatest.Put("k", "old"))
		<-begun
		cas := func(expect, value string) *command.Command {
			c := replicatest.Put("k", value)
			c.Kind, c.Expect = command.CompareAndSet, []byte(expect)
			return c
		}
		counter := &command.Command{Kind: command.Increment, Delta: 5, Mutations: []kv.Mutation{{Key: []byte("n")}}}
		notACounter := &command.Command{Kind: command.Increment, Delta: 1, Mutations: []kv.Mutation{{Key: []byte("k")}}}
		var waits []func() []replicatest.Outcome
		for _, c := range []*command.Command{cas("old", "new"), cas("old", "newer"), counter, notACounter} {
			waits = append(waits, r.ProposeAll(t.Context(), c))
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
			if o := wait()[0]; o.Err != nil || o.Res != want[i] {
				t.Errorf("command %d: %+v, %v; want %+v", i, o.Res, o.Err, want[i])
			}
		}
		r.WantValue("k", "new")
	})
}

func TestProposalGivenUpWhileQueuedIsNotApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := replicatest.RunNode(t)
		begun, release := r.HoldWrites()
		first := r.ProposeAll(t.Context(), replicatest.Put("first", "1"))
		<-begun
		ctx, cancel := context.WithCancel(t.Context())
		second := r.ProposeAll(ctx, replicatest.Put("second", "2"))
		synctest.Wait()
		cancel()
		err := second()[0].Err
		replicatest.WantError(t, err, kv.Unavailable, kv.NotApplied)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v does not tell why", err)
		}
		third := r.ProposeAll(t.Context(), replicatest.Put("third", "3"))
		synctest.Wait()
		release()
		first()
		if o := third()[0]; o.Err != nil || o.Res.Index != 2 {
			t.Errorf("the proposal behind it: %+v", o)
		}
		r.WantValue("second", "")
		changes, err := r.Changes(t.Context(), 1, 0, 1<<20)
		if err != nil || len(changes.Changes) != 2 || changes.Newest != 2 {
			t.Errorf("changes %+v, %v", changes, err)
		}
	})
}

func TestProposalGivenUpWhileWrittenIsUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := replicatest.RunNode(t)
		begun, release := r.HoldWrites()
		ctx, cancel := context.WithCancel(t.Context())
		wait := r.ProposeAll(ctx, replicatest.Put("k", "v"))
		<-begun
		cancel()
		replicatest.WantError(t, wait()[0].Err, kv.Unavailable, kv.Unknown)
		r.WantValue("k", "") // not visible before it is durable
		release()
		synctest.Wait()
		r.WantValue("k", "v") // it did land
		// The proposal that was given up must not be used again for another.
		if got := r.MustPut("k2", "v2"); got != 2 {
			t.Errorf("next index is %d", got)
		}
	})
}

func TestProposalOfEndedContextIsNotApplied(t *testing.T) {
	r := replicatest.RunNode(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := r.Propose(ctx, replicatest.Put("k", "v"))
	replicatest.WantError(t, err, kv.Unavailable, kv.NotApplied)
	if got := r.MustPut("next", "v"); got != 1 {
		t.Errorf("it took an index: the next one is %d", got)
	}
}

func TestWriteErrorEndsMutations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := replicatest.RunNode(t)
		r.MustPut("before", "1")
		broken := errors.New("input/output error")
		begun, gate := make(chan struct{}, 1), make(chan struct{})
		r.OnWrite(func() error { begun <- struct{}{}; <-gate; return broken })
		group := r.ProposeAll(t.Context(), replicatest.Put("a", "1"))
		<-begun
		queued := r.ProposeAll(t.Context(), replicatest.Put("b", "1"), replicatest.Put("c", "1"))
		synctest.Wait()
		r.OnWrite(nil) // only that one write fails
		close(gate)

		err := group()[0].Err
		replicatest.WantError(t, err, kv.Internal, kv.Unknown)
		if !errors.Is(err, broken) {
			t.Errorf("%v does not tell why", err)
		}
		for _, o := range queued() {
			replicatest.WantError(t, o.Err, kv.Unavailable, kv.NotApplied)
		}
		_, err = r.Propose(t.Context(), replicatest.Put("d", "1"))
		replicatest.WantError(t, err, kv.Unavailable, kv.NotApplied)
		const want = "storage failed, only reads are served: apply at index 2: memory engine: sync: input/output error; repair it and restart, or restore a backup"
		if err.Error() != want {
			t.Errorf("error %q, want %q", err, want)
		}
		r.WantValue("before", "1")
		r.WantValue("b", "")
		s := r.Status()
		if s.State != replica.Failed || !errors.Is(s.Err, broken) || s.ReadOnly != want || s.Applied != 1 {
			t.Errorf("status %+v", s)
		}
		if _, err := r.Propose(t.Context(), &command.Command{Kind: command.SetPaused, Flag: true}); err == nil {
			t.Error("a pause was accepted by a failed replica")
		}
	})
}

// TestRoomOfThoseWhoLeft has callers leave one after the other while the log stands still: what
// they have left there counts as long as it is there, whether it is being written or waits.
func TestRoomOfThoseWhoLeft(t *testing.T) {
	for name, c := range map[string]struct {
		first string // what is being written meanwhile
		want  []kv.Kind
	}{
		"waiting":       {"small", []kv.Kind{kv.Unavailable, kv.Exhausted, kv.Exhausted}},
		"being written": {strings.Repeat("v", 9<<20), []kv.Kind{kv.Exhausted, kv.Exhausted}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := replicatest.RunNode(t)
				begun, release := r.HoldWrites()
				defer release()
				gone, cancel := context.WithCancel(t.Context())
				first := r.ProposeAll(gone, replicatest.Put("first", c.first))
				<-begun
				cancel()
				replicatest.WantError(t, first()[0].Err, kv.Unavailable, kv.Unknown)
				large := strings.Repeat("v", 9<<20)
				for _, want := range c.want {
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					_, err := r.Propose(ctx, replicatest.Put("b", large))
					cancel()
					replicatest.WantError(t, err, want, kv.NotApplied)
				}
				release()
				r.WantValue("b", "")
				for range 2 {
					r.MustPut("b", large)
				}
				r.WantValue("first", c.first)
			})
		})
	}
}

func TestPause(t *testing.T) {
	r := replicatest.RunNode(t)
	r.MustPut("k", "v")
	r.MustPropose(&command.Command{Kind: command.SetPaused, Flag: true})
	_, err := r.Propose(context.Background(), replicatest.Put("k", "w"))
	replicatest.WantError(t, err, kv.Precondition, kv.NotApplied)
	if s := r.Status(); !s.Paused || s.ReadOnly != err.Error() || s.State != replica.Serving {
		t.Errorf("status %+v", s)
	}
	r.WantValue("k", "v")
	r.MustPropose(&command.Command{Kind: command.SetPaused})
	r.MustPut("k", "w")
	if s := r.Status(); s.Paused || s.ReadOnly != "" {
		t.Errorf("status %+v", s)
	}
}

// TestPauseMeetsQueuedProposals has a pause in front of a put in one group: the
// put passed the check at the door, and is refused by the log.
func TestPauseMeetsQueuedProposals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := replicatest.RunNode(t)
		begun, release := r.HoldWrites()
		first := r.ProposeAll(t.Context(), replicatest.Put("first", "1"))
		<-begun
		pause := r.ProposeAll(t.Context(), &command.Command{Kind: command.SetPaused, Flag: true})
		synctest.Wait()
		late := r.ProposeAll(t.Context(), replicatest.Put("late", "1"))
		synctest.Wait()
		release()
		first()
		if o := pause()[0]; o.Err != nil {
			t.Fatal(o.Err)
		}
		replicatest.WantError(t, late()[0].Err, kv.Precondition, kv.NotApplied)
		r.WantValue("late", "")
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
		if got := replica.KindOf(fmt.Errorf("wrapped: %w", c.err)); got != c.want {
			t.Errorf("kindOf(%v) = %d, want %d", c.err, got, c.want)
		}
	}
}

// TestLargeCommandsWaitInFrontOfTheQueue has a large command wait for its turn while another
// one is written. Small ones wait only in the queue.
func TestLargeCommandsWaitInFrontOfTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := replicatest.RunNode(t)
		large := replicatest.Put("large", strings.Repeat("v", 9<<20))
		begun, release := r.HoldWrites()
		first := r.ProposeAll(t.Context(), large)
		<-begun
		for _, w := range []struct {
			c    *command.Command
			kind kv.Kind
		}{{large, kv.Exhausted}, {replicatest.Put("small", "v"), kv.Unavailable}} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err := r.Propose(ctx, w.c)
			cancel()
			if kv.KindOf(err) != w.kind || kv.OutcomeOf(err) != kv.NotApplied {
				t.Errorf("a command of %d bytes: %v", w.c.Size(), err)
			}
		}
		release()
		if o := first()[0]; o.Err != nil {
			t.Error(o.Err)
		}
	})
}
