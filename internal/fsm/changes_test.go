package fsm

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// A slave that becomes the master answers a repeat of a request with the first result, if
// that had an effect.
func TestSlaveRemembersTheRequestsOfChanges(t *testing.T) {
	x := newFixture(t)
	slave := newMachine(t, copiedEngine(t, x.m))
	x.apply(write(put("free", "1")), as(increment("n", 5), 7, 1, 0), as(cas("no", put("a", "1")), 7, 2, 1), as(increment("n", 2), 7, 3, 2))
	changes, err := x.m.Changes(1, 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{false, true, true} {
		if has := changes.Changes[i].Request != nil; has != want {
			t.Errorf("change %d has a request: %v", changes.Changes[i].Index, has)
		}
	}
	if err := slave.Replicate(changes.Changes, changes.Newest, false); err != nil {
		t.Fatal(err)
	}
	s := &fixture{failer: t, engine: slave.engine, m: slave, clock: x.clock}
	for range 2 {
		checkInvariants(t, s.m)
		again := s.apply(as(increment("n", 5), 7, 3, 2), as(increment("n", 2), 7, 3, 2), as(increment("n", 5), 7, 1, 0), write(put("b", "1")))
		if again[0].Code != command.RequestMismatch || again[1].Index != 4 || again[1].Counter != 7 || again[2].Code != command.StaleRequest {
			t.Errorf("repeats came to %+v", again)
		}
		s.restart()
	}
	s.expect("n", []byte(counter(7)))
}

// Members of an older release could not read such records in a snapshot.
func TestRequestsOfChangesNeedTheFormat(t *testing.T) {
	x := newFixture(t)
	epoch := x.one(command.OK, begin(1, 1, 1)).Index
	recorded := func(sequence uint64) bool {
		t.Helper()
		at := x.one(command.OK, as(fenced(epoch, write(put("a", "1"))), 7, sequence, 0)).Index
		changes, err := x.m.Changes(at, 0, 1<<20)
		if err != nil || len(changes.Changes) != 1 {
			t.Fatal(changes, err)
		}
		return changes.Changes[0].Request != nil
	}
	if recorded(1) {
		t.Error("recorded in the first format")
	}
	x.one(command.OK, fenced(epoch, setFormat(requestFormat)))
	if !recorded(2) {
		t.Error("not recorded in a format that has it")
	}
}

// Nor could they read a record of several changes. A standalone node's batch is one record.
func TestSharedRecordsNeedTheFormat(t *testing.T) {
	records := func(x *fixture) int { return len(dump(t, x.engine, storage.Changelog)) }
	puts := func(fence kv.Index) []command.Command {
		var out []command.Command
		for range 5 {
			out = append(out, fenced(fence, write(put("a", "1"))))
		}
		return out
	}
	alone := newFixture(t)
	if alone.apply(puts(0)...); records(alone) != 1 {
		t.Errorf("%d records without a format", records(alone))
	}
	x := newFixture(t)
	epoch := x.one(command.OK, begin(1, 1, 1)).Index
	x.one(command.OK, fenced(epoch, setFormat(sharedFormat-1)))
	if x.apply(puts(epoch)...); records(x) != 5 {
		t.Errorf("%d records in the format before", records(x))
	}
	if x.apply(slices.Concat(puts(epoch), []command.Command{fenced(epoch, setFormat(sharedFormat))}, puts(epoch))...); records(x) != 5+5+1 {
		t.Errorf("%d records with the batch that raises the format", records(x))
	}
	from := newFixture(t)
	if err := from.m.Replicate(allChanges(t, x.m), x.m.Applied(), false); err != nil || records(from) != 1 {
		t.Errorf("%d records of a slave without a format, %v", records(from), err)
	}
	checkInvariants(t, x.m)
}

func allChanges(t *testing.T, m *Machine) []kv.Change {
	t.Helper()
	changes, err := m.Changes(m.ChangelogFloor(), 0, math.MaxInt)
	if err != nil {
		t.Fatal(err)
	}
	return changes.Changes
}

// A trim may end within a record: what is below the floor is then not shown any more.
func TestTrimWithinARecord(t *testing.T) {
	x := newFixture(t)
	var puts []command.Command
	for i := range 10 {
		puts = append(puts, write(put("a", fmt.Sprint(i))))
	}
	x.apply(puts...)
	x.apply(write(put("b", "1")))
	before, each := allChanges(t, x.m), x.m.state.Logged/11
	x.trim(changelog.Retention{MaxBytes: 4 * each})
	for range 2 {
		if floor := x.m.ChangelogFloor(); floor != 8 {
			t.Fatalf("floor %d, want 8", floor)
		}
		if got := allChanges(t, x.m); !reflect.DeepEqual(got, before[7:]) {
			t.Errorf("changes %+v, want %+v", got, before[7:])
		}
		if got, err := x.m.Changes(9, 2, math.MaxInt); err != nil || !reflect.DeepEqual(got.Changes, before[8:10]) {
			t.Errorf("two from 9 on: %+v, %v", got.Changes, err)
		}
		if _, err := x.m.Changes(7, 0, math.MaxInt); kv.KindOf(err) != kv.OutOfRange {
			t.Errorf("from below the floor: %v", err)
		}
		if n, err := x.m.ChangelogBytes(); err != nil || n != 4*each {
			t.Errorf("%d bytes, %v, want %d", n, err, 4*each)
		}
		x.restart()
	}
	x.trim(changelog.Retention{MaxBytes: each})
	if n := len(dump(t, x.engine, storage.Changelog)); n != 1 || x.m.ChangelogFloor() != 11 {
		t.Errorf("%d records, floor %d", n, x.m.ChangelogFloor())
	}
}

// The format that a batch raises counts in the rest of it: another member may have applied the same
// entries in two batches, and its records are the same.
func TestFormatCountsWithinABatch(t *testing.T) {
	var records [2]kv.Change
	for i := range records {
		x := newFixture(t)
		epoch := x.one(command.OK, begin(1, 1, 1)).Index
		raise, put := fenced(epoch, setFormat(requestFormat)), as(fenced(epoch, write(put("a", "1"))), 7, 1, 0)
		if i == 0 {
			x.apply(raise)
			x.apply(put)
		} else {
			x.apply(raise, put)
		}
		changes, err := x.m.Changes(x.m.Applied(), 0, 1<<20)
		if err != nil || len(changes.Changes) != 1 || changes.Changes[0].Request == nil {
			t.Fatalf("in %d batches: %+v, %v", 2-i, changes, err)
		}
		records[i] = changes.Changes[0]
	}
	if !reflect.DeepEqual(records[0], records[1]) {
		t.Errorf("the records differ: %+v and %+v", records[0], records[1])
	}
}

// A change in several parts brings its request with the last of them.
func TestLargeChangeBringsItsRequest(t *testing.T) {
	x := newFixture(t)
	request := &kv.ChangeRequest{ID: kv.RequestID{Client: 7, Sequence: 1}, Fingerprint: 9, Counter: 3}
	c := kv.Change{Index: 3, Clock: start, Mutations: []kv.Mutation{put("a", "1"), put("b", "1")}, Request: request}
	if err := x.m.Replicate([]kv.Change{c}, 3, false); err != nil {
		t.Fatal(err)
	}
	checkInvariants(t, x.m)
	if bytes, ops := ReplicaCost(&c); bytes < 2*mutationOverhead || ops < 2*mutationOps+3 {
		t.Errorf("costs %d bytes, %d operations", bytes, ops)
	}
	if got := x.m.Requests().Entries; got != 1 {
		t.Errorf("%d requests", got)
	}
}

// The newest change is known after each batch and after a restart. If it is no longer
// retained, what is said is not below it.
func TestLastEffect(t *testing.T) {
	x := newFixture(t)
	want := func(what string, at kv.Index) {
		t.Helper()
		if got := x.m.LastEffect(); got != at {
			t.Errorf("%s: %d, want %d", what, got, at)
		}
	}
	want("empty", 0)
	x.apply(write(put("a", "1")), cas("2", put("a", "3")), pause(true), pause(false))
	want("a change, and entries without effect", 1)
	x.restart()
	want("opened again", 1)
	x.apply(write(put("a", "2")), write(put("b", "1")), cas("9", put("b", "3")))
	want("two changes", 6)
	x.clock += 10_000_000
	x.apply(command.Command{Kind: command.Tick})
	if _, err := x.m.TrimChangelog(changelog.Retention{MaxAge: time.Second}); err != nil {
		t.Fatal(err)
	}
	want("trimmed", 6)
	x.restart()
	if got := x.m.LastEffect(); got < 6 || got > x.m.Applied() {
		t.Errorf("%d after a trim and a restart, the newest change is 6 and the state at %d", got, x.m.Applied())
	}

	slave := newMachine(t, copiedEngine(t, x.m))
	at := x.m.Applied()
	if got := slave.LastEffect(); got != at {
		t.Errorf("%d in a copy at %d", got, at)
	}
	for _, c := range []kv.Change{{Index: at + 2, Mutations: []kv.Mutation{put("c", "1")}}, {Index: at + 5}} {
		if err := slave.Replicate([]kv.Change{c}, c.Index+1, false); err != nil {
			t.Fatal(err)
		}
	}
	if got := slave.LastEffect(); got != at+2 {
		t.Errorf("%d after changes that were replicated, want %d", got, at+2)
	}
}

// While keys expire, readers see of an entry without a change that it has moved the log's clock
// into another second. After a restart each entry may have.
func TestLastEffectFollowsTheClock(t *testing.T) {
	x := newFixture(t)
	step := func(what string, later kv.Clock, c command.Command, counts bool) {
		t.Helper()
		x.clock += later
		want := x.m.LastEffect()
		x.apply(c)
		if counts {
			want = x.m.Applied()
		}
		if got := x.m.LastEffect(); got != want {
			t.Errorf("%s: %d, want %d", what, got, want)
		}
	}
	step("a change", 0, write(put("a", "1")), true)
	step("a tick while no key expires", clockOf(5), tick(), false)
	step("a key that expires", 0, write(putUntil("t", "1", 100)), true)
	step("a tick within the second", 999, tick(), false)
	step("a tick into the next one", 1, tick(), true)
	step("a tick of an earlier clock", 0, command.Command{Kind: command.Tick, Clock: start}, false)
	step("a mutation without an effect", clockOf(1), cas("no", put("a", "2")), true)
	step("the same again", 0, cas("no", put("a", "2")), false)
	step("an expiry of nothing", clockOf(1), expire(1), true)
	step("a pause", clockOf(1), pause(true), false)
	step("a mutation that is rejected", 0, write(put("a", "2")), true)
	step("the end of the pause", clockOf(1), pause(false), false)
	step("a clock that is set back", 0, setClock(start), true)
	step("a pause", 0, pause(true), false)
	x.restart()
	if got := x.m.LastEffect(); got != x.m.Applied() {
		t.Errorf("%d after a restart at %d", got, x.m.Applied())
	}
	x.apply(pause(false))
	step("the key is deleted", 0, write(del("t")), true)
	step("a tick while no key expires any more", clockOf(1), tick(), false)
	last := x.m.LastEffect()
	x.restart()
	if got := x.m.LastEffect(); got != last {
		t.Errorf("%d after a restart while no key expires, want %d", got, last)
	}
}
