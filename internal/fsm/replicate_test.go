package fsm

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm/chunks"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/memory"
)

// copyOf returns a machine whose state began as a snapshot of m's.
func copyOf(t failer, m *Machine) *Machine {
	t.Helper()
	engine := openMemory(t)
	view, err := m.View()
	if err != nil {
		t.Fatalf("View: %v", err)
	}
	defer view.Close()
	l := chunks.NewLoader(engine)
	for position, more := []byte(nil), true; more; more = len(position) > 0 {
		var payload []byte
		if payload, position, err = view.Chunk(position, 512); err != nil {
			t.Fatalf("Chunk: %v", err)
		}
		if err := l.Add(payload); err != nil {
			t.Fatalf("Add: %v", err)
		}
	}
	if err := l.Finish(); err != nil {
		t.Fatalf("Finish: %v", err)
	}
	out, err := NewReplica(engine)
	if err != nil {
		t.Fatalf("NewReplica: %v", err)
	}
	return out
}

// changesFrom returns all changes from an index on.
func changesFrom(t failer, m *Machine, from kv.Index) Changes {
	t.Helper()
	c, err := m.Changes(from, 0, 1<<30)
	if err != nil {
		t.Fatalf("Changes(%d): %v", from, err)
	}
	return c
}

// sameState compares what a machine holds with what its source does at the same
// index: the keyspace, the expiry index, the clock, and the changes that both have.
func sameState(t failer, got, want *Machine, since kv.Index) {
	t.Helper()
	if g, w := hash(t, got), hash(t, want); g != w {
		t.Fatalf("the copy hashes %x (%d keys) at %d, its source %x (%d keys) at %d", g.Sum, g.Keys, g.Index, w.Sum, w.Keys, w.Index)
	}
	if g, w := dump(t, got.engine, storage.Expiry), dump(t, want.engine, storage.Expiry); !slices.Equal(g, w) {
		t.Fatalf("expiry index %v, want %v", g, w)
	}
	if g, w := changesFrom(t, got, since), changesFrom(t, want, since); inFull(g.Changes) != inFull(w.Changes) {
		t.Fatalf("changes %v, want %v", g.Changes, w.Changes)
	}
	checkInvariants(t, got)
}

// inFull prints changes with the requests that caused them.
func inFull(changes []kv.Change) (out string) {
	for _, c := range changes {
		if c.Request != nil {
			out += fmt.Sprintf("%+v: ", *c.Request)
			c.Request = nil
		}
		out += fmt.Sprintln(c)
	}
	return out
}

// A machine that is fed the changes of another one arrives at the same state,
// however they are cut.
func TestReplicateIsApply(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		src := newFixture(t)
		g := newGenerator(drawn{t}, 6)
		before := g.intn(30)
		for _, part := range split(g, g.entries(1, before), 9) {
			mustApply(t, src.m, part)
		}
		m := copyOf(t, src.m)
		since := m.Applied() + 1
		for range 1 + g.intn(4) {
			for _, part := range split(g, g.entries(src.m.Applied()+1, 1+g.intn(30)), 9) {
				mustApply(t, src.m, part)
			}
			replicateAll(t, g, m, src.m)
			sameState(t, m, src.m, since)
		}
		// What is in the engine is what is in memory.
		again, err := NewReplica(m.engine)
		if err != nil {
			t.Fatal(err)
		}
		sameState(t, again, src.m, since)
	})
}

// A copy's clock follows the log's, also where that was set back, and also where
// nothing else is told.
func TestReplicateFollowsTheClock(t *testing.T) {
	src := newFixture(t)
	src.apply(write(put("a", "1")))
	m := copyOf(t, src.m)
	ahead, back := start+decade, start+clockOf(9)
	for _, c := range []kv.Change{
		{Index: 2, Clock: ahead, Mutations: []kv.Mutation{put("a", "2")}},
		{Index: 3, Clock: back},
		{Index: 4, Mutations: []kv.Mutation{put("a", "3")}}, // of a master that does not say
	} {
		if err := m.Replicate([]kv.Change{c}, c.Index, false); err != nil {
			t.Fatal(err)
		}
		want := back
		if c.Index == 2 {
			want = ahead
		}
		if got := m.Clock(); got != want {
			t.Errorf("at %d the clock is %v, want %v", c.Index, got.Time(), want.Time())
		}
	}
	if c := changesFrom(t, m, 2); len(c.Changes) != 2 {
		t.Errorf("changes %v", c.Changes)
	}
}

