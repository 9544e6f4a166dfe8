package requests

import (
	"testing"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/memory"
)

// start is the log's clock at first: some time in 2023.
const start = kv.Clock(1_700_000_000_000)

// rig is a table over a memory engine.
type rig struct {
	t      testing.TB
	table  *Table
	engine storage.Engine
	bounds Bounds
	clock  kv.Clock
	index  kv.Index
	batch  storage.Batch
	// unchecked leaves out the comparison with what is stored, which is slow.
	unchecked bool
}

func newRig(t testing.TB, bounds Bounds) *rig {
	t.Helper()
	e, err := memory.Open(memory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, engine: e, bounds: bounds, clock: start}
	r.reload()
	return r
}

// reload reads the table as a restart does.
func (r *rig) reload() {
	r.t.Helper()
	var err error
	if r.table, err = Load(r.engine, r.bounds); err != nil {
		r.t.Fatal(err)
	}
}

// request is what client asks under a sequence; see kv.RequestID.
func request(client, sequence, acked uint64) *command.Command {
	return &command.Command{Kind: command.Write, Request: kv.RequestID{Client: client, Sequence: sequence, Acked: acked}}
}

func repeated(c *command.Command) *command.Command {
	again := *c
	again.Request.Repeat = true
	return &again
}

// apply applies c as a batch of its own, as the state machine does.
func (r *rig) apply(c *command.Command) command.Result {
	r.t.Helper()
	r.index++
	r.batch.Reset()
	res, known := r.table.Lookup(c, r.index, r.clock)
	if !known {
		res = command.Result{Index: r.index}
		r.table.Add(&r.batch, c, res, r.clock)
	}
	r.table.Flush(&r.batch)
	if err := r.engine.Write(&r.batch, false); err != nil {
		r.t.Fatal(err)
	}
	if r.batch.Count() > MaxOps || r.batch.Size() > MaxBytes {
		r.t.Fatalf("request %+v takes %d operations and %d bytes, the most is %d and %d",
			c.Request, r.batch.Count(), r.batch.Size(), MaxOps, MaxBytes)
	}
	if !r.unchecked {
		if err := r.table.Check(r.engine); err != nil {
			r.t.Fatal(err)
		}
	}
	return res
}

// fresh applies c, which must be taken for new.
func (r *rig) fresh(c *command.Command) kv.Index {
	r.t.Helper()
	if res := r.apply(c); res.Code != command.OK || res.Index != r.index {
		r.t.Fatalf("request %+v came to %+v at %d, want a new one", c.Request, res, r.index)
	}
	return r.index
}

// answered applies c, which must come to what the first attempt did, at index.
func (r *rig) answered(c *command.Command, index kv.Index) {
	r.t.Helper()
	if res := r.apply(c); res.Code != command.OK || res.Index != index {
		r.t.Fatalf("request %+v came to %+v, want the answer of %d", c.Request, res, index)
	}
}

// refused applies c, which must come to code.
func (r *rig) refused(c *command.Command, code command.Code) {
	r.t.Helper()
	if res := r.apply(c); res.Code != code || res.Index != r.index {
		r.t.Fatalf("request %+v came to %+v, want %v", c.Request, res, code)
	}
}

func (r *rig) entries(want int) {
	r.t.Helper()
	if got := r.table.Stats().Entries; got != uint64(want) {
		r.t.Fatalf("%d results are remembered, want %d", got, want)
	}
}

func (r *rig) sessions(want int) {
	r.t.Helper()
	if got := r.table.Stats().Sessions; got != uint64(want) {
		r.t.Fatalf("%d clients are known, want %d", got, want)
	}
}

func (r *rig) age() kv.Clock { return kv.Clock(r.bounds.Age.Milliseconds()) }

func TestAcknowledgedResultsGo(t *testing.T) {
	r := newRig(t, DefaultBounds())
	for seq := range uint64(5) {
		r.fresh(request(7, seq+1, 0))
	}
	r.entries(5)
	r.fresh(request(7, 6, 4))
	r.entries(2) // 5 and 6
	r.answered(request(7, 5, 0), 5)
	// A duplicate that was delayed until now must not be applied.
	for _, seq := range []uint64{1, 4} {
		r.refused(request(7, seq, 0), command.StaleRequest)
	}
	r.reload()
	r.refused(request(7, 4, 0), command.StaleRequest)
	if r.table.Stats().Forgotten != 0 {
		t.Error("what was acknowledged counts as forgotten")
	}
}

