package fsm

import (
	"testing"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm/layout"
	"github.com/dkvdb/dkv/internal/fsm/offline"
	"github.com/dkvdb/dkv/internal/storage"
)

// wantSealed fails unless the log is sealed for a promotion, now and when it is opened again.
func (x *fixture) wantSealed(want string) {
	x.Helper()
	for range 2 {
		if got := x.m.Sealed(); got != want {
			x.Fatalf("sealed for %q, want %q", got, want)
		}
		x.restart()
	}
}

// A sealed log changes nothing and begins no epoch, whichever node proposes that, until the promotion
// that has sealed it is given up.
func TestSealedLogRejectsItsOwners(t *testing.T) {
	x := newFixture(t)
	epoch := x.one(command.OK, begin(2, 1, 9)).Index
	in := func(c command.Command) command.Command { return fenced(epoch, c) }
	x.one(command.OK, in(write(put("a", "1"))))
	x.one(command.Fenced, sealFor("p")) // of a deposed owner
	x.wantSealed("")
	at := x.one(command.OK, in(sealFor("p"))).Index
	x.wantSealed("p")
	request := as(in(write(put("a", "2"))), 7, 1, 0)
	for _, c := range []command.Command{
		begin(3, 2, 9), begin(2, 1, 9), in(write(put("a", "2"))), write(put("a", "2")), request, in(pause(true)), in(setStandbys("s", 0)),
		in(setFormat(9)), in(setTiming("t", 0)), end(epoch), in(command.Command{Kind: command.Tick}),
		in(command.Command{Kind: command.SetClock, Clock: start * 2}), in(sealFor("other")), in(command.Command{Kind: command.BeginRestore, Expect: []byte("r")}),
	} {
		before := x.m.state
		if res := x.one(command.Sealed, c); res.Previous != nil {
			t.Errorf("%v: replaces %+v", c.Kind, res.Previous)
		}
		if before.Applied = x.m.Applied(); x.m.state != before {
			t.Errorf("%v changed the state from %+v to %+v", c.Kind, before, x.m.state)
		}
	}
	x.expect("a", []byte("1"))
	if again := x.one(command.OK, in(sealFor("p"))).Index; again != at {
		t.Errorf("sealed again at %d, the first time was %d", again, at)
	}
	x.one(command.OK, member(2, "m"))
	x.one(command.OK, unseal("other"))
	x.wantSealed("p")
	x.one(command.OK, unseal("p")) // by a node that owns no epoch
	x.wantSealed("")
	// The rejection was not remembered, and the epoch still runs.
	x.one(command.OK, request)
	x.expect("a", []byte("2"))
	x.one(command.OK, unseal("p"))
	x.one(command.OK, begin(3, 2, 9))
}

// What a batch has after a Seal is rejected in the same batch.
func TestSealCountsWithinABatch(t *testing.T) {
	x := newFixture(t)
	res := x.apply(write(put("a", "1")), sealFor("p"), write(put("a", "2")), unseal("p"), write(put("b", "1")))
	for i, want := range []command.Code{command.OK, command.OK, command.Sealed, command.OK, command.OK} {
		if res[i].Code != want {
			t.Errorf("command %d: %v, want %v", i, res[i].Code, want)
		}
	}
	x.expect("a", []byte("1"))
	x.expect("b", []byte("1"))
}

// A restore has to end, or to be aborted, before the log is sealed.
func TestRestoreRejectsASeal(t *testing.T) {
	x := newFixture(t)
	x.one(command.OK, command.Command{Kind: command.BeginRestore, Expect: []byte("r")})
	x.one(command.Restoring, sealFor("p"))
	x.wantSealed("")
	x.one(command.OK, command.Command{Kind: command.AbortRestore, Expect: []byte("r")})
	x.one(command.OK, sealFor("p"))
	x.wantSealed("p")
}

// A new log is not sealed, and only a sealed state needs the newer record.
func TestSealEndsWithItsLog(t *testing.T) {
	x := newFixture(t)
	version := func(want byte) {
		t.Helper()
		raw, _, err := x.engine.Get(storage.Meta, layout.KeyState)
		if err != nil || raw[0] != want {
			t.Errorf("the state record begins with %x (%v), want version %d", raw, err, want)
		}
	}
	version(1)
	x.one(command.OK, sealFor("p"))
	version(3)
	x.one(command.OK, unseal("p"))
	version(1)
	x.one(command.OK, sealFor("q"))
	if err := offline.Continue(x.engine); err != nil {
		t.Fatal(err)
	}
	x.restart()
	x.wantSealed("")
	version(1)
}