func mustApply(t failer, m *Machine, entries []Entry) {
	t.Helper()
	if err := m.Apply(entries, make([]command.Result, len(entries)), false); err != nil {
		t.Fatalf("Apply: %v", err)
	}
}

// replicateAll brings m to where src is, in stretches of random lengths.
func replicateAll(t failer, s source, m, src *Machine) {
	t.Helper()
	all := changesFrom(t, src, m.Applied()+1)
	for rest := all.Changes; len(rest) > 0; {
		n := 1 + s.intn(len(rest))
		upTo := rest[n-1].Index
		if n == len(rest) && s.intn(2) == 0 {
			upTo = all.Newest
		}
		var err error
		if n == 1 && s.intn(2) == 0 {
			err = m.ReplicateLarge(rest[0], storage.BatchLimit{Bytes: 1000 + s.intn(2000), Ops: 1 + s.intn(12)})
			if err == nil {
				err = m.Replicate(nil, upTo, false)
			}
		} else {
			err = m.Replicate(rest[:n], upTo, s.intn(4) == 0)
		}
		if err != nil {
			t.Fatalf("Replicate: %v", err)
		}
		rest = rest[n:]
	}
	if err := m.Replicate(nil, all.Newest, false); err != nil {
		t.Fatalf("Replicate: %v", err)
	}
	if m.Applied() != all.Newest {
		t.Fatalf("applied %d, want %d", m.Applied(), all.Newest)
	}
}

func oneChange(index kv.Index, ms ...kv.Mutation) kv.Change {
	return kv.Change{Index: index, Clock: start + kv.Clock(index), Mutations: ms}
}

