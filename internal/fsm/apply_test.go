package fsm

import (
	"encoding/binary"
	"math"
	"slices"
	"testing"

	"github.com/dkvdb/dkv/internal/command"
)

// counter is n as a counter's value.
func counter(n int64) string {
	return string(binary.BigEndian.AppendUint64(nil, uint64(n)))
}

// A semantic is one case of what a command means: given the commands of before,
// applied at start, what it comes to n seconds later.
type semantic struct {
	name    string
	before  []command.Command
	after   int // seconds from start at which the command is proposed
	command command.Command
	code    command.Code
	counter int64
	effects []string
	// key a afterwards; nil means absent.
	value    []byte
	expireTS uint64
}

func (s *semantic) run(t *testing.T) {
	x := newFixture(t)
	if len(s.before) > 0 {
		x.apply(s.before...)
	}
	x.clock = start + clockOf(s.after)
	s.check(x, x.one(s.code, s.command))
}

// runInOneBatch is run with all commands in the same batch, where old values
// come from the batch and not from the engine.
func (s *semantic) runInOneBatch(t *testing.T) {
	x := newFixture(t)
	for i := range s.before {
		s.before[i].Clock = start
	}
	x.clock = start + clockOf(s.after)
	results := x.apply(append(slices.Clone(s.before), s.command)...)
	s.check(x, results[len(results)-1])
}

func (s *semantic) check(x *fixture, res command.Result) {
	x.Helper()
	if res.Code != s.code || res.Counter != s.counter || res.Index != uint64(len(s.before)+1) {
		x.Fatalf("result %+v, want code %v, counter %d", res, s.code, s.counter)
	}
	if got := x.effects(res.Index); !slices.Equal(got, s.effects) {
		x.Fatalf("effects %q, want %q", got, s.effects)
	}
	x.expect("a", s.value)
	if got := x.expireTS("a"); s.value != nil && got != s.expireTS {
		x.Fatalf("a expires at %d, want %d", got, s.expireTS)
	}
}

func runSemantics(t *testing.T, cases []semantic) {
	for _, s := range cases {
		t.Run(s.name, s.run)
		t.Run(s.name+"/one batch", s.runInOneBatch)
	}
}

func before(cs ...command.Command) []command.Command { return cs }

func TestWrite(t *testing.T) {
	runSemantics(t, []semantic{
		{name: "put", command: write(put("a", "1")), effects: []string{"a=1"}, value: []byte("1")},
		{name: "empty value", command: write(put("a", "")), effects: []string{"a="}, value: []byte{}},
		{name: "overwrite", before: before(write(put("a", "1"))), command: write(put("a", "2")), effects: []string{"a=2"}, value: []byte("2")},
		{name: "same value", before: before(write(put("a", "1"))), command: write(put("a", "1")), effects: []string{"a=1"}, value: []byte("1")},
		{name: "many", command: write(put("a", "1"), put("b", "2"), del("c")), effects: []string{"a=1", "b=2"}, value: []byte("1")},
		{name: "same key twice", command: write(put("a", "1"), put("a", "2")), effects: []string{"a=1", "a=2"}, value: []byte("2")},
		{name: "put then delete", command: write(put("a", "1"), del("a")), effects: []string{"a=1", "-a"}},
		{name: "delete then put", before: before(write(put("a", "1"))), command: write(del("a"), put("a", "2")), effects: []string{"-a", "a=2"}, value: []byte("2")},
		{name: "delete", before: before(write(put("a", "1"))), command: write(del("a")), effects: []string{"-a"}},
		{name: "delete absent", command: write(del("a"))},
		{name: "delete twice", before: before(write(put("a", "1")), write(del("a"))), command: write(del("a"))},
		{name: "delete hidden", before: before(write(putUntil("a", "1", 1))), after: 5, command: write(del("a")), effects: []string{"-a"}},
		{name: "nothing", before: before(write(put("a", "1"))), command: write(), value: []byte("1")},
	})
}

func TestWriteExpiry(t *testing.T) {
	runSemantics(t, []semantic{
		{name: "future", command: write(putUntil("a", "1", 9)), effects: []string{"a=1@9"}, value: []byte("1"), expireTS: sec(9)},
		{name: "past", command: write(putUntil("a", "1", -9))},
		{name: "this second", command: write(putUntil("a", "1", 0))},
		{name: "next second", command: write(putUntil("a", "1", 1)), effects: []string{"a=1@1"}, value: []byte("1"), expireTS: sec(1)},
		{name: "past over live", before: before(write(put("a", "1"))), command: write(putUntil("a", "2", -9)), effects: []string{"-a"}},
		{name: "past over expiring", before: before(write(putUntil("a", "1", 9))), command: write(putUntil("a", "2", -9)), effects: []string{"-a"}},
		{name: "forever over expiring", before: before(write(putUntil("a", "1", 9))), command: write(put("a", "2")), effects: []string{"a=2"}, value: []byte("2")},
		{name: "expiring over forever", before: before(write(put("a", "1"))), command: write(putUntil("a", "2", 9)), effects: []string{"a=2@9"}, value: []byte("2"), expireTS: sec(9)},
		{name: "later", before: before(write(putUntil("a", "1", 9))), command: write(putUntil("a", "2", 10)), effects: []string{"a=2@10"}, value: []byte("2"), expireTS: sec(10)},
		{name: "over hidden", before: before(write(putUntil("a", "1", 1))), after: 5, command: write(put("a", "2")), effects: []string{"a=2"}, value: []byte("2")},
		{name: "far future", command: write(putUntil("a", "1", math.MaxInt32)), effects: []string{"a=1@2147483647"}, value: []byte("1"), expireTS: sec(math.MaxInt32)},
	})
}

