package fsm

import (
	"errors"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm/layout"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

func end(epoch kv.Index) command.Command {
	return command.Command{Kind: command.EndEpoch, Fence: epoch}
}

// A mutation takes effect in its proposer's epoch only.
func TestFence(t *testing.T) {
	x := newFixture(t)
	x.one(command.OK, write(put("a", "no epoch")))
	first := x.one(command.OK, begin(1, 1, 10))
	if *first.Previous != (command.Epoch{}) {
		t.Errorf("before the first epoch there was %+v", first.Previous)
	}
	x.one(command.Fenced, write(put("a", "of no epoch")))
	x.one(command.OK, fenced(first.Index, write(put("a", "1"))))
	second := x.one(command.OK, begin(3, 2, 20))
	if want := (command.Epoch{ID: first.Index, Term: 1, Owner: 1, Nonce: 10, Lease: command.UnstatedLease}); *second.Previous != want {
		t.Errorf("the second epoch replaced %+v, want %+v", second.Previous, want)
	}
	for _, c := range []command.Command{
		write(put("a", "late")), increment("n", 1), pause(true), end(first.Index), as(write(put("a", "late")), 7, 1, 0),
	} {
		x.one(command.Fenced, fenced(first.Index, c))
	}
	x.expect("a", []byte("1"))
	if x.m.Paused() || x.m.Requests().Entries != 0 || x.m.Epoch().ID != second.Index || x.m.Epoch().Ended {
		t.Errorf("a fenced command had an effect: epoch %+v", x.m.Epoch())
	}
	x.one(command.OK, fenced(second.Index, as(write(put("a", "2")), 7, 1, 0)))
	x.one(command.OK, fenced(second.Index, end(second.Index)))
	x.one(command.Fenced, fenced(second.Index, write(put("a", "after the end"))))
	x.expect("a", []byte("2"))
	x.restart()
	if want := (command.Epoch{ID: second.Index, Term: 3, Owner: 2, Nonce: 20, Lease: command.UnstatedLease, Ended: true}); x.m.Epoch() != want {
		t.Errorf("after a restart the epoch is %+v, want %+v", x.m.Epoch(), want)
	}
}

// The request table is asked only behind the fence: a former owner answers no
// repeat, since its successor may still read the state before the first attempt.
// Nor does what it proposes move the table.
func TestFenceStandsBeforeTheRequestTable(t *testing.T) {
	x := newFixture(t)
	old := x.one(command.OK, begin(1, 1, 1)).Index
	now := x.one(command.OK, begin(2, 2, 2)).Index
	request := as(write(put("a", "1")), 7, 5, 0)
	first := x.one(command.OK, fenced(now, request))
	table := dump(t, x.engine, storage.Meta)
	for _, late := range []command.Command{
		request,
		as(write(put("a", "2")), 7, 5, 0), // another request under the same id
		as(write(put("a", "3")), 7, 6, 5), // acknowledges the first
		as(write(put("a", "4")), 8, 1, 0),
	} {
		x.one(command.Fenced, fenced(old, late))
	}
	for i, p := range dump(t, x.engine, storage.Meta) {
		if p.Key != string(layout.KeyState) && p != table[i] {
			t.Errorf("fenced requests turned %q into %q", table[i], p)
		}
	}
	if again := x.one(command.OK, fenced(now, request)); again != first {
		t.Errorf("a repeat through the owner came to %+v, the first attempt to %+v", again, first)
	}
	x.one(command.OK, fenced(now, end(now)))
	x.one(command.Fenced, fenced(now, request))
	x.expect("a", []byte("1"))
}

// Fencing holds from one entry of a batch to the next.
func TestFenceWithinABatch(t *testing.T) {
	x := newFixture(t)
	res := x.apply(begin(1, 1, 1), fenced(1, write(put("a", "1"))), begin(2, 2, 2), fenced(1, write(put("a", "2"))),
		fenced(3, write(put("a", "3"))), end(3), fenced(3, write(put("a", "4"))))
	want := []command.Code{command.OK, command.OK, command.OK, command.Fenced, command.OK, command.OK, command.Fenced}
	for i := range res {
		if res[i].Code != want[i] {
			t.Errorf("entry %d: %v, want %v", i+1, res[i].Code, want[i])
		}
	}
	x.expect("a", []byte("3"))
}

func TestBeginEpoch(t *testing.T) {
	for _, c := range []struct {
		name               string
		term, owner, nonce uint64
		want               command.Code
	}{
		{"next term", 6, 1, 1, command.OK},
		{"again", 5, 2, 3, command.OK},
		{"lower term", 4, 2, 3, command.Fenced},
		{"same term, other owner", 5, 1, 3, command.Fenced},
		{"same term, other process", 5, 2, 4, command.Fenced},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newFixture(t)
			first := x.one(command.OK, begin(5, 2, 3))
			res := x.one(c.want, begin(c.term, c.owner, c.nonce))
			if res.Previous.ID != first.Index {
				t.Errorf("the epoch before it was %+v, want that at %d", res.Previous, first.Index)
			}
			now := x.m.Epoch().ID
			if accepted := now == res.Index; accepted != (c.want == command.OK) || !accepted && now != first.Index {
				t.Errorf("epoch %d after a begin at %d", now, res.Index)
			}
		})
	}
}

