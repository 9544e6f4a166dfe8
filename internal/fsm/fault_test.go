package fsm

import (
	"errors"
	"fmt"
	"testing"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/storage"
)

// TestBatchIsAtomic fails each write of a run in turn. Whatever became of it,
// the reopened state is the one before or behind the whole batch, and going on
// from its applied index leads to where an undisturbed run does.
func TestBatchIsAtomic(t *testing.T) {
	const batches = 12
	g := newGenerator(newSeeded(seed(t)), 8)
	stretches := split(g, g.entries(1, batches*20), 20)[:batches]
	origin := newFixture(t)
	undisturbed := []map[storage.Space][]pair{replicated(t, origin.engine)}
	for _, entries := range stretches {
		if err := origin.m.Apply(entries, make([]command.Result, len(entries)), true); err != nil {
			t.Fatal(err)
		}
		undisturbed = append(undisturbed, replicated(t, origin.engine))
	}
	for fail := range batches {
		for _, landed := range []bool{false, true} {
			disturb(t, stretches, undisturbed, fail, landed)
		}
	}
}

func disturb(t *testing.T, stretches [][]Entry, undisturbed []map[storage.Space][]pair, fail int, landed bool) {
	t.Helper()
	f := &faulty{Engine: withIdentity(t, undisturbed[0]), Landed: landed}
	m := newMachine(t, f)
	f.FailWrite = fail + 1
	at := 0
	for ; ; at++ {
		err := m.Apply(stretches[at], make([]command.Result, len(stretches[at])), true)
		if err == nil {
			continue
		}
		if !errors.Is(err, errInjected) || at != fail {
			t.Fatalf("batch %d: %v", at, err)
		}
		break
	}
	checkBroken(t, m, stretches[fail])
	m = newMachine(t, f)
	next := fail
	if landed {
		next++
	}
	for ; ; next++ {
		if got := replicated(t, f); !sameSpaces(got, undisturbed[next]) {
			t.Fatalf("write %d failed (landed: %v): after %d batches the state is another", fail, landed, next)
		}
		checkInvariants(t, m)
		if next == len(stretches) {
			return
		}
		if err := m.Apply(stretches[next], make([]command.Result, len(stretches[next])), true); err != nil {
			t.Fatal(err)
		}
	}
}

// withIdentity is an engine with the state of another.
func withIdentity(t failer, spaces map[storage.Space][]pair) storage.Engine {
	t.Helper()
	e := openMemory(t)
	var b storage.Batch
	for space, pairs := range spaces {
		for _, p := range pairs {
			b.Put(space, []byte(p.Key), []byte(p.Value))
		}
	}
	if err := e.Write(&b, true); err != nil {
		t.Fatalf("write: %v", err)
	}
	return e
}

// checkBroken holds a machine whose storage failed to writing nothing more, for
// the same reason, while it still reads.
func checkBroken(t *testing.T, m *Machine, entries []Entry) {
	t.Helper()
	applied := m.Applied()
	for range 2 {
		if err := m.Apply(entries, make([]command.Result, len(entries)), true); !errors.Is(err, errInjected) {
			t.Fatalf("Apply after a failure: %v", err)
		}
	}
	if err := m.Sync(); !errors.Is(err, errInjected) {
		t.Fatalf("Sync after a failure: %v", err)
	}
	if _, err := m.TrimChangelog(changelog.Retention{MaxBytes: 1}); !errors.Is(err, errInjected) {
		t.Fatalf("TrimChangelog after a failure: %v", err)
	}
	if m.Applied() != applied {
		t.Fatalf("applied went from %d to %d after a failure", applied, m.Applied())
	}
	if _, _, err := m.Get([]byte("k1"), 0); err != nil {
		t.Fatalf("Get after a failure: %v", err)
	}
}

func TestFailuresBreakTheMachine(t *testing.T) {
	for name, do := range map[string]func(*faulty, *Machine, []Entry) error{
		"write": func(f *faulty, m *Machine, e []Entry) error {
			f.FailWrite = 1
			return m.Apply(e, make([]command.Result, len(e)), false)
		},
		"sync": func(f *faulty, m *Machine, e []Entry) error {
			f.FailSync = 1
			return m.Sync()
		},
		"trim": func(f *faulty, m *Machine, e []Entry) error {
			f.FailWrite = 1
			_, err := m.TrimChangelog(changelog.Retention{MaxBytes: 1})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := newFixture(t)
			x.apply(write(put("k1", "1")))
			x.apply(write(put("k1", "2")))
			f := &faulty{Engine: x.engine}
			m := newMachine(t, f)
			c := cas("2", put("k1", "3"))
			entries := []Entry{{Index: 3, Command: &c}}
			if err := do(f, m, entries); !errors.Is(err, errInjected) {
				t.Fatalf("first failure: %v", err)
			}
			checkBroken(t, m, entries)
			if p, found, err := m.Get([]byte("k1"), 0); err != nil || !found || string(p.Value) != "2" {
				t.Fatalf("Get = %q, %v, %v", p.Value, found, err)
			}
		})
	}
}