// A promise holds for good, also one that comes before a smaller one, and when
// the request that made it is gone.
func TestPromisesDoNotFall(t *testing.T) {
	r := newRig(t, DefaultBounds())
	r.fresh(request(7, 10, 9))
	r.clock += r.age() / 2
	r.fresh(request(7, 11, 3))
	r.clock += r.age() / 2
	r.fresh(request(8, 1, 0)) // 10 is too old now
	r.refused(request(7, 9, 0), command.StaleRequest)
	r.refused(request(7, 3, 0), command.StaleRequest)
}

// Promises that a request makes of itself or of later ones count up to itself.
func TestPromisesAreClamped(t *testing.T) {
	r := newRig(t, DefaultBounds())
	r.fresh(request(7, 5, 9))
	r.refused(request(7, 4, 0), command.StaleRequest)
	r.answered(request(7, 5, 0), 1)
	r.fresh(request(7, 6, 0))
}

// After a gap has closed, all behind it goes, a few a request.
func TestAcknowledgedResultsGoInSteps(t *testing.T) {
	r := newRig(t, DefaultBounds())
	for seq := range uint64(100) {
		r.fresh(request(7, seq+1, 0))
	}
	r.fresh(request(7, 101, 100))
	r.entries(101 - removals)
	steps := 1
	for seq := uint64(102); r.table.Stats().Entries > 1; seq++ {
		r.fresh(request(7, seq, seq-1))
		steps++
	}
	if most := 101/(removals-1) + 1; steps > most {
		t.Errorf("it took %d requests, want at most %d", steps, most)
	}
}

// What is forgotten of one client is marked, and never applied again.
func TestClientsAreBounded(t *testing.T) {
	for _, c := range []struct {
		name string
		from uint64 // the first sequence, less one
		keep func(Bounds) int
	}{
		{"by count", 0, func(b Bounds) int { return b.ClientEntries }},
		{"by bytes", 1 << 62, func(b Bounds) int {
			return b.ClientBytes / entryBytes((&entry{name: name{7, 1 << 62}, clock: start, result: command.Result{Index: 1000}}).append(nil))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, DefaultBounds())
			r.unchecked = true
			other := r.fresh(request(8, 1, 0))
			keep := uint64(c.keep(r.bounds))
			for seq := range 2 * keep {
				r.fresh(request(7, c.from+seq+1, 0))
			}
			r.unchecked = false
			if got := r.table.Stats().Entries - 1; got > keep || got < keep-32 {
				t.Fatalf("%d results of the client are remembered, want %d", got, keep)
			}
			kept := c.from + 2*keep - (r.table.Stats().Entries - 1) + 1
			r.reload()
			r.answered(request(7, kept, 0), other+kept-c.from)
			for _, seq := range []uint64{1, kept - c.from - 1} {
				r.refused(request(7, c.from+seq, 0), command.TooLate)
				r.refused(repeated(request(7, c.from+seq, 0)), command.TooLate)
			}
			r.answered(repeated(request(8, 1, 0)), other)
			r.fresh(request(7, c.from+2*keep+1, kept))
			r.refused(request(7, kept-1, 0), command.StaleRequest)
		})
	}
}

func TestResultsAreForgottenByAge(t *testing.T) {
	r := newRig(t, DefaultBounds())
	first := r.fresh(request(7, 1, 0))
	r.clock += r.age() - 1
	r.fresh(request(8, 1, 0))
	r.answered(request(7, 1, 0), first)
	r.clock++
	// Only another request's entry moves the bound: forgetting has to be in a batch
	// that every replica writes.
	r.answered(request(7, 1, 0), first)
	r.fresh(request(8, 2, 0))
	r.entries(2)
	r.refused(request(7, 1, 0), command.TooLate)
	r.reload()
	r.refused(request(7, 1, 0), command.TooLate)
	r.fresh(request(7, 2, 0))
}

// The oldest results go first, whichever client has them.
func TestTheTableIsBounded(t *testing.T) {
	bounds := DefaultBounds()
	bounds.Bytes = 100 * entryBytes(make([]byte, 40))
	r := newRig(t, bounds)
	for i := range uint64(500) {
		r.fresh(request(i%50+1, i/50+1, 0))
	}
	stats := r.table.Stats()
	if got := r.table.bytes; got > bounds.Bytes || got < bounds.Bytes*9/10 {
		t.Fatalf("%d bytes are remembered, the bound is %d", got, bounds.Bytes)
	}
	if stats.Forgotten != 500-stats.Entries || stats.Sessions != 50 {
		t.Errorf("stats %+v", stats)
	}
	r.answered(request(50, 10, 0), 500)
	r.refused(request(50, 1, 0), command.TooLate)
	r.fresh(request(50, 11, 0))
}