func TestReplicateRefusesDisorder(t *testing.T) {
	x := newFixture(t)
	x.one(command.OK, write(put("a", "1")))
	x.one(command.OK, write(put("a", "2")))
	before := dump(t, x.engine, storage.Data)
	for name, c := range map[string]struct {
		changes []kv.Change
		upTo    kv.Index
	}{
		"applied already":      {[]kv.Change{oneChange(2, put("a", "3"))}, 2},
		"out of order":         {[]kv.Change{oneChange(4, put("a", "3")), oneChange(3, put("a", "4"))}, 4},
		"twice the same":       {[]kv.Change{oneChange(3, put("a", "3")), oneChange(3, put("a", "4"))}, 3},
		"beyond what they say": {[]kv.Change{oneChange(5, put("a", "3"))}, 4},
		"backwards":            {nil, 1},
	} {
		if err := x.m.Replicate(c.changes, c.upTo, false); !errors.Is(err, ErrDisorder) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := x.m.ReplicateLarge(oneChange(2, put("a", "3")), storage.BatchLimit{}); !errors.Is(err, ErrDisorder) {
		t.Errorf("large: %v", err)
	}
	if after := dump(t, x.engine, storage.Data); !slices.Equal(before, after) || x.m.Applied() != 2 {
		t.Errorf("%v at %d, was %v", after, x.m.Applied(), before)
	}
	// And it continues.
	if err := x.m.Replicate([]kv.Change{oneChange(7, put("a", "7"))}, 9, false); err != nil || x.m.Applied() != 9 {
		t.Errorf("%v, at %d", err, x.m.Applied())
	}
	x.expect("a", []byte("7"))
}

func TestReplicateNeedsAHistory(t *testing.T) {
	m, err := NewReplica(openMemory(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Replicate([]kv.Change{oneChange(1, put("a", "1"))}, 1, false); !errors.Is(err, ErrDisorder) {
		t.Error(err)
	}
}

// What keeps proposals out is no business of changes, which were decided elsewhere.
func TestReplicateIntoAPausedState(t *testing.T) {
	x := newFixture(t)
	x.one(command.OK, pause(true))
	if err := x.m.Replicate([]kv.Change{oneChange(2, put("a", "1"))}, 2, false); err != nil {
		t.Fatal(err)
	}
	x.expect("a", []byte("1"))
}

// A batch that fails is there whole after a restart, or not at all, and nothing is
// written on top of it.
func TestReplicateFails(t *testing.T) {
	broken := errors.New("broken")
	var fault error
	engine, err := memory.Open(memory.Options{OnWrite: func(*storage.Batch) error { return fault }})
	if err != nil {
		t.Fatal(err)
	}
	m := newMachine(t, engine)
	if err := m.Replicate([]kv.Change{oneChange(1, put("a", "1"))}, 1, false); err != nil {
		t.Fatal(err)
	}
	fault = broken
	if err := m.Replicate([]kv.Change{oneChange(2, put("a", "2"))}, 2, false); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	fault = nil
	if err := m.Replicate([]kv.Change{oneChange(2, put("a", "2"))}, 2, false); !errors.Is(err, broken) {
		t.Fatalf("it went on after a failed write: %v", err)
	}
	again := newMachine(t, engine)
	if again.Applied() != 1 {
		t.Fatalf("applied %d", again.Applied())
	}
	if err := again.Replicate([]kv.Change{oneChange(2, put("a", "2"))}, 2, false); err != nil {
		t.Fatal(err)
	}
}

// stagingEngine writes staged batches to a copy, which takes the engine's place when
// they are committed. cut, if it returns an error, fails a batch.
type stagingEngine struct {
	storage.Engine
	t     *testing.T
	limit storage.BatchLimit
	cut   func() error
	// unread is how many old values can be read before one cannot; nil is all.
	unread *int
	// abandoned is how many writes were given up.
	abandoned int
	// stuck is why a write cannot be given up.
	stuck error
}

type stagedCopy struct {
	storage.Engine
	of *stagingEngine
}

func (e *stagingEngine) BeginStaged() (storage.Staged, error) {
	return &stagedCopy{cloneEngine(e.t, e.Engine, func(*storage.Batch) error { return nil }), e}, nil
}

func (s *stagedCopy) Write(b *storage.Batch) error {
	if !s.of.limit.Allows(0, b.Count()) {
		s.of.t.Errorf("a batch of %d operations", b.Count())
	}
	if err := s.of.cut(); err != nil {
		return err
	}
	return s.Engine.Write(b, false)
}

func (s *stagedCopy) Commit(b *storage.Batch) error {
	if err := s.Write(b); err != nil {
		return err
	}
	s.of.Engine = s.Engine
	return nil
}

func (s *stagedCopy) MultiGet(space storage.Space, keys [][]byte) ([][]byte, error) {
	if s.of.unread != nil && fails(s.of.unread) {
		return nil, errInjected
	}
	return s.Engine.MultiGet(space, keys)
}

func (s *stagedCopy) Abandon() error {
	s.of.abandoned++
	return s.of.stuck
}

// A large change is there as a whole or not at all, whatever cut it short, and can be
// applied again.
func TestReplicateLargeIsAllOrNothing(t *testing.T) {
	src := newFixture(t)
	src.one(command.OK, write(putUntil("k1", "old", 50), putUntil("k2", "old", 60), put("k3", "old")))
	var ms []kv.Mutation
	for i := range 40 {
		ms = append(ms, putUntil(fmt.Sprint("k", i), "new", 100+i%3))
	}
	// The same keys once more: a part must see what earlier parts did.
	ms = append(ms, del("k3"), putUntil("k1", "newer", 300), put("k2", "newer"))
	start := copyOf(t, src.m)
	src.one(command.OK, write(ms...))
	change := changesFrom(t, src.m, 2).Changes[0]
	limit := storage.BatchLimit{Ops: 14}
	for writes := range 12 {
		left := writes
		engine := &stagingEngine{Engine: cloneEngine(t, start.engine, func(*storage.Batch) error { return nil }), t: t, limit: limit, cut: func() error {
			if left--; left < 0 {
				return errors.New("cut")
			}
			return nil
		}}
		m, err := NewReplica(engine)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.ReplicateLarge(change, limit); err == nil {
			t.Fatalf("after %d writes it was all there", writes)
		}
		left = 1000
		again, err := NewReplica(engine)
		if err != nil {
			t.Fatal(err)
		}
		sameState(t, again, start, 2)
		if err := again.ReplicateLarge(change, limit); err != nil {
			t.Fatal(err)
		}
		sameState(t, again, src.m, 2)
	}
}

// A record that no batch has room for harms nothing.
func TestReplicateTooLarge(t *testing.T) {
	x := newFixture(t)
	limit := storage.BatchLimit{Bytes: 1000}
	x.m.engine = &stagingEngine{Engine: x.m.engine, t: t, limit: limit}
	huge := oneChange(1, put("a", string(make([]byte, 1000))))
	if err := x.m.ReplicateLarge(huge, limit); !errors.Is(err, storage.ErrTooLarge) {
		t.Fatal(err)
	}
	if err := x.m.Replicate([]kv.Change{oneChange(1, put("a", "1"))}, 1, false); err != nil {
		t.Fatal(err)
	}
	checkInvariants(t, x.m)
}

func cloneEngine(t failer, from storage.Engine, onWrite func(*storage.Batch) error) storage.Engine {
	t.Helper()
	hook := func(*storage.Batch) error { return nil }
	e, err := memory.Open(memory.Options{OnWrite: func(b *storage.Batch) error { return hook(b) }})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	var b storage.Batch
	for space := range storage.Space(storage.Spaces) {
		for _, p := range dump(t, from, space) {
			b.Put(space, []byte(p.Key), []byte(p.Value))
		}
	}
	if err := e.Write(&b, false); err != nil {
		t.Fatalf("copy: %v", err)
	}
	hook = onWrite
	return e
}

func TestLastChange(t *testing.T) {
	x := newFixture(t)
	if c, found, err := x.m.LastChange(); found || err != nil || c.Index != 0 {
		t.Errorf("of an empty changelog: %+v, %v, %v", c, found, err)
	}
	x.one(command.OK, write(put("a", "1")))
	x.one(command.OK, write(put("a", "2"), del("b")))
	x.one(command.OK, write(del("b"))) // no effect
	c, found, err := x.m.LastChange()
	if err != nil || !found || c.Index != 2 || len(c.Mutations) != 1 || string(c.Mutations[0].Value) != "2" {
		t.Errorf("%+v, %v, %v", c, found, err)
	}
	fresh := copyOf(t, x.m)
	if c, found, err := fresh.LastChange(); found || err != nil || c.Index != 3 || c.Clock != x.m.Clock() || c.Clock == 0 {
		t.Errorf("of a fresh copy: %+v, %v, %v", c, found, err)
	}
	if err := fresh.Replicate(nil, 5, false); err != nil {
		t.Fatal(err)
	}
	if c, found, err := fresh.LastChange(); found || err != nil || c.Index != 3 || c.Clock != 0 {
		t.Errorf("of a copy that has moved since: %+v, %v, %v", c, found, err)
	}
}

func TestReplicaCostIsAnUpperBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := newFixture(t)
		g := newGenerator(drawn{t}, 4)
		for range 3 {
			c := oneChange(x.m.Applied() + 1)
			for range 1 + g.intn(5) {
				c.Mutations = append(c.Mutations, g.mutation())
			}
			if err := x.m.Replicate([]kv.Change{c}, c.Index, false); err != nil {
				t.Fatal(err)
			}
			b := &x.m.scratch.batch
			if bytes, ops := ReplicaCost(&c); b.Size() > bytes || b.Count() > ops {
				t.Fatalf("a batch of %d bytes and %d operations for %d and %d", b.Size(), b.Count(), bytes, ops)
			}
		}
	})
}

