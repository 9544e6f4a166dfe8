package fsm

import (
	"errors"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/standby"
	"github.com/dkvdb/dkv/internal/storage"
)

// ended is a state that has all that a promotion ends: an owner, members, standbys, a format, a
// timing, slaves, a pause and a seal; and a branch at its end.
func ended(t failer) (*fixture, Branch) {
	x := newFixture(t)
	x.apply(setFormat(4), setStandbys("s", 0), setTiming("t", 0), member(1, "m"), putUntilCommand())
	x.one(command.OK, as(increment("n", 5), 7, 1, 0))
	x.apply(command.Command{Kind: command.SetSlave, Flag: true, Expect: command.Slave{Address: "h:1"}.Append(nil)})
	epoch := x.one(command.OK, begin(3, 1, 9)).Index
	x.apply(fenced(epoch, write(put("b", "2"))), fenced(epoch, pause(true)), fenced(epoch, sealFor("p")))
	id := x.m.Identity()
	return x, Branch{
		Former: id.History, End: x.m.Applied(), History: standby.History(1, "next"), Clock: x.m.Clock() + 500, Expired: 3,
	}
}

func putUntilCommand() command.Command { return write(put("a", "1"), putUntil("t", "1", 1000)) }

func fork(t *testing.T, engine storage.Engine, to Branch) {
	t.Helper()
	if err := Fork(engine, to); err != nil {
		t.Fatal(err)
	}
}

// The new history continues from the old one's end, with its keys, changes and requests, and
// without anything of its log.
func TestFork(t *testing.T) {
	x, to := ended(t)
	old := x.m
	data, records := dump(t, x.engine, storage.Data), len(dump(t, x.engine, storage.Changelog))
	fork(t, x.engine, to)
	x.restart()
	if id := x.m.Identity(); id.History != to.History || id.Cluster != old.Identity().Cluster {
		t.Errorf("identity %+v", id)
	}
	if l := x.m.Lineage(); len(l) != 1 || l[0] != (Former{History: to.Former, End: to.End}) || !x.m.Succeeds(to.Former) {
		t.Errorf("lineage %+v", l)
	}
	base := to.End + standby.Gap
	if x.m.Applied() != base || x.m.Base() != base || x.m.LastEffect() != old.LastEffect() || x.m.ChangelogFloor() != 1 {
		t.Errorf("at %d, base %d, newest change %d, floor %d", x.m.Applied(), x.m.Base(), x.m.LastEffect(), x.m.ChangelogFloor())
	}
	if x.m.Clock() != to.Clock || x.m.ExpiredTotal() != 3 || x.m.Paused() || x.m.Epoch() != (command.Epoch{}) {
		t.Errorf("clock %d, expired %d, paused %v, epoch %+v", x.m.Clock(), x.m.ExpiredTotal(), x.m.Paused(), x.m.Epoch())
	}
	x.wantSealed("")
	x.wantStandbys("", 0)
	x.wantTiming("", 0)
	x.wantFormat(command.FirstFormat)
	if slaves, err := x.m.Slaves(); len(slaves)+len(x.m.Members()) != 0 || err != nil {
		t.Errorf("slaves %+v, members %+v, %v", slaves, x.m.Members(), err)
	}
	if got := dump(t, x.engine, storage.Data); !samePairs(got, data) {
		t.Errorf("keys %q, were %q", got, data)
	}
	checkInvariants(t, x.m)
	if again := x.one(command.OK, as(increment("n", 5), 7, 1, 0)); again.Index != 6 || again.Counter != 5 {
		t.Errorf("a request of the old history came to %+v", again)
	}
	at := x.one(command.OK, write(put("c", "3"))).Index
	if at != base+2 {
		t.Errorf("the first change has number %d", at)
	}
	all, err := x.m.Changes(1, 0, 1<<20)
	if err != nil || len(all.Changes) != records+1 || all.Newest != at || len(all.Former) != 1 {
		t.Errorf("changes %+v, %v", all, err)
	}
	fork(t, x.engine, to) // a repeat does nothing to the log that has begun
	x.restart()
	if x.m.Applied() != at {
		t.Errorf("at %d after a repeat, was at %d", x.m.Applied(), at)
	}
}

// Numbers that a promotion has skipped are of no history.
func TestSkippedNumbers(t *testing.T) {
	x, to := ended(t)
	fork(t, x.engine, to)
	x.restart()
	at := x.one(command.OK, write(put("c", "3"))).Index
	for _, c := range []struct {
		from kv.Index
		ok   bool
	}{
		{to.End - 1, true}, {to.End + 1, true}, {to.End + 2, false}, {to.End + 100, false}, {to.End + standby.Gap, false},
		{to.End + standby.Gap + 1, true}, {at + 1, true},
	} {
		got, err := x.m.Changes(c.from, 0, 1<<20)
		if c.ok && (err != nil || c.from <= at && len(got.Changes) == 0) || !c.ok && kv.KindOf(err) != kv.OutOfRange {
			t.Errorf("changes from the end + %d: %+v, %v", c.from-to.End, got.Changes, err)
		}
		lost := c.from > to.End && c.from <= to.End+standby.Gap
		if x.m.Lost(c.from) != lost {
			t.Errorf("the end + %d: lost is %v", c.from-to.End, !lost)
		}
	}
}

