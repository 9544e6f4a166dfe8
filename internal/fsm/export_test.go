package fsm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm/chunks"
	"github.com/dkvdb/dkv/internal/fsm/offline"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

func viewOf(t testing.TB, m *Machine) *View {
	t.Helper()
	v, err := m.View()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

// filled is a machine with some of everything, whose snapshot has several
// chunks.
func filled(t failer) *fixture {
	t.Helper()
	x := newFixture(t)
	big := string(bytes.Repeat([]byte("0123456789abcdef"), copyChunk/64))
	for i := range 12 {
		x.apply(
			write(put(fmt.Sprintf("key%02d", i), fmt.Sprint(i)+big)),
			as(write(putUntil(fmt.Sprintf("ttl%02d", i), big, i+1)), 7, uint64(i)+1, 0),
		)
	}
	x.apply(write(put("empty", "")))
	return x
}

func TestCopy(t *testing.T) {
	for name, x := range map[string]*fixture{"empty": newFixture(t), "filled": filled(t)} {
		t.Run(name, func(t *testing.T) {
			copied := newMachine(t, copiedEngine(t, x.m))
			if !sameSpaces(replicated(t, copied.engine), replicated(t, x.engine)) {
				t.Error("the copy differs")
			}
			if hash(t, copied) != hash(t, x.m) || copied.Identity() != x.m.Identity() || copied.Applied() != x.m.Applied() {
				t.Error("the copy has another hash, identity or index")
			}
			checkInvariants(t, copied)
			// Its changes begin behind the snapshot.
			next := x.m.Applied() + 1
			if copied.ChangelogFloor() != next {
				t.Errorf("floor %d, want %d", copied.ChangelogFloor(), next)
			}
			if _, err := copied.Changes(next-1, 0, 1<<20); kv.KindOf(err) != kv.OutOfRange {
				t.Errorf("Changes below the floor: %v", err)
			}
			if ch, err := copied.Changes(next, 0, 1<<20); err != nil || len(ch.Changes) != 0 || ch.Newest != x.m.Applied() {
				t.Errorf("Changes at the floor: %+v, %v", ch, err)
			}
			again := newMachine(t, copiedEngine(t, copied))
			if !sameSpaces(replicated(t, again.engine), replicated(t, copied.engine)) {
				t.Error("the copy's copy differs")
			}
		})
	}
}

// A copy shows the view's state, whatever is applied meanwhile.
func TestCopyIsOfTheView(t *testing.T) {
	x := filled(t)
	want := replicated(t, x.engine)
	index := x.m.Applied()
	v := viewOf(t, x.m)
	x.apply(write(put("later", "1"), del("key00")), pause(true))
	e := openMemory(t)
	if err := v.CopyTo(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if v.Index() != index {
		t.Fatalf("index %d, want %d", v.Index(), index)
	}
	if !sameSpaces(replicated(t, e), want) {
		t.Fatal("the copy shows what came later")
	}
}

// failingView is an engine whose views fail from the given iteration on.
type failingView struct {
	storage.Engine
	fail int
}

func (f *failingView) NewView() (storage.View, error) {
	v, err := f.Engine.NewView()
	return failingReads{v, f}, err
}

type failingReads struct {
	storage.View
	f *failingView
}

func (v failingReads) Iterate(s storage.Space, r storage.Range) storage.Iterator {
	it := v.View.Iterate(s, r)
	if fails(&v.f.fail) {
		return failedIterator{it}
	}
	return it
}

type failedIterator struct{ storage.Iterator }

func (failedIterator) Next() bool { return false }
func (failedIterator) Err() error { return errInjected }

func TestCopyReportsErrors(t *testing.T) {
	x := filled(t)
	v := viewOf(t, x.m)
	for n := 1; ; n++ {
		f := &faulty{Engine: openMemory(t), FailWrite: n}
		err := v.CopyTo(t.Context(), f)
		if err == nil {
			if n < 5 {
				t.Fatalf("only %d writes", n)
			}
			break
		}
		if !errors.Is(err, errInjected) || errors.Is(err, chunks.ErrBadSnapshot) {
			t.Fatalf("write %d failed: %v", n, err)
		}
	}
	if err := v.CopyTo(t.Context(), &faulty{Engine: openMemory(t), FailSync: 1}); !errors.Is(err, errInjected) {
		t.Errorf("sync failed: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := v.CopyTo(ctx, openMemory(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	source := &failingView{Engine: copiedEngine(t, x.m)}
	unreadable := viewOf(t, newMachine(t, source))
	for n := 1; ; n++ {
		source.fail = n
		e := openMemory(t)
		err := unreadable.CopyTo(t.Context(), e)
		if err == nil {
			if n < 4 {
				t.Fatalf("only %d iterations", n)
			}
			break
		}
		if !errors.Is(err, errInjected) || errors.Is(err, chunks.ErrBadSnapshot) {
			t.Fatalf("iteration %d failed: %v", n, err)
		}
		if _, err := New(e); !errors.Is(err, storage.ErrCorrupt) && len(dump(t, e, storage.Data)) > 0 {
			t.Fatalf("iteration %d failed, and the remains pass for a state: %v", n, err)
		}
	}
}

// Those of the keyspace that is replaced are kept instead, unless there are none.
func TestKeepRequests(t *testing.T) {
	backup := newFixture(t)
	inBackup := backup.one(command.OK, as(increment("n", 1), 7, 1, 0))
	live, fresh := newFixture(t), newFixture(t)
	live.apply(write(put("a", "1")))
	inLive := live.one(command.OK, as(increment("n", 5), 8, 1, 0))
	for _, c := range []struct {
		replaced *fixture
		client   uint64
		first    command.Result
	}{{fresh, 7, inBackup}, {live, 8, inLive}} {
		if err := c.replaced.m.KeepRequests(context.Background(), backup.engine); err != nil {
			t.Fatal(err)
		}
		if err := offline.Rebase(t.Context(), backup.engine, live.m.Identity(), live.m.Applied()+1, false); err != nil {
			t.Fatal(err)
		}
		backup.restart()
		delta := int64(1)
		if c.client == 8 {
			delta = 5
		}
		if again := backup.one(command.OK, as(increment("n", delta), c.client, 1, 0)); again != c.first {
			t.Errorf("a retry of client %d came to %+v, the first attempt to %+v", c.client, again, c.first)
		}
		if n := backup.m.Requests().Sessions; n != 1 {
			t.Errorf("%d clients are known", n)
		}
	}
	if err := live.m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := live.m.KeepRequests(context.Background(), backup.engine); !errors.Is(err, ErrClosed) {
		t.Errorf("of a closed machine: %v", err)
	}
}

// narrow is an engine that rejects large batches, and counts each key that a range delete finds.
type narrow struct {
	storage.Engine
	most int
}

func (e narrow) Write(b *storage.Batch, sync bool) error {
	ops := 0
	err := b.Each(func(op storage.Op) error {
		if op.Kind != storage.OpDeleteRange {
			ops++
			return nil
		}
		it := e.Iterate(op.Space, storage.Range{Start: op.Key, End: op.Value, KeysOnly: true})
		defer it.Close()
		for it.Next() {
			ops++
		}
		return it.Err()
	})
	if err == nil && ops > e.most {
		err = storage.ErrTooLarge
	}
	if err != nil {
		return err
	}
	return e.Engine.Write(b, sync)
}

// However many requests are remembered that others replace, an engine can write that.
func TestReplaceManyRequests(t *testing.T) {
	many := func() *fixture {
		x := newFixture(t)
		var commands []command.Command
		for client := range uint64(12_000) {
			commands = append(commands, as(write(put("a", "1")), client+10, 1, 0))
		}
		x.apply(commands...)
		return x
	}
	live := newFixture(t)
	live.one(command.OK, as(increment("n", 5), 8, 1, 0))
	kept, imported := many(), many()
	if err := live.m.KeepRequests(t.Context(), narrow{kept.engine, 20_000}); err != nil {
		t.Error(err)
	}
	to := offline.ImportRequests(narrow{imported.engine, 20_000})
	if err := live.m.ExportRequests(t.Context(), to.Add); err != nil {
		t.Error(err)
	}
	if err := to.Finish(); err != nil {
		t.Error(err)
	}
	for _, x := range []*fixture{kept, imported} {
		x.restart()
		if n := x.m.Requests().Sessions; n != 1 {
			t.Errorf("%d clients are known", n)
		}
	}
}
