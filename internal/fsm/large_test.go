package fsm

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// An old value that cannot be read, in whatever part of a large change, changes nothing: what was
// staged is given up, and the machine applies the change later.
func TestReplicateLargeUnreadChangesNothing(t *testing.T) {
	src := newFixture(t)
	src.one(command.OK, write(putUntil("k1", "old", 50), put("k3", "old")))
	start := copyOf(t, src.m)
	var ms []kv.Mutation
	for i := range 40 {
		ms = append(ms, putUntil(fmt.Sprint("k", i), "new", 100+i%3))
	}
	src.one(command.OK, write(ms...))
	change := changesFrom(t, src.m, 2).Changes[0]
	limit := storage.BatchLimit{Ops: 14}
	none := func(*storage.Batch) error { return nil }
	for _, part := range []int{1, 2, 3} {
		unread := part
		engine := &stagingEngine{Engine: cloneEngine(t, start.engine, none), t: t, limit: limit, unread: &unread, cut: func() error { return nil }}
		m, err := NewReplica(engine)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.ReplicateLarge(change, limit); !errors.Is(err, ErrUnread) || !errors.Is(err, errInjected) {
			t.Fatalf("part %d: %v", part, err)
		}
		if engine.abandoned != 1 {
			t.Errorf("part %d: %d writes were given up", part, engine.abandoned)
		}
		sameState(t, m, start, 2)
		if err := m.ReplicateLarge(change, limit); err != nil {
			t.Fatalf("part %d, again: %v", part, err)
		}
		sameState(t, m, src.m, 2)
	}
}

// A staged write that cannot be given up leaves a machine that has failed: the engine has to be
// opened again.
func TestReplicateLargeThatCannotBeGivenUp(t *testing.T) {
	src := newFixture(t)
	src.one(command.OK, write(putUntil("k1", "old", 50)))
	start := copyOf(t, src.m)
	src.one(command.OK, write(putUntil("k1", "new", 60), putUntil("k2", "new", 60)))
	unread := 1
	engine := &stagingEngine{Engine: cloneEngine(t, start.engine, func(*storage.Batch) error { return nil }), t: t, unread: &unread, cut: func() error { return nil }}
	engine.stuck = errors.New("stuck")
	m, err := NewReplica(engine)
	if err != nil {
		t.Fatal(err)
	}
	change := changesFrom(t, src.m, 2).Changes[0]
	if err := m.ReplicateLarge(change, storage.BatchLimit{Ops: 14}); !errors.Is(err, engine.stuck) || errors.Is(err, ErrUnread) {
		t.Fatal(err)
	}
	if err := m.ReplicateLarge(change, storage.BatchLimit{Ops: 14}); !errors.Is(err, engine.stuck) {
		t.Fatal("it goes on: ", err)
	}
}

// exclusiveEngine refuses other batches while a staged write is under way, as Badger does.
type exclusiveEngine struct {
	*stagingEngine
	staging bool
	// written holds an element for each other batch, viewed for each view.
	written, viewed chan struct{}
}

func (e *exclusiveEngine) NewView() (storage.View, error) {
	defer func() { e.viewed <- struct{}{} }()
	return e.stagingEngine.NewView()
}

func (e *exclusiveEngine) BeginStaged() (storage.Staged, error) {
	e.staging = true
	staged, err := e.stagingEngine.BeginStaged()
	return &exclusiveStaged{staged, e}, err
}

func (e *exclusiveEngine) Write(b *storage.Batch, sync bool) error {
	defer func() { e.written <- struct{}{} }()
	if e.staging {
		return errors.New("a staged write is under way")
	}
	return e.stagingEngine.Write(b, sync)
}

type exclusiveStaged struct {
	storage.Staged
	of *exclusiveEngine
}

func (s *exclusiveStaged) Commit(b *storage.Batch) error {
	s.of.staging = false
	return s.Staged.Commit(b)
}

// A trim that comes between the batches of a large change waits for its end: neither fails.
func TestTrimDuringLargeChange(t *testing.T) {
	src := newFixture(t)
	start := copyOf(t, src.m)
	for i := range 3 {
		src.one(command.OK, write(put("k1", fmt.Sprint(i))))
	}
	small := changesFrom(t, src.m, 1)
	var ms []kv.Mutation
	for i := range 40 {
		ms = append(ms, put(fmt.Sprint("k", i), "new"))
	}
	src.one(command.OK, write(ms...))
	large := changesFrom(t, src.m, 4).Changes[0]

	limit := storage.BatchLimit{Ops: 14}
	engine := &exclusiveEngine{
		stagingEngine: &stagingEngine{Engine: cloneEngine(t, start.engine, func(*storage.Batch) error { return nil }), t: t, limit: limit},
		written:       make(chan struct{}, 1),
		viewed:        make(chan struct{}, 100),
	}
	m, err := NewReplica(engine)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Replicate(small.Changes, 3, false); err != nil {
		t.Fatal(err)
	}
	<-engine.written
	trimmed := make(chan error, 1)
	parts := 0
	engine.cut = func() error {
		if parts++; parts != 2 {
			return nil
		}
		go func() {
			_, err := m.TrimChangelog(changelog.Retention{MaxBytes: 1})
			trimmed <- err
		}()
		<-engine.viewed // it has decided what to trim
		select {
		case <-engine.written:
			t.Error("another batch came between those of a staged write")
		case <-time.After(100 * time.Millisecond): // long enough to get there
		}
		return nil
	}
	if err := m.ReplicateLarge(large, limit); err != nil {
		t.Fatal(err)
	}
	if err := <-trimmed; err != nil {
		t.Fatal("trim: ", err)
	}
	<-engine.written
	sameState(t, m, src.m, 3)
}