// A value that cannot be read changes nothing, and does not hinder other writes.
func TestUnreadChangesNothing(t *testing.T) {
	x := newFixture(t)
	x.apply(write(put("a", "1")), pause(false))
	f := &faulty{Engine: x.engine, FailMultiGet: 1}
	m := newMachine(t, f)
	before := replicated(t, x.engine)
	c, p := cas("1", put("a", "2")), pause(true)
	entries := []Entry{{Index: 3, Command: &p}, {Index: 4, Command: &c}}
	err := m.Apply(entries, make([]command.Result, 2), true)
	if !errors.Is(err, ErrUnread) || !errors.Is(err, errInjected) {
		t.Fatalf("Apply: %v", err)
	}
	if !sameSpaces(replicated(t, x.engine), before) || m.Applied() != 2 || m.Paused() {
		t.Error("it changed something")
	}
	results := make([]command.Result, 1)
	if err := m.Apply([]Entry{{Index: 3, Command: &c}}, results, true); err != nil || results[0].Code != command.OK {
		t.Fatalf("the next: %+v, %v", results, err)
	}
	x.m = m
	x.expect("a", []byte("2"))
}

// A value that cannot be parsed is not decided by, and an operator hears of it.
func TestApplyReportsCorruption(t *testing.T) {
	x := newFixture(t)
	x.apply(write(put("a", "1")))
	var b storage.Batch
	b.Put(storage.Data, []byte("a"), []byte{99})
	if err := x.engine.Write(&b, false); err != nil {
		t.Fatal(err)
	}
	c := cas("1", put("a", "2"))
	err := x.m.Apply([]Entry{{Index: 2, Command: &c}}, make([]command.Result, 1), false)
	if !errors.Is(err, storage.ErrCorrupt) || !errors.Is(err, ErrUnread) {
		t.Fatalf("Apply: %v", err)
	}
	if !errors.Is(x.m.Corruption(), storage.ErrCorrupt) {
		t.Errorf("Corruption: %v", x.m.Corruption())
	}
}

// The log must not go backwards, and what is not understood must not be skipped.
func TestApplyRefusesAnImpossibleLog(t *testing.T) {
	for name, entries := range map[string][]Entry{
		"repeated":     {{Index: 1}},
		"not in order": {{Index: 5}, {Index: 4}},
		"unknown kind": {{Index: 2, Command: &command.Command{Kind: 99}}},
	} {
		t.Run(name, func(t *testing.T) {
			x := newFixture(t)
			x.apply(write(put("a", "1")))
			before := replicated(t, x.engine)
			if err := x.m.Apply(entries, make([]command.Result, len(entries)), false); err == nil {
				t.Fatal("accepted")
			}
			if !sameSpaces(replicated(t, x.engine), before) {
				t.Error("something was written")
			}
			if err := x.m.Apply([]Entry{{Index: 9}}, make([]command.Result, 1), false); err == nil {
				t.Error("the machine continues")
			}
		})
	}
}

// A batch beyond what scratch keeps leaves nothing behind that matters.
func TestHugeBatch(t *testing.T) {
	x := newFixture(t)
	var c command.Command
	c.Kind = command.Write
	for i := range maxScratch + 1 {
		c.Mutations = append(c.Mutations, putUntil(fmt.Sprint("key", i), "1", 1+i%3))
	}
	x.apply(write(put("a", "1")), c, write(del("key0")), write(del("key0")))
	if got := x.effects(3); len(got) != 1 || x.effects(4) != nil {
		t.Fatalf("effects %q and %q", got, x.effects(4))
	}
	if s := &x.m.scratch; cap(s.olds)+cap(s.keys)+cap(s.effects) > 0 || s.known != nil {
		t.Error("the memory of a huge batch is kept")
	}
	x.one(command.OK, cas("1", put("a", "2")))
	if s := &x.m.scratch; len(s.known) != 0 || len(s.olds) != 0 || s.olds[:1][0].value != nil || s.keys[:1][0] != nil {
		t.Error("scratch holds on to what it was used for")
	}
}

func TestNewReportsStorageErrors(t *testing.T) {
	f := &faulty{Engine: openMemory(t), FailWrite: 1}
	if _, err := New(f); !errors.Is(err, errInjected) {
		t.Fatalf("New: %v", err)
	}
	e := openMemory(t)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := New(e); !errors.Is(err, storage.ErrClosed) {
		t.Fatalf("New on a closed engine: %v", err)
	}
}
