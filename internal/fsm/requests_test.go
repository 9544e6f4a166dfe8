package fsm

import (
	"fmt"
	"testing"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm/requests"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

func TestRetryReturnsFirstResult(t *testing.T) {
	setUp := func(x *fixture) { x.apply(write(put("a", "1"), put("n", "text"))) }
	cases := []struct {
		name    string
		command command.Command
		code    command.Code
		counter int64
	}{
		{"put", write(put("b", "2")), command.OK, 0},
		{"failed CAS", cas("9", put("a", "2")), command.NotUpdated, 0},
		{"CAS", cas("1", put("a", "2")), command.OK, 0},
		{"increment", increment("c", 5), command.OK, 5},
		{"not a counter", increment("n", 5), command.NotACounter, 0},
		{"pause", pause(true), command.OK, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			x := newFixture(t)
			setUp(x)
			c.command = as(c.command, 7, 1, 0)
			first := x.one(c.code, c.command)
			if first.Counter != c.counter || first.Index != 2 {
				t.Fatalf("first result %+v", first)
			}
			keyspace := dump(t, x.engine, storage.Data)
			retries := append(x.apply(c.command, c.command), x.one(c.code, c.command))
			x.restart()
			retries = append(retries, x.one(c.code, c.command))
			for _, r := range retries {
				if r != first {
					t.Fatalf("retry came to %+v, the first to %+v", r, first)
				}
			}
			if got := dump(t, x.engine, storage.Data); !samePairs(got, keyspace) {
				t.Fatalf("retries changed the keyspace from %q to %q", keyspace, got)
			}
			for index := first.Index + 1; index <= x.m.Applied(); index++ {
				if got := x.effects(index); got != nil {
					t.Fatalf("retry at %d had effects %q", index, got)
				}
			}
		})
	}
}

func TestRetryInTheSameBatch(t *testing.T) {
	x := newFixture(t)
	c := as(increment("a", 1), 7, 1, 0)
	results := x.apply(c, c, c)
	for _, r := range results {
		if r.Counter != 1 || r.Index != 1 {
			t.Fatalf("results %+v", results)
		}
	}
	x.expect("a", []byte(counter(1)))
}

func TestRequestsOfClientsAreApart(t *testing.T) {
	x := newFixture(t)
	x.apply(as(increment("a", 1), 7, 1, 0), as(increment("a", 1), 8, 1, 0), increment("a", 1), increment("a", 1))
	x.expect("a", []byte(counter(4)))
}

func TestPausedRequestMaySucceedLater(t *testing.T) {
	x := newFixture(t)
	x.apply(pause(true))
	c := as(write(put("a", "1")), 7, 1, 0)
	x.one(command.Paused, c)
	x.apply(pause(false))
	if res := x.one(command.OK, c); res.Index != x.m.Applied() {
		t.Fatalf("result %+v", res)
	}
	x.expect("a", []byte("1"))
	// Its answer stands from now on, even through the next pause.
	x.apply(pause(true))
	x.one(command.OK, c)
}

// An id is for one request: another one under it is refused, not answered with
// the first one's result.
func TestRequestMismatch(t *testing.T) {
	x := newFixture(t)
	first := x.one(command.OK, as(write(put("a", "1")), 7, 1, 0))
	for _, c := range []command.Command{
		write(put("a", "2")), write(put("b", "1")), write(del("a")), write(putUntil("a", "1", 9)),
		write(put("a", "1"), put("b", "1")), cas("", put("a", "1")), increment("a", 1),
	} {
		x.one(command.RequestMismatch, as(c, 7, 1, 0))
	}
	x.restart()
	x.one(command.RequestMismatch, as(write(put("a", "2")), 7, 1, 0))
	x.clock += 5000
	if again := x.one(command.OK, as(write(put("a", "1")), 7, 1, 0)); again.Index != first.Index {
		t.Errorf("a retry was applied at %d", again.Index)
	}
	x.expect("a", []byte("1"))
	x.expect("b", nil)
}

