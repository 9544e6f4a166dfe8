package fsm

import (
	"testing"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
)

// clockOf is n seconds of clock.
func clockOf(n int) kv.Clock { return kv.Clock(n * 1000) }

// The second's first instant is the boundary, to the millisecond.
func TestExpiryBoundary(t *testing.T) {
	x := newFixture(t)
	x.apply(write(putUntil("a", "1", 5)))
	x.clock = start + clockOf(5) - 1
	x.expect("a", []byte("1"))
	x.one(command.OK, expire(5, "a"))
	x.one(command.NotUpdated, cas("", put("a", "2")))
	x.expect("a", []byte("1"))
	x.clock++
	x.expect("a", nil)
	res := x.one(command.OK, cas("", put("a", "2")))
	if got := x.effects(res.Index); len(got) != 1 || got[0] != "a=2" {
		t.Fatalf("effects %q", got)
	}
}

func TestClockNeverGoesBack(t *testing.T) {
	x := newFixture(t)
	x.apply(write(putUntil("a", "1", 5)))
	x.clock = start + clockOf(6)
	x.apply(write(put("b", "1")))
	late := x.clock

	// Another proposer's clock is behind: what was expired stays so.
	x.clock = start
	x.one(command.NotUpdated, cas("1", put("a", "2")))
	if got := x.m.Clock(); got != late {
		t.Fatalf("the clock went from %d to %d", late, got)
	}
	res := x.one(command.OK, write(putUntil("c", "1", 6)))
	if got := x.effects(res.Index); got != nil {
		t.Fatalf("a put in the clock's past had effects %q", got)
	}
	ch, err := x.m.Changes(2, 1, 0)
	if err != nil || len(ch.Changes) != 1 || ch.Changes[0].Clock != late {
		t.Fatalf("changes %+v, %v", ch, err)
	}
	if x.restart(); x.m.Clock() != late {
		t.Fatalf("after a restart the clock is %d, was %d", x.m.Clock(), late)
	}
}

// Within one batch the clock moves with the entries.
func TestClockWithinBatch(t *testing.T) {
	x := newFixture(t)
	c1, c2, c3 := write(putUntil("a", "1", 5)), cas("1", put("a", "2")), cas("1", put("a", "3"))
	c1.Clock, c2.Clock, c3.Clock = start, start+clockOf(5), start
	results := x.apply(c1, c2, c3)
	if results[1].Code != command.NotUpdated || results[2].Code != command.NotUpdated {
		t.Fatalf("results %+v", results)
	}
}

// A refused or repeated command moves the clock all the same: every replica
// sees it, and none could tell later whether it had been refused.
func TestClockMovesWithEveryCommand(t *testing.T) {
	x := newFixture(t)
	x.apply(pause(true))
	x.clock += clockOf(3)
	x.one(command.Paused, write(put("a", "1")))
	if x.m.Clock() != x.clock {
		t.Fatalf("clock %d, want %d", x.m.Clock(), x.clock)
	}
}

func TestClockAtItsEnd(t *testing.T) {
	x := newFixture(t)
	x.clock = ^kv.Clock(0)
	x.one(command.OK, as(write(put("a", "1")), 1, 1, 0))
	again := x.one(command.OK, as(write(put("a", "1")), 1, 1, 0))
	if again.Index != 1 {
		t.Fatalf("the request was forgotten at once: %+v", again)
	}
	x.expect("a", []byte("1"))
}