// TestLeasesOfEarlierEpochs: an epoch remembers the longest lease of those before it until
// a command of its own owner shows that it has been active.
func TestLeasesOfEarlierEpochs(t *testing.T) {
	stated := func(term uint64, lease time.Duration) command.Command {
		c := begin(term, term, term)
		c.Begin.Lease, c.Begin.Stated = lease, true
		return c
	}
	x := newFixture(t)
	longest := func(what string, want time.Duration) {
		t.Helper()
		for range 2 {
			if got := x.m.Epoch().Longest(); got != want {
				t.Errorf("%s leases of %v may run, want %v", what, got, want)
			}
			x.restart()
		}
	}
	long := x.one(command.OK, stated(1, 2*time.Second))
	x.one(command.OK, fenced(long.Index, write(put("a", "1"))))
	x.one(command.OK, stated(2, 400*time.Millisecond))
	longest("behind a longer one", 2*time.Second)
	last := x.one(command.OK, stated(3, 100*time.Millisecond))
	longest("behind one that was never active", 2*time.Second)
	x.one(command.OK, member(3, "here"))
	x.one(command.Fenced, fenced(long.Index, write(put("a", "late"))))
	x.one(command.Fenced, stated(2, 0))
	longest("behind commands of others", 2*time.Second)
	x.one(command.OK, fenced(last.Index, write(put("a", "2"))))
	longest("once the owner has written", 100*time.Millisecond)
	x.one(command.OK, fenced(last.Index, end(last.Index)))
	longest("behind the end", 0)
	if res := x.one(command.OK, stated(4, 0)); res.Previous.Lease != 100*time.Millisecond || res.Previous.Longest() != 0 {
		t.Errorf("the next one is told of %+v", *res.Previous)
	}
	longest("of one that takes none", 0)
}

// All replicas of a log get the same names, those of the first epoch.
func TestEpochNamesTheState(t *testing.T) {
	e := openMemory(t)
	m, err := NewReplica(e)
	if err != nil || m.Identity() != (Identity{}) {
		t.Fatalf("a new replica is %+v, %v", m.Identity(), err)
	}
	x := &fixture{failer: t, engine: e, m: m, clock: start}
	b := begin(1, 1, 1)
	b.Begin.Cluster, b.Begin.History = "c", "h"
	x.one(command.OK, b)
	b = begin(2, 1, 1)
	b.Begin.Cluster, b.Begin.History = "other", "other"
	x.one(command.OK, b)
	if want := (Identity{Cluster: "c", History: "h"}); x.m.Identity() != want {
		t.Errorf("named %+v, want %+v", x.m.Identity(), want)
	}
	x.restart()
	if x.m.Identity().History != "h" {
		t.Errorf("after a restart it is %+v", x.m.Identity())
	}
	bad := begin(9, 1, 1)
	bad.Begin.Cluster = "one\nname"
	fresh, err := NewReplica(openMemory(t))
	if err != nil {
		t.Fatal(err)
	}
	err = fresh.Apply([]Entry{{Index: 1, Command: &bad}}, make([]command.Result, 1), false)
	if !errors.Is(err, command.ErrMalformed) {
		t.Errorf("a half name: %v", err)
	}
}

func TestMembers(t *testing.T) {
	x := newFixture(t)
	x.apply(begin(1, 1, 1), member(1, "one"), member(2, "two"), member(1, "uno"))
	before := x.m.Members()
	x.apply(member(2, ""), member(300, "three"), pause(true))
	for range 2 {
		got := x.m.Members()
		if len(got) != 2 || string(got[1]) != "uno" || string(got[300]) != "three" {
			t.Errorf("members %v", got)
		}
		x.restart()
	}
	if len(before) != 2 || string(before[2]) != "two" {
		t.Errorf("what was handed out has changed: %v", before)
	}
}