// A state of another history, or at another index, is not forked, and stays as it is.
func TestForkRejectsOtherStates(t *testing.T) {
	x, to := ended(t)
	before := replicated(t, x.engine)
	for name, change := range map[string]func(*Branch){
		"history": func(b *Branch) { b.Former = "other" }, "below the end": func(b *Branch) { b.End++ }, "above the end": func(b *Branch) { b.End-- },
	} {
		other := to
		change(&other)
		if err := Fork(x.engine, other); !errors.Is(err, ErrDiverged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, other := range []Branch{{Former: to.Former, End: to.End}, {Former: to.Former, End: to.End, History: to.Former}} {
		if err := Fork(x.engine, other); err == nil {
			t.Errorf("%+v was forked", other)
		}
	}
	if !sameSpaces(replicated(t, x.engine), before) {
		t.Error("the state was changed")
	}
}

// A crash between any two steps, with the last write there or not, leaves a state that the
// repeated fork completes.
func TestForkAfterACrash(t *testing.T) {
	whole, to := ended(t)
	origin := copiedEngine(t, whole.m)
	fork(t, whole.engine, to)
	want := replicated(t, whole.engine)
	for fail := 1; ; fail++ {
		engine := copiedEngine(t, newMachine(t, origin))
		if err := Fork(&faulty{Engine: engine, failWrite: fail}, to); err == nil {
			if fail < 3 {
				t.Fatalf("only %d writes", fail-1)
			}
			break
		}
		for _, landed := range []bool{false, true} {
			engine := copiedEngine(t, newMachine(t, origin))
			if err := Fork(&faulty{Engine: engine, failWrite: fail, landed: landed}, to); !errors.Is(err, errInjected) {
				t.Fatal(err)
			}
			fork(t, engine, to)
			if got := replicated(t, engine); !sameSpaces(got, want) {
				t.Errorf("crash at write %d (landed %v): %q, want %q", fail, landed, got, want)
			}
		}
	}
}

// A slave and its founder hold the same bytes once both are forked and the slave has the
// founder's requests, and go on alike.
func TestForkedReplicasAgree(t *testing.T) {
	x, to := ended(t)
	slave := newMachine(t, copiedEngine(t, x.m)) // of an earlier state, as all that slaves hold
	at := x.one(command.OK, unseal("p")).Index
	epoch := x.m.Epoch().ID
	x.apply(fenced(epoch, pause(false)), as(fenced(epoch, write(put("late", "1"))), 8, 1, 0), fenced(epoch, expire(1000, "t")))
	changes, err := x.m.Changes(at, 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := slave.Replicate(changes.Changes, changes.Newest, false); err != nil {
		t.Fatal(err)
	}
	to.End, to.Clock, to.Expired = x.m.Applied(), x.m.Clock(), x.m.ExpiredTotal()
	imported := ImportRequests(slave.engine)
	if err := x.m.ExportRequests(t.Context(), imported.Add); err != nil {
		t.Fatal(err)
	}
	if err := imported.Finish(); err != nil {
		t.Fatal(err)
	}
	fork(t, x.engine, to)
	fork(t, slave.engine, to)
	x.restart()
	other := &fixture{failer: t, engine: slave.engine, m: newMachine(t, slave.engine), clock: x.clock}
	for _, c := range []command.Command{as(write(put("late", "1")), 8, 1, 0), begin(1, 2, 3), member(2, "m")} {
		if a, b := x.apply(c)[0], other.apply(c)[0]; a.Index != b.Index || a.Code != b.Code {
			t.Errorf("%v came to %+v and %+v", c.Kind, a, b)
		}
	}
	if a, b := replicated(t, x.engine), replicated(t, other.engine); !sameSpaces(a, b) {
		t.Errorf("they differ:\n%q\n%q", a, b)
	}
}

// The import replaces what was there, and rejects what is no request.
func TestImportRequests(t *testing.T) {
	x := newFixture(t)
	x.one(command.OK, as(write(put("a", "1")), 7, 1, 0))
	i := ImportRequests(x.engine)
	for _, bad := range [][]byte{{1}, record(storage.Data, "request/x", []byte("1")), record(storage.Meta, "state", []byte("1"))} {
		if err := i.Add(bad); !errors.Is(err, ErrBadSnapshot) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if err := ImportRequests(x.engine).Finish(); err != nil {
		t.Fatal(err)
	}
	x.restart()
	if !x.m.requests.Empty() {
		t.Error("the earlier requests are still there")
	}
	if err := ImportRequests(x.engine).Add(record(storage.Meta, "request/12345678", []byte{1})); err != nil {
		t.Fatal(err)
	}
	if err := ImportRequests(x.engine).Finish(); err != nil {
		t.Errorf("an import that replaces a broken one: %v", err)
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
	elsewhere.History = standby.History(1, "another")
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
			b.Put(space, []byte(p.key), []byte(p.value))
		}
	}
	if err := engine.Write(&b, true); err != nil {
		t.Fatal(err)
	}
	return &fixture{failer: t, engine: engine, m: newMachine(t, engine), clock: x.clock}
}

func copiedForked(t *testing.T, to Branch) *fixture {
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
	new(changelog.Writer).Append(&b, c, 0)
	if err := x.engine.Write(&b, true); err != nil {
		t.Fatal(err)
	}
}