// What is forgotten is not applied again, on a machine that ran on as on one that
// was restarted.
func TestForgottenRequestIsTooLate(t *testing.T) {
	x := newFixture(t)
	first := as(increment("a", 1), 7, 1, 0)
	x.one(command.OK, first)
	x.clock += kv.Clock(x.m.bounds.Age.Milliseconds())
	x.one(command.OK, as(increment("b", 1), 8, 1, 0))
	for range 2 {
		if late := x.one(command.TooLate, first); late.Index != x.m.Applied() {
			t.Errorf("a late retry came to %+v", late)
		}
		x.restart()
	}
	x.expect("a", []byte(counter(1)))
	if s := x.m.Requests(); s.Entries != 1 || s.Sessions != 2 || s.Bytes == 0 {
		t.Errorf("requests %+v", s)
	}
}

// Other clients, however much they write, push no result out that its client may
// still ask for.
func TestRequestsOfOthersPushNothingOut(t *testing.T) {
	x := newFixture(t)
	first := as(increment("n", 1), 1, 1, 0)
	want := x.one(command.OK, first)
	for round := range uint64(4200) {
		entries := make([]Entry, 64)
		for i := range entries {
			c := as(write(put("m", "1")), 100+uint64(i), round+1, 0)
			entries[i] = Entry{Index: x.m.Applied() + 1 + uint64(i), Command: &c}
		}
		if err := x.m.Apply(entries, make([]command.Result, len(entries)), false); err != nil {
			t.Fatal(err)
		}
	}
	if again := x.one(command.OK, first); again != want {
		t.Errorf("after %d requests of others a retry came to %+v, the first attempt to %+v", 64*4200, again, want)
	}
}

// limited is an engine that refuses batches beyond what their commands may cost.
type limited struct {
	storage.Engine
	bytes, ops int
}

func (l *limited) Write(b *storage.Batch, sync bool) error {
	if b.Size() > l.bytes || b.Count() > l.ops {
		return fmt.Errorf("a batch of %d bytes and %d operations, at most %d and %d were announced", b.Size(), b.Count(), l.bytes, l.ops)
	}
	return l.Engine.Write(b, sync)
}

// However a client chooses its ids, a batch takes no more than what is announced
// for its commands, and others' requests are remembered.
func TestBatchesOfHostileRequests(t *testing.T) {
	x := newFixture(t)
	engine := &limited{Engine: x.engine}
	x.m = newMachine(t, engine)
	const from, size = 1 << 40, 64
	sent := uint64(0)
	for round := range uint64(800) {
		var entries []Entry
		engine.bytes, engine.ops = 0, 0
		add := func(c command.Command) {
			c.Clock = x.clock
			bytes, ops := BatchCost(&c)
			engine.bytes, engine.ops = engine.bytes+bytes, engine.ops+ops
			entries = append(entries, Entry{Index: x.m.Applied() + 1 + uint64(len(entries)), Command: &c})
		}
		for range uint64(size) {
			sent++
			add(as(write(put("k", "v")), 666, from+sent, from-sent))
			add(as(write(put("k", "v")), 1000+sent, 1+sent%7, 0))
		}
		add(as(increment("honest", 1), 7, round+1, round))
		add(as(increment("honest", 1), 7, round+1, round))
		results := make([]command.Result, len(entries))
		if err := x.m.Apply(entries, results, false); err != nil {
			t.Fatal(err)
		}
		if a, b := results[len(results)-2], results[len(results)-1]; a != b || a.Counter != int64(round+1) {
			t.Fatalf("round %d: increment came to %+v, its retry to %+v", round, a, b)
		}
	}
	if s, most := x.m.Requests(), requests.DefaultBounds(); s.Sessions > uint64(most.Sessions) || s.Bytes > 2*uint64(most.Bytes) {
		t.Errorf("requests %+v", s)
	}
	if err := x.m.requests.Check(engine); err != nil {
		t.Error(err)
	}
}
