package fsm

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/storage"
)

// bulky is an engine that has a bulk load, which it counts and can fail, and which
// keeps what it is given until its end.
type bulky struct {
	storage.Engine
	failBegin, failAdd, failFinish int
	adds, finished, writes         int
	pending                        []storage.Batch
	order                          storage.LoadOrder
}

func openBulky(t failer) *bulky { return &bulky{Engine: openMemory(t)} }

func (b *bulky) BeginLoad() (storage.Load, error) {
	if fails(&b.failBegin) {
		return nil, errInjected
	}
	return (*bulkyLoad)(b), nil
}

func (b *bulky) Write(batch *storage.Batch, sync bool) error {
	b.writes++
	return b.Engine.Write(batch, sync)
}

type bulkyLoad bulky

func (l *bulkyLoad) Add(b *storage.Batch) error {
	if fails(&l.failAdd) {
		return errInjected
	}
	if err := l.order.Check(b); err != nil {
		return err
	}
	l.adds++
	var kept storage.Batch
	l.pending = append(l.pending, kept)
	return b.Each(func(op storage.Op) error {
		l.pending[len(l.pending)-1].Put(op.Space, op.Key, op.Value)
		return nil
	})
}

func (l *bulkyLoad) Finish() error {
	if fails(&l.failFinish) {
		return errInjected
	}
	l.finished++
	for i := range l.pending {
		if err := l.Engine.Write(&l.pending[i], false); err != nil {
			return err
		}
	}
	return l.Engine.Sync()
}

// An engine that has a bulk load is filled by it, but for what makes it a state.
func TestLoaderUsesBulkLoad(t *testing.T) {
	x := filled(t)
	payloads, _ := chunksOf(t, viewOf(t, x.m), func() int { return 100_000 })
	e := openBulky(t)
	l := NewLoader(e)
	for _, p := range payloads {
		if err := l.Add(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Finish(); err != nil {
		t.Fatal(err)
	}
	if e.adds < len(payloads)/2 || e.finished != 1 || e.writes != 1 {
		t.Errorf("%d batches of %d payloads were loaded in %d loads, %d written", e.adds, len(payloads), e.finished, e.writes)
	}
	m := newMachine(t, e)
	if !sameSpaces(replicated(t, e), replicated(t, x.engine)) {
		t.Error("the copy differs")
	}
	checkInvariants(t, m)
}

// What the engine says of the order is the snapshot's fault, and all else its own.
func TestLoaderReportsBulkErrors(t *testing.T) {
	payloads, _ := chunksOf(t, viewOf(t, varied(t).m), func() int { return 500 })
	load := func(e storage.Engine, payloads [][]byte) error {
		l := NewLoader(e)
		for _, p := range payloads {
			if err := l.Add(p); err != nil {
				return err
			}
		}
		return l.Finish()
	}
	for name, e := range map[string]*bulky{"begin": {failBegin: 1}, "add": {failAdd: 3}, "finish": {failFinish: 1}} {
		e.Engine = openMemory(t)
		if err := load(e, payloads); !errors.Is(err, errInjected) || errors.Is(err, ErrBadSnapshot) || e.writes > 0 {
			t.Errorf("%s: %v, %d writes", name, err, e.writes)
		}
	}
	twice := slices.Insert(slices.Clone(payloads), 1, payloads[0])
	swapped := slices.Clone(payloads)
	slices.Reverse(swapped)
	for name, p := range map[string][][]byte{"twice": twice, "swapped": swapped} {
		e := openBulky(t)
		if err := load(e, p); !errors.Is(err, ErrBadSnapshot) || e.writes > 0 {
			t.Errorf("%s: %v, %d writes", name, err, e.writes)
		}
	}
}

// A restore fills its target likewise: the pairs by a load, their expiry behind it.
func TestRestoredUsesBulkLoad(t *testing.T) {
	x := newFixture(t)
	owner := x.one(command.OK, begin(1, 1, 1))
	x.one(command.OK, fenced(owner.Index, beginRestore))
	x.one(command.OK, fenced(owner.Index, stageOf(putUntil("b", "2", 100), put("a", "1"), putUntil("c", "3", 50))))
	end := endRestore(3, 7)
	end.Fence, end.Clock = owner.Index, x.clock
	restore := func(ctx context.Context, target storage.Engine) error {
		return x.restored(ctx, Entry{Index: x.m.Applied() + 1, Command: &end}, target)
	}
	bulk, plain := openBulky(t), openMemory(t)
	for _, target := range []storage.Engine{bulk, plain} {
		if err := restore(context.Background(), target); err != nil {
			t.Fatal(err)
		}
		checkInvariants(t, mustReplica(t, target))
	}
	if !sameSpaces(replicated(t, bulk), replicated(t, plain)) || bulk.finished != 1 {
		t.Errorf("restored by %d loads, another state than by writes", bulk.finished)
	}
	for name, e := range map[string]*bulky{"begin": {failBegin: 1}, "add": {failAdd: 1}, "finish": {failFinish: 1}} {
		e.Engine = openMemory(t)
		if err := restore(context.Background(), e); !errors.Is(err, errInjected) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := restore(ctx, openBulky(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func mustReplica(t *testing.T, e storage.Engine) *Machine {
	t.Helper()
	m, err := NewReplica(e)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
