package fsm

import (
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
)

// decade is how far a wrong clock is ahead.
const decade = kv.Clock(10 * 365 * 24 * time.Hour / time.Millisecond)

// clockOf is n seconds of clock.
func clockOf(n int) kv.Clock { return kv.Clock(n * 1000) }

func tick() command.Command { return command.Command{Kind: command.Tick} }

func setClock(to kv.Clock) command.Command {
	return command.Command{Kind: command.SetClock, Clock: to}
}

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

// What passes the fence moves the clock, refused for a pause and repeated or not:
// every replica sees it, and none could tell later whether it had been refused.
func TestRefusedCommandsMoveTheClock(t *testing.T) {
	x := newFixture(t)
	x.one(command.OK, as(write(put("a", "1")), 7, 1, 0))
	x.clock += clockOf(3)
	x.one(command.OK, as(write(put("a", "1")), 7, 1, 0))
	x.wantClock(x.clock)
	x.apply(pause(true))
	x.clock += clockOf(3)
	x.one(command.Paused, write(put("a", "1")))
	x.wantClock(x.clock)
}

func (x *fixture) wantClock(want kv.Clock) {
	x.Helper()
	if got := x.m.Clock(); got != want {
		x.Fatalf("the log's clock is %v, want %v", got.Time(), want.Time())
	}
}

// Any node may announce itself or try to lead, by whatever clock it has, and a
// deposed owner may still propose: none of that can expire a key.
func TestOnlyTheOwnersCommandsMoveTheClock(t *testing.T) {
	x := newFixture(t)
	first := x.one(command.OK, begin(1, 1, 1))
	x.one(command.OK, fenced(first.Index, write(putUntil("a", "1", 60), put("b", "1"))))
	at := x.clock
	x.clock = start + decade
	x.one(command.OK, member(2, "a node whose clock is wrong"))
	x.one(command.Fenced, begin(1, 2, 1))
	x.one(command.OK, fenced(first.Index, pause(true)))
	x.one(command.OK, fenced(first.Index, pause(false)))
	x.one(command.OK, fenced(first.Index, setSlave("z", "a:1", true)))
	x.wantClock(at)

	second := x.one(command.OK, begin(2, 2, 1))
	for _, late := range []command.Command{
		write(put("b", "2")), as(write(put("b", "2")), 7, 1, 0), cas("1", put("b", "2")), increment("n", 1), expire(60, "a"), tick(),
	} {
		x.one(command.Fenced, fenced(first.Index, late))
	}
	x.one(command.OK, fenced(second.Index, end(second.Index)))
	x.wantClock(at)
	x.clock = at + clockOf(59)
	x.expect("a", []byte("1"))
}

// A tick moves the clock and does nothing else, also while mutations are refused.
func TestTick(t *testing.T) {
	for name, refuse := range map[string]command.Command{
		"paused":    pause(true),
		"restoring": {Kind: command.BeginRestore, Expect: []byte("r")},
	} {
		t.Run(name, func(t *testing.T) {
			x := newFixture(t)
			x.apply(write(putUntil("a", "1", 5)), refuse)
			x.clock += clockOf(5)
			res := x.one(command.OK, tick())
			x.wantClock(x.clock)
			if got := x.effects(res.Index); got != nil {
				t.Errorf("a tick had the effects %q", got)
			}
			x.clock -= clockOf(1)
			x.one(command.OK, tick())
			x.wantClock(x.clock + clockOf(1))
		})
	}
}

// A clock that ran ahead is set back: what it hid and nothing has removed is there
// again, later entries continue from it, and requests are still remembered.
func TestSetClockBack(t *testing.T) {
	x := newFixture(t)
	x.apply(write(putUntil("a", "1", 60), putUntil("gone", "1", 60)))
	right := x.clock
	x.clock = start + decade
	ahead := x.one(command.OK, as(write(put("b", "1")), 7, 1, 0))
	x.one(command.OK, expire(60, "gone"))
	x.expect("a", nil)

	x.clock = right + clockOf(1)
	x.one(command.OK, setClock(x.clock))
	x.wantClock(x.clock)
	x.expect("a", []byte("1"))
	x.expect("gone", nil)
	x.one(command.OK, cas("1", put("a", "2")))
	if again := x.one(command.OK, as(write(put("b", "1")), 7, 1, 0)); again.Index != ahead.Index {
		t.Errorf("the request that was answered at %d is applied again at %d", ahead.Index, again.Index)
	}
	other := x.one(command.OK, as(write(put("b", "2")), 8, 1, 0))
	if again := x.one(command.OK, as(write(put("b", "1")), 7, 1, 0)); again.Index != ahead.Index {
		t.Errorf("beside a request at %d, that of %d is forgotten", other.Index, ahead.Index)
	}
	x.restart()
	x.wantClock(x.clock)
}

// What its owner proposed by the clock that there was comes too late: it would move
// the clock on again.
func TestSetClockFencesWhatWasUnderWay(t *testing.T) {
	x := newFixture(t)
	e := x.one(command.OK, begin(3, 1, 9))
	right := x.clock
	x.clock = start + decade
	x.one(command.OK, fenced(e.Index, write(put("a", "1"))))
	set := x.apply(fenced(e.Index, setClock(right)), fenced(e.Index, write(put("a", "delayed"))))
	if set[0].Code != command.OK || set[1].Code != command.Fenced {
		t.Fatalf("set and the delayed write came to %+v", set)
	}
	x.wantClock(right)
	if want := (command.Epoch{ID: set[0].Index, Term: 3, Owner: 1, Nonce: 9, Lease: command.UnstatedLease}); x.m.Epoch() != want {
		t.Errorf("the epoch is %+v, want %+v", x.m.Epoch(), want)
	}
	x.one(command.Fenced, fenced(e.Index, setClock(x.clock)))
	x.clock = right
	again := x.one(command.OK, begin(3, 1, 9))
	x.one(command.OK, fenced(again.Index, write(put("a", "2"))))
	x.expect("a", []byte("2"))
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