// BenchmarkReplicate is BenchmarkApply for what a slave gets; ns/put is the share of
// one change.
func BenchmarkReplicate(b *testing.B) {
	for _, ttl := range []bool{false, true} {
		for _, size := range []int{1, 256, 4096} {
			b.Run(fmt.Sprintf("ttl=%v/batch=%d", ttl, size), func(b *testing.B) {
				m := benchMachine(b)
				value := make([]byte, 128)
				changes := make([]kv.Change, size)
				for i := range changes {
					mutation := kv.Mutation{Key: benchKey(rand.N(benchKeys)), Value: value}
					if ttl {
						mutation.ExpireTS = 1 << 40
					}
					changes[i].Mutations = []kv.Mutation{mutation}
				}
				at := m.Applied()
				b.ReportAllocs()
				for b.Loop() {
					for i := range changes {
						at++
						changes[i].Index = at
					}
					if err := m.Replicate(changes, at, false); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(at-benchKeys), "ns/put")
			})
		}
	}
}

// TestLargestBatchIsNotKept has machines apply a large batch, and nothing after it: a node may have a
// thousand of them.
func TestLargestBatchIsNotKept(t *testing.T) {
	m, err := New(openMemory(t))
	if err != nil {
		t.Fatal(err)
	}
	s := copyOf(t, m)
	large := []kv.Mutation{{Key: []byte("k"), Value: make([]byte, 8<<20)}}
	if err := m.Apply([]Entry{{Index: 1, Command: &command.Command{Kind: command.Write, Mutations: large}}}, make([]command.Result, 1), false); err != nil {
		t.Fatal(err)
	}
	if err := s.Replicate([]kv.Change{{Index: 1, Mutations: large}}, 1, false); err != nil {
		t.Fatal(err)
	}
	for name, of := range map[string]*Machine{"apply": m, "replicate": s} {
		if n := cap(of.scratch.batch.Rep()); of.Applied() != 1 || n > 1<<20 {
			t.Errorf("%s: at %d it keeps %d bytes", name, of.Applied(), n)
		}
	}
}
