package fsm

import (
	"errors"
	"testing"

	"github.com/dkvdb/dkv/internal/command"
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

func samePairs(a, b []pair) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
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

func TestAckedRequestsAreForgotten(t *testing.T) {
	x := newFixture(t)
	for seq := range uint64(5) {
		x.one(command.OK, as(increment("a", 1), 7, seq+1, 0))
	}
	if x.m.requests.live != 5 {
		t.Fatalf("%d requests are remembered, want 5", x.m.requests.live)
	}
	x.one(command.OK, as(increment("a", 1), 7, 6, 4))
	if x.m.requests.live != 2 { // 5 and 6
		t.Fatalf("%d requests are remembered, want 2", x.m.requests.live)
	}
	first := x.one(command.OK, as(increment("a", 1), 7, 5, 0))
	if first.Index != 5 || first.Counter != 5 {
		t.Fatalf("request 5 came to %+v", first)
	}
	// A duplicate that was under way all the time must not be applied.
	for _, seq := range []uint64{1, 4} {
		stale := x.one(command.StaleRequest, as(increment("a", 1), 7, seq, 0))
		if stale.Index != x.m.Applied() {
			t.Fatalf("stale request came to %+v", stale)
		}
	}
	x.expect("a", []byte(counter(6)))
	if x.restart(); x.one(command.StaleRequest, as(increment("a", 1), 7, 4, 0)).Counter != 0 {
		t.Fatal("a restart lost the promise")
	}
}

// A promise of one that comes late says less than what is known.
func TestOlderPromiseForgetsNothing(t *testing.T) {
	x := newFixture(t)
	x.apply(as(increment("a", 1), 7, 1, 0), as(increment("a", 1), 7, 2, 0), as(increment("a", 1), 7, 5, 1), as(increment("a", 1), 7, 3, 0))
	x.one(command.StaleRequest, as(increment("a", 1), 7, 1, 0))
	if res := x.one(command.OK, as(increment("a", 1), 7, 3, 0)); res.Index != 4 {
		t.Fatalf("request 3 came to %+v", res)
	}
}

// Both ways of finding what a promise covers, by sequence and by looking at all.
func TestAckedAcrossGaps(t *testing.T) {
	for _, sequences := range [][]uint64{
		{1, 2, 3, 4, 5, 6, 7, 8},
		{1, 100, 10_000, 1 << 40, 1 << 50, 1 << 60},
	} {
		x := newFixture(t)
		for _, seq := range sequences {
			x.one(command.OK, as(increment("a", 1), 7, seq, 0))
		}
		last := sequences[len(sequences)-1]
		x.one(command.OK, as(increment("a", 1), 7, last+1, sequences[len(sequences)-2]))
		if x.m.requests.live != 2 {
			t.Fatalf("%d requests are remembered after %v, want 2", x.m.requests.live, sequences)
		}
		x.one(command.OK, as(increment("a", 1), 7, last+2, last+1))
		if x.m.requests.live != 1 {
			t.Fatalf("%d requests are remembered after %v, want 1", x.m.requests.live, sequences)
		}
	}
}

func TestRequestsAreForgottenByAge(t *testing.T) {
	x := newFixture(t)
	age := kv.Clock(maxRequestAge.Milliseconds())
	c := as(increment("a", 1), 7, 1, 0)
	x.one(command.OK, c)
	x.clock = start + age - 1
	x.one(command.OK, as(increment("b", 1), 8, 1, 0))
	if res := x.one(command.OK, c); res.Index != 1 {
		t.Fatalf("forgotten too early: %+v", res)
	}
	// Only another request's entry moves the bound: forgetting has to be in a
	// batch that every replica writes.
	x.clock = start + age
	x.one(command.OK, as(increment("b", 1), 8, 2, 0))
	if x.m.requests.live != 2 {
		t.Fatalf("%d requests are remembered, want 2", x.m.requests.live)
	}
	if res := x.one(command.OK, c); res.Counter != 2 {
		t.Fatalf("not applied as new: %+v", res)
	}
}

// When the request that carried the greatest promise goes, the promise goes with
// it, on a replica that ran on as on one that restarted.
func TestPromiseGoesWithItsRequest(t *testing.T) {
	x := newFixture(t)
	age := kv.Clock(maxRequestAge.Milliseconds())
	x.one(command.OK, as(increment("a", 1), 7, 10, 9))
	x.clock += age / 2
	x.one(command.OK, as(increment("a", 1), 7, 11, 3))
	x.one(command.StaleRequest, as(increment("a", 1), 7, 9, 0))
	x.clock += age / 2
	x.one(command.OK, as(increment("b", 1), 8, 1, 0)) // 10 is too old now
	x.one(command.StaleRequest, as(increment("a", 1), 7, 3, 0))
	x.one(command.OK, as(increment("a", 1), 7, 9, 0))
}

// none is the fingerprint of a command that says nothing.
var none = new(command.Command).Fingerprint()

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

func TestRequestsAreForgottenByCount(t *testing.T) {
	e := openMemory(t)
	m := newMachine(t, e)
	tx := &storage.Batch{}
	add := func(index uint64) {
		id := kv.RequestID{Client: index%1000 + 1, Sequence: index/1000 + 1}
		m.requests.add(tx, &requestEntry{id: id, clock: start, print: none, result: command.Result{Index: index}})
		if tx.Size() < 1<<20 {
			return
		}
		if err := e.Write(tx, false); err != nil {
			t.Fatal(err)
		}
		tx.Reset()
	}
	const more = 2500
	for index := range uint64(maxRequests + more) {
		add(index)
	}
	if err := e.Write(tx, false); err != nil {
		t.Fatal(err)
	}
	if m.requests.live != maxRequests {
		t.Fatalf("%d requests are remembered, the bound is %d", m.requests.live, maxRequests)
	}
	for index, known := range map[uint64]bool{0: false, more - 1: false, more: true, maxRequests: true} {
		id := kv.RequestID{Client: index%1000 + 1, Sequence: index/1000 + 1}
		if res, found := m.requests.lookup(&command.Command{Request: id}, 1<<40); found != known || (known && res.Index != index) {
			t.Errorf("request %d: known is %v (%+v), want %v", index, found, res, known)
		}
	}
	checkRequests(t, m)
}

// One silent client must not make the table keep what all others acknowledged.
func TestAckedRequestsTakeNoMemory(t *testing.T) {
	m := newMachine(t, openMemory(t))
	b := &storage.Batch{}
	silent := &requestEntry{id: kv.RequestID{Client: 1, Sequence: 1}, clock: start, print: none, result: command.Result{Index: 1}}
	m.requests.add(b, silent)
	for seq := range uint64(10_000) {
		b.Reset()
		id := kv.RequestID{Client: 2, Sequence: seq + 1, Acked: seq}
		m.requests.add(b, &requestEntry{id: id, clock: start, print: none, result: command.Result{Index: seq + 2}})
	}
	if n := cap(m.requests.order); m.requests.live != 2 || n > 256 {
		t.Fatalf("%d requests are remembered in %d places", m.requests.live, n)
	}
	if _, known := m.requests.lookup(&command.Command{Request: silent.id}, 1<<40); !known {
		t.Fatal("the silent client's request is forgotten")
	}
}

func TestRequestRecord(t *testing.T) {
	e := requestEntry{
		id:     kv.RequestID{Client: 0x0102030405060708, Sequence: 300, Acked: 299},
		clock:  1_700_000_000_000,
		print:  0x1112131415161718,
		result: command.Result{Index: 7, Code: command.Overflow, Counter: -1},
	}
	// The layout is on disk: it must never change.
	want := "01" + "0807060504030201" + "ac02" + "ab02" + "80d095ffbc31" + "1817161514131211" + "010307" + "01"
	raw := e.append(nil)
	checkHex(t, raw, want)
	got, err := decodeRequest(raw)
	if err != nil || *got != e {
		t.Fatalf("decoded %+v, %v", got, err)
	}
	for n := range raw {
		if _, err := decodeRequest(raw[:n]); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	for _, bad := range [][]byte{append([]byte{2}, raw[1:]...), append(append([]byte{}, raw...), 0)} {
		if _, err := decodeRequest(bad); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%x: %v", bad, err)
		}
	}
}