func TestCompareAndSet(t *testing.T) {
	live, expiring := before(write(put("a", "1"))), before(write(putUntil("a", "1", 9)))
	runSemantics(t, []semantic{
		{name: "match", before: live, command: cas("1", put("a", "2")), effects: []string{"a=2"}, value: []byte("2")},
		{name: "mismatch", before: live, command: cas("2", put("a", "3")), code: command.NotUpdated, value: []byte("1")},
		{name: "prefix is no match", before: before(write(put("a", "12"))), command: cas("1", put("a", "2")), code: command.NotUpdated, value: []byte("12")},
		{name: "absent", command: cas("1", put("a", "2")), code: command.NotUpdated},
		{name: "create on absent", command: cas("", put("a", "2")), effects: []string{"a=2"}, value: []byte("2")},
		{name: "create on live", before: live, command: cas("", put("a", "2")), code: command.NotUpdated, value: []byte("1")},
		{name: "create on empty", before: before(write(put("a", ""))), command: cas("", put("a", "2")), effects: []string{"a=2"}, value: []byte("2")},
		{name: "create on deleted", before: before(write(put("a", "1")), write(del("a"))), command: cas("", put("a", "2")), effects: []string{"a=2"}, value: []byte("2")},
		{name: "create on expired", before: expiring, after: 9, command: cas("", put("a", "2")), effects: []string{"a=2"}, value: []byte("2")},
		{name: "create just before expiry", before: expiring, after: 8, command: cas("", put("a", "2")), code: command.NotUpdated, value: []byte("1"), expireTS: sec(9)},
		{name: "match on expired", before: expiring, after: 9, command: cas("1", put("a", "2")), code: command.NotUpdated},
		{name: "sets the expiry", before: live, command: cas("1", putUntil("a", "2", 7)), effects: []string{"a=2@7"}, value: []byte("2"), expireTS: sec(7)},
		{name: "drops the expiry", before: expiring, command: cas("1", put("a", "2")), effects: []string{"a=2"}, value: []byte("2")},
		{name: "past expiry deletes", before: live, command: cas("1", putUntil("a", "2", -7)), effects: []string{"-a"}},
	})
}

func TestIncrement(t *testing.T) {
	with := func(key string, delta int64, n int) command.Command {
		c := increment(key, delta)
		c.Mutations[0].ExpireTS = sec(n)
		return c
	}
	five := before(write(put("a", counter(5))))
	fiveUntil9 := before(write(putUntil("a", counter(5), 9)))
	most, least := before(write(put("a", counter(math.MaxInt64)))), before(write(put("a", counter(math.MinInt64))))
	runSemantics(t, []semantic{
		{name: "absent", command: increment("a", 7), counter: 7, effects: []string{"a=" + counter(7)}, value: []byte(counter(7))},
		{name: "empty", before: before(write(put("a", ""))), command: increment("a", 7), counter: 7, effects: []string{"a=" + counter(7)}, value: []byte(counter(7))},
		{name: "present", before: five, command: increment("a", 7), counter: 12, effects: []string{"a=" + counter(12)}, value: []byte(counter(12))},
		{name: "down", before: five, command: increment("a", -7), counter: -2, effects: []string{"a=" + counter(-2)}, value: []byte(counter(-2))},
		{name: "by nothing", before: five, command: increment("a", 0), counter: 5, effects: []string{"a=" + counter(5)}, value: []byte(counter(5))},
		{name: "7 bytes", before: before(write(put("a", "1234567"))), command: increment("a", 1), code: command.NotACounter, value: []byte("1234567")},
		{name: "9 bytes", before: before(write(put("a", "123456789"))), command: increment("a", 1), code: command.NotACounter, value: []byte("123456789")},
		{name: "over the top", before: most, command: increment("a", 1), code: command.Overflow, counter: math.MaxInt64, value: []byte(counter(math.MaxInt64))},
		{name: "below the bottom", before: least, command: increment("a", -1), code: command.Overflow, counter: math.MinInt64, value: []byte(counter(math.MinInt64))},
		{name: "by the least of all", before: before(write(put("a", counter(-1)))), command: increment("a", math.MinInt64), code: command.Overflow, counter: -1, value: []byte(counter(-1))},
		{name: "from end to end", before: most, command: increment("a", math.MinInt64), counter: -1, effects: []string{"a=" + counter(-1)}, value: []byte(counter(-1))},
		{name: "up to the top", before: five, command: increment("a", math.MaxInt64-5), counter: math.MaxInt64, effects: []string{"a=" + counter(math.MaxInt64)}, value: []byte(counter(math.MaxInt64))},
		{name: "keeps the expiry", before: fiveUntil9, after: 8, command: increment("a", 1), counter: 6, effects: []string{"a=" + counter(6) + "@9"}, value: []byte(counter(6)), expireTS: sec(9)},
		{name: "sets the expiry", before: fiveUntil9, command: with("a", 1, 20), counter: 6, effects: []string{"a=" + counter(6) + "@20"}, value: []byte(counter(6)), expireTS: sec(20)},
		{name: "starts over on expired", before: fiveUntil9, after: 9, command: increment("a", 1), counter: 1, effects: []string{"a=" + counter(1)}, value: []byte(counter(1))},
		{name: "past expiry deletes", before: five, command: with("a", 1, -1), counter: 6, effects: []string{"-a"}},
	})
}

