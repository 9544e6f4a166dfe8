package fsm

import (
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/fsm/history"
	"github.com/dkvdb/dkv/internal/fsm/offline"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// A state knows the histories whose place its own has taken, over restarts, snapshots and
// restores; the oldest are forgotten, and those of a backup are none of them.
func TestLineage(t *testing.T) {
	x := newFixture(t)
	var former []string
	for range history.MaxLineage + 2 {
		former = append(former, x.m.Identity().History)
		backup := newFixture(t)
		stranger := backup.m.Identity().History
		if err := offline.KeepLineage(backup.engine, backup.m.Identity().History, backup.m.Lineage()); err != nil {
			t.Fatal(err)
		}
		if err := offline.Rebase(t.Context(), backup.engine, x.m.Identity(), x.m.Applied()+1, false); err != nil {
			t.Fatal(err)
		}
		if err := offline.KeepLineage(backup.engine, x.m.Identity().History, x.m.Lineage()); err != nil {
			t.Fatal(err)
		}
		backup.restart()
		if x = backup; x.m.Succeeds(stranger) {
			t.Fatal("the history of a backup is taken for a former one")
		}
	}
	for _, m := range []*Machine{x.m, newMachine(t, copiedEngine(t, x.m))} {
		for i, h := range former {
			if got, want := m.Succeeds(h), i >= 2; got != want {
				t.Errorf("it succeeds history %d of %d: %v", i, len(former), got)
			}
		}
		if m.Succeeds(m.Identity().History) || len(m.Lineage()) != history.MaxLineage {
			t.Errorf("%d histories before its own", len(m.Lineage()))
		}
	}
}

// A copy at or below the end takes over the new history, durably, and its changes; one above,
// or of a history that is no part of it, stays what it is.
func TestAdopt(t *testing.T) {
	x, to := ended(t)
	behind := copiedState(t, x)
	for range 2 {
		behind.restart()
	}
	ahead := copiedState(t, x)
	change := kv.Change{Index: to.End + 1, Clock: x.clock, Mutations: []kv.Mutation{{Key: []byte("lost"), Value: []byte("1")}}}
	if err := ahead.m.Replicate([]kv.Change{change}, to.End+1, false); err != nil {
		t.Fatal(err)
	}
	fork(t, x.engine, to)
	x.restart()
	at := x.one(0, write(put("new", "1"))).Index
	lineage := x.m.Lineage()

	if err := ahead.m.Adopt(to.History, lineage); !errors.Is(err, ErrElsewhere) || ahead.m.Identity().History != to.Former {
		t.Errorf("above the end: %v", err)
	}
	if err := newFixture(t).m.Adopt(to.History, lineage); !errors.Is(err, ErrElsewhere) {
		t.Errorf("of another history: %v", err)
	}
	if err := x.m.Adopt(to.Former, nil); !errors.Is(err, ErrElsewhere) || x.m.Identity().History != to.History {
		t.Errorf("back to a former history: %v", err)
	}
	for range 2 {
		if err := behind.m.Adopt(to.History, lineage); err != nil {
			t.Fatal(err)
		}
		if got := behind.m.Identity(); got != x.m.Identity() || !reflect.DeepEqual(behind.m.Lineage(), lineage) {
			t.Errorf("identity %+v, lineage %v", got, behind.m.Lineage())
		}
		behind.restart()
	}
	changes, err := x.m.Changes(behind.m.Applied()+1, 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := behind.m.Replicate(changes.Changes, changes.Newest, false); err != nil {
		t.Fatal(err)
	}
	behind.expect("new", []byte("1"))
	if behind.m.Applied() != at || at != to.End+era.Gap+1 || !behind.m.Lost(to.End+1) {
		t.Errorf("at %d, the master is at %d", behind.m.Applied(), at)
	}
}

// A copy without any change goes on in the history of a promotion that found none either, which the
// lineage has no end of.
func TestAdoptFromTheBeginning(t *testing.T) {
	x := newFixture(t)
	copied := copiedState(t, x)
	to := offline.Branch{Former: x.m.Identity().History, History: era.History(1, "next")}
	fork(t, x.engine, to)
	x.restart()
	at := x.one(0, write(put("new", "1"))).Index
	if err := copied.m.Adopt(to.History, x.m.Lineage()); err != nil {
		t.Fatal(err)
	}
	changes, err := x.m.Changes(1, 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := copied.m.Replicate(changes.Changes, changes.Newest, false); err != nil {
		t.Fatal(err)
	}
	copied.expect("new", []byte("1"))
	if copied.m.Applied() != at {
		t.Errorf("at %d, the master is at %d", copied.m.Applied(), at)
	}
}

// A copy that is above the end by entries without an effect goes behind the skipped indexes with the
// write that makes it one of the new history. An earlier release did so before, so that its copies may
// be there already. One that is further has entries of another history.
func TestAdoptAboveTheEnd(t *testing.T) {
	x, to := ended(t)
	lineage := []Former{{History: to.Former, End: to.End}}
	for at, ok := range map[kv.Index]bool{
		to.End + 1: true, to.End + era.Gap - 1: true, to.End + era.Gap: true, to.End + era.Gap + 1: false,
	} {
		above := copiedState(t, x)
		if err := above.m.Replicate(nil, at, false); err != nil {
			t.Fatal(err)
		}
		is := func(history string, applied kv.Index) {
			t.Helper()
			above.restart()
			if above.m.Identity().History != history || above.m.Applied() != applied || above.m.Lost(to.End+1) != (history == to.History) {
				t.Errorf("from the end + %d: it is at the end + %d of history %s", at-to.End, above.m.Applied()-to.End, above.m.Identity().History)
			}
		}
		if !ok {
			if err := above.m.Adopt(to.History, lineage); !errors.Is(err, ErrElsewhere) {
				t.Errorf("from the end + %d: %v", at-to.End, err)
			}
			is(to.Former, at)
			continue
		}
		if err := newMachine(t, &faulty{Engine: above.engine, FailWrite: 1}).Adopt(to.History, lineage); !errors.Is(err, errInjected) {
			t.Errorf("from the end + %d: %v", at-to.End, err)
		}
		is(to.Former, at)
		if err := newMachine(t, &faulty{Engine: above.engine, FailWrite: 2}).Adopt(to.History, lineage); err != nil {
			t.Errorf("from the end + %d: %v", at-to.End, err)
		}
		is(to.History, to.End+era.Gap)
	}
}

// beforeAdoption returns a state that is about to adopt the history that follows its own, with its
// engine.
func beforeAdoption(t *testing.T) (*Machine, *observed, offline.Branch) {
	t.Helper()
	x, to := ended(t)
	above := copiedState(t, x)
	if err := above.m.Replicate(nil, to.End+1, false); err != nil {
		t.Fatal(err)
	}
	engine := &observed{Engine: above.engine}
	m := newMachine(t, engine)
	return m, engine, to
}

// What is read between the write of an adoption and its end is of one history too: the index behind
// the skipped ones is not told as one of the former history.
func TestChangesWhileAdopting(t *testing.T) {
	m, engine, to := beforeAdoption(t)
	lineage := []Former{{History: to.Former, End: to.End}}
	reads := 0
	engine.written = func() {
		reads++
		c, err := m.Changes(to.End+era.Gap+1, 0, 1)
		if err != nil || c.Newest != to.End+era.Gap || c.History != to.History || !slices.Equal(c.Former, lineage) {
			t.Errorf("the end + %d of history %s after %v, %v", c.Newest-to.End, c.History, c.Former, err)
		}
		c, err = m.Changes(to.End+2, 0, 1)
		if kv.KindOf(err) != kv.OutOfRange || c.History != to.History || !slices.Equal(c.Former, lineage) {
			t.Errorf("a number that was skipped, of history %s after %v: %v", c.History, c.Former, err)
		}
	}
	if err := m.Adopt(to.History, lineage); err != nil || reads != 1 {
		t.Errorf("%v, %d reads", err, reads)
	}
}

// A state that was pinned before an adoption keeps its history, also if that ends before it is read.
func TestViewOfBeforeAnAdoption(t *testing.T) {
	m, engine, to := beforeAdoption(t)
	before, err := m.View()
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	engine.viewed = func() {
		engine.viewed = nil
		if err := m.Adopt(to.History, []Former{{History: to.Former, End: to.End}}); err != nil {
			t.Fatal(err)
		}
	}
	if c, err := m.Changes(to.End+2, 0, 1); err != nil || c.Newest != to.End+1 || c.History != to.Former || len(c.Former) != 0 {
		t.Errorf("changes up to the end + %d of history %s after %v, %v", c.Newest-to.End, c.History, c.Former, err)
	}
	if before.Index() != to.End+1 || before.Identity().History != to.Former || m.Identity().History != to.History {
		t.Errorf("a view at the end + %d is of history %s", before.Index()-to.End, before.Identity().History)
	}
}

// observed calls written after each write, and viewed after a state was pinned.
type observed struct {
	storage.Engine
	written, viewed func()
}

func (o *observed) Write(b *storage.Batch, sync bool) error {
	err := o.Engine.Write(b, sync)
	if o.written != nil {
		o.written()
	}
	return err
}

func (o *observed) NewView() (storage.View, error) {
	v, err := o.Engine.NewView()
	if o.viewed != nil {
		o.viewed()
	}
	return v, err
}

// What storage did not take is not adopted.
func TestAdoptFails(t *testing.T) {
	x, to := ended(t)
	m := newMachine(t, &faulty{Engine: x.engine, FailWrite: 1})
	if err := m.Adopt(to.History, []Former{{History: to.Former, End: to.End}}); !errors.Is(err, errInjected) || m.Identity().History != to.Former {
		t.Errorf("%v, history %s", err, m.Identity().History)
	}
}

// ended is a state that has all that a promotion ends: an owner, members, standbys, a format, a
// timing, slaves, a pause and a seal; and a branch at its end.
func ended(t failer) (*fixture, offline.Branch) {
	x := newFixture(t)
	x.apply(setFormat(4), setStandbys("s", 0), setTiming("t", 0), member(1, "m"), putUntilCommand())
	x.one(command.OK, as(increment("n", 5), 7, 1, 0))
	x.apply(command.Command{Kind: command.SetSlave, Flag: true, Expect: command.Slave{Address: "h:1"}.Append(nil)})
	epoch := x.one(command.OK, begin(3, 1, 9)).Index
	x.apply(fenced(epoch, write(put("b", "2"))), fenced(epoch, pause(true)), fenced(epoch, sealFor("p")))
	id := x.m.Identity()
	return x, offline.Branch{
		Former: id.History, End: x.m.Applied(), History: era.History(1, "next"), Clock: x.m.Clock() + 500, Expired: 3,
	}
}

func putUntilCommand() command.Command { return write(put("a", "1"), putUntil("t", "1", 1000)) }

func fork(t *testing.T, engine storage.Engine, to offline.Branch) {
	t.Helper()
	if err := offline.Fork(engine, to); err != nil {
		t.Fatal(err)
	}
}

// Numbers that a promotion has skipped are of no history.
func TestSkippedNumbers(t *testing.T) {
	x, to := ended(t)
	fork(t, x.engine, to)
	x.restart()
	if first := x.m.Applied(); first != to.End+era.Gap || x.m.Lost(first) {
		t.Errorf("the state begins at the end + %d; is that lost? %v", first-to.End, x.m.Lost(first))
	}
	at := x.one(command.OK, write(put("c", "3"))).Index
	for _, c := range []struct {
		from kv.Index
		ok   bool
	}{
		{to.End - 1, true}, {to.End + 1, true}, {to.End + 2, false}, {to.End + 100, false}, {to.End + era.Gap, false},
		{to.End + era.Gap + 1, true}, {at + 1, true},
	} {
		got, err := x.m.Changes(c.from, 0, 1<<20)
		if c.ok && (err != nil || c.from <= at && len(got.Changes) == 0) || !c.ok && kv.KindOf(err) != kv.OutOfRange {
			t.Errorf("changes from the end + %d: %+v, %v", c.from-to.End, got.Changes, err)
		}
		lost := c.from > to.End && c.from < to.End+era.Gap
		if x.m.Lost(c.from) != lost {
			t.Errorf("the end + %d: lost is %v", c.from-to.End, !lost)
		}
	}
}

// The first epoch keeps out a replica with another state, and no later one does.
func TestOriginOfAForkedLog(t *testing.T) {
	first, to := ended(t)
	same := copiedState(t, first)
	other := copiedState(t, first)
	replaceLastChange(t, other)
	fork(t, first.engine, to)
	first.restart()
	origin, err := first.m.Origin()
	if err != nil || origin == nil || origin.History != to.History || origin.End != to.End || origin.Digest == 0 {
		t.Fatalf("origin %+v, %v", origin, err)
	}
	founding := begin(1, 1, 5)
	founding.Begin.Origin = origin
	for _, x := range []*fixture{first, same} {
		if x == same {
			fork(t, x.engine, to)
			x.restart()
		}
		x.one(command.OK, founding)
		if again, err := x.m.Origin(); again != nil || err != nil {
			t.Errorf("origin %+v (%v) of a log with an epoch", again, err)
		}
		later := begin(2, 2, 5)
		later.Begin.Origin = &command.Origin{History: "another"} // its proposer had not applied the first
		x.one(command.OK, later)
	}
	elsewhere := to
	elsewhere.History = era.History(1, "another")
	for name, x := range map[string]*fixture{"last change": other, "history": copiedForked(t, elsewhere), "no promotion": newFixture(t)} {
		if name == "last change" {
			fork(t, x.engine, to)
			x.restart()
		}
		err := x.m.Apply([]Entry{{Index: x.m.Applied() + 1, Command: &founding}}, make([]command.Result, 1), false)
		if !errors.Is(err, ErrDiverged) {
			t.Errorf("another %s: %v", name, err)
		}
	}
}

// A change that a replica no longer retains is not compared.
func TestOriginWithoutAChange(t *testing.T) {
	x, to := ended(t)
	fork(t, x.engine, to)
	x.restart()
	origin, _ := x.m.Origin()
	x.clock += 1 << 40
	x.apply(command.Command{Kind: command.Tick})
	for more := true; more; {
		var err error
		if more, err = x.m.TrimChangelog(changelog.Retention{MaxAge: time.Second}); err != nil {
			t.Fatal(err)
		}
	}
	if o, err := x.m.Origin(); err != nil || o.Digest != 0 || o.End != to.End {
		t.Fatalf("origin %+v, %v", o, err)
	}
	founding := begin(1, 1, 5)
	founding.Begin.Origin = origin
	x.one(command.OK, founding)
}

// copiedState is another replica with the state and the changes of x.
func copiedState(t *testing.T, x *fixture) *fixture {
	t.Helper()
	engine := openMemory(t)
	var b storage.Batch
	for space := range storage.Space(storage.Spaces) {
		for _, p := range dump(t, x.engine, space) {
			b.Put(space, []byte(p.Key), []byte(p.Value))
		}
	}
	if err := engine.Write(&b, true); err != nil {
		t.Fatal(err)
	}
	return &fixture{failer: t, engine: engine, m: newMachine(t, engine), clock: x.clock}
}

func copiedForked(t *testing.T, to offline.Branch) *fixture {
	t.Helper()
	x, own := ended(t)
	own.History = to.History
	fork(t, x.engine, own)
	x.restart()
	return x
}

// replaceLastChange makes the newest change record that of another mutation.
func replaceLastChange(t *testing.T, x *fixture) {
	t.Helper()
	c, _, err := x.m.LastChange()
	if err != nil {
		t.Fatal(err)
	}
	c.Mutations = []kv.Mutation{put("b", "3")}
	var b storage.Batch
	var w changelog.Writer
	w.Append(&b, c, 0)
	w.Flush(&b)
	if err := x.engine.Write(&b, true); err != nil {
		t.Fatal(err)
	}
}