// The client that is forgotten first is the one that was silent for longest. A
// request of it is taken for new, but not a repeat: it may have been applied.
func TestSessionsAreBounded(t *testing.T) {
	bounds := DefaultBounds()
	bounds.Sessions = 10
	r := newRig(t, bounds)
	for client := range uint64(10) {
		r.fresh(request(client+1, 1, 0))
	}
	r.clock += 1000
	kept := r.fresh(request(1, 2, 0))
	r.fresh(request(11, 1, 0)) // client 2 goes, and its result
	r.sessions(10)
	r.entries(11)
	r.answered(repeated(request(1, 2, 0)), kept)
	for range 2 {
		r.refused(repeated(request(2, 1, 0)), command.TooLate)
		r.reload()
	}
	r.sessions(10)
	r.fresh(request(2, 2, 0)) // client 3 goes
	r.refused(repeated(request(2, 1, 0)), command.TooLate)
	r.refused(repeated(request(3, 1, 0)), command.TooLate)
	if stats := r.table.Stats(); stats.Evicted != 1 || stats.TooLate != 2 { // since it was loaded
		t.Errorf("stats %+v", stats)
	}
	// By now a client would not repeat what it asked before its results were gone.
	r.clock += r.age()
	r.fresh(repeated(request(3, 1, 0)))
}

// That clients go which were silent for long leaves repeats of others alone.
func TestOldSessionsAreNoLoss(t *testing.T) {
	bounds := DefaultBounds()
	bounds.Sessions = 10
	r := newRig(t, bounds)
	for client := range uint64(10) {
		r.fresh(request(client+1, 1, 0))
	}
	r.clock += r.age()
	for client := range uint64(10) {
		r.fresh(repeated(request(client+100, 1, 0)))
	}
}

// A client with many results goes over several requests, and the bound holds then.
func TestBusySessionsAreEvicted(t *testing.T) {
	bounds := DefaultBounds()
	bounds.Sessions = 4
	r := newRig(t, bounds)
	for client := range uint64(4) {
		for seq := range uint64(50) {
			r.fresh(request(client+1, seq+1, 0))
		}
	}
	for client := range uint64(100) {
		r.fresh(request(client+100, 1, 0))
	}
	r.sessions(4)
	r.refused(repeated(request(1, 50, 0)), command.TooLate)
}

// A client that returns after it was forgotten must not have an earlier request
// applied again.
func TestReturnedClientRepeats(t *testing.T) {
	bounds := DefaultBounds()
	bounds.Sessions = 1
	r := newRig(t, bounds)
	r.fresh(request(7, 1, 0))
	r.fresh(request(8, 1, 0)) // client 7 goes
	r.fresh(request(7, 2, 0)) // and is back
	r.refused(repeated(request(7, 1, 0)), command.TooLate)
	r.fresh(request(7, 3, 0))
	r.clock += r.age()
	r.fresh(repeated(request(7, 4, 0)))
}

// While no client was forgotten, a repeat of an unknown client is a new request: its
// first attempt has not come here.
func TestRepeatOfWhatNeverCame(t *testing.T) {
	r := newRig(t, DefaultBounds())
	index := r.fresh(repeated(request(7, 3, 0)))
	r.answered(repeated(request(7, 3, 0)), index)
	r.fresh(repeated(request(7, 1, 0)))
}

// An operator may set the log's clock back: what is remembered stays so, and that
// clients were forgotten does not count for longer than it would have.
func TestClockSetBack(t *testing.T) {
	bounds := DefaultBounds()
	bounds.Sessions = 3
	r := newRig(t, bounds)
	r.clock += 1000 * r.age()
	for client := range uint64(4) {
		r.fresh(request(client+1, 1, 0))
	}
	r.clock = start
	r.fresh(request(4, 2, 0))
	r.answered(request(4, 1, 0), 4)
	r.refused(repeated(request(1, 1, 0)), command.TooLate)
	r.fresh(request(5, 1, 0)) // client 2, which is from the future, goes
	r.fresh(request(6, 1, 0))
	r.clock += r.age()
	r.fresh(repeated(request(1, 1, 0)))
}

func TestMismatch(t *testing.T) {
	r := newRig(t, DefaultBounds())
	r.fresh(request(7, 1, 0))
	other := request(7, 1, 0)
	other.Delta = 1
	r.refused(other, command.RequestMismatch)
	r.reload()
	r.refused(other, command.RequestMismatch)
}