func TestExpire(t *testing.T) {
	until9 := before(write(putUntil("a", "1", 9)))
	runSemantics(t, []semantic{
		{name: "due", before: until9, after: 9, command: expire(9, "a"), effects: []string{"-a"}},
		{name: "too early", before: until9, after: 8, command: expire(9, "a"), value: []byte("1"), expireTS: sec(9)},
		{name: "prolonged meanwhile", before: before(write(putUntil("a", "1", 9)), write(putUntil("a", "1", 20))), after: 9, command: expire(9, "a"), value: []byte("1"), expireTS: sec(20)},
		{name: "made permanent meanwhile", before: before(write(putUntil("a", "1", 9)), write(put("a", "1"))), after: 9, command: expire(9, "a"), value: []byte("1")},
		{name: "deleted meanwhile", before: before(write(putUntil("a", "1", 9)), write(del("a"))), after: 9, command: expire(9, "a")},
		{name: "proposed twice", before: before(write(putUntil("a", "1", 9))), after: 9, command: expire(9, "a", "a"), effects: []string{"-a"}},
		{name: "several", before: before(write(putUntil("a", "1", 9), putUntil("b", "2", 9), put("c", "3"))), after: 9, command: expire(9, "b", "c", "a"), effects: []string{"-b", "-a"}},
		{name: "without an expiry", before: before(write(put("a", "1"))), after: 9, command: command.Command{Kind: command.Expire, Mutations: write(del("a")).Mutations}, value: []byte("1")},
	})
}

func TestExpiredTotal(t *testing.T) {
	x := newFixture(t)
	x.apply(write(putUntil("a", "1", 1), putUntil("b", "1", 1), putUntil("c", "1", 1)))
	x.clock += clockOf(1)
	x.apply(write(del("c")), expire(1, "a", "b", "c"))
	if got := x.m.ExpiredTotal(); got != 2 {
		t.Fatalf("%d keys were expired, want 2", got)
	}
	x.restart()
	if got := x.m.ExpiredTotal(); got != 2 {
		t.Fatalf("%d keys were expired after a restart, want 2", got)
	}
}

func TestPause(t *testing.T) {
	x := newFixture(t)
	x.apply(write(put("a", "1")), write(putUntil("t", "1", 1)))
	x.one(command.OK, pause(true))
	if !x.m.Paused() {
		t.Fatal("not paused")
	}
	x.clock += clockOf(5)
	refused := []command.Command{
		write(put("a", "2")), write(del("a")), cas("1", put("a", "2")), increment("n", 1), expire(1, "t"),
	}
	for _, c := range refused {
		res := x.one(command.Paused, c)
		if got := x.effects(res.Index); got != nil {
			t.Fatalf("%v had effects %q during a pause", c.Kind, got)
		}
	}
	x.expect("a", []byte("1"))
	if x.restart(); !x.m.Paused() {
		t.Fatal("the pause did not outlive a restart")
	}
	x.one(command.OK, pause(true)) // again does nothing
	results := x.apply(pause(false), write(put("a", "2")), pause(true), write(put("a", "3")))
	if results[1].Code != command.OK || results[3].Code != command.Paused {
		t.Fatalf("a pause inside a batch: %+v", results)
	}
	x.expect("a", []byte("2"))
	x.one(command.OK, pause(false))
	if x.m.Paused() {
		t.Fatal("still paused")
	}
	x.one(command.OK, expire(1, "t"))
}

func TestEmptyEntriesAdvance(t *testing.T) {
	x := newFixture(t)
	entries := []Entry{{Index: 3}, {Index: 7}}
	results := make([]command.Result, 2)
	if err := x.m.Apply(entries, results, false); err != nil {
		t.Fatal(err)
	}
	if x.m.Applied() != 7 || results[0].Index != 3 || results[1].Index != 7 {
		t.Fatalf("applied %d, results %+v", x.m.Applied(), results)
	}
	if err := x.m.Apply(nil, nil, true); err != nil || x.m.Applied() != 7 {
		t.Fatalf("no entries: %v, applied %d", err, x.m.Applied())
	}
	ch, err := x.m.Changes(1, 0, 1<<20)
	if err != nil || len(ch.Changes) != 0 || ch.Newest != 7 {
		t.Fatalf("changes %+v, %v", ch, err)
	}
	checkInvariants(t, x.m)
}
