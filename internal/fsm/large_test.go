package fsm

import (
	"errors"
	"fmt"
	"testing"

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
