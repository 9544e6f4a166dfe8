package offline

import (
	"errors"
	"testing"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/fsm/chunks"
	"github.com/dkvdb/dkv/internal/fsm/fsmtest"
	"github.com/dkvdb/dkv/internal/fsm/history"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// ended is a state that has all that a promotion ends: an owner, members, standbys, a format, a
// timing, slaves, a pause and a seal; and a branch at its end.
func ended(t fsmtest.T) (*fixture, Branch) {
	x := newFixture(t)
	x.apply(fsmtest.SetFormat(4), fsmtest.SetStandbys("s", 0), fsmtest.SetTiming("t", 0), fsmtest.Member(1, "m"), putUntilCommand())
	x.one(command.OK, fsmtest.As(fsmtest.Increment("n", 5), 7, 1, 0))
	x.apply(command.Command{Kind: command.SetSlave, Flag: true, Expect: command.Slave{Address: "h:1"}.Append(nil)})
	epoch := x.one(command.OK, fsmtest.Begin(3, 1, 9)).Index
	x.apply(fsmtest.Fenced(epoch, fsmtest.Write(fsmtest.Put("b", "2"))), fsmtest.Fenced(epoch, fsmtest.Pause(true)), fsmtest.Fenced(epoch, fsmtest.Seal("p")))
	id := x.m.Identity()
	return x, Branch{
		Former: id.History, End: x.m.Applied(), History: era.History(1, "next"), Clock: x.m.Clock() + 500, Expired: 3,
	}
}

func putUntilCommand() command.Command {
	return fsmtest.Write(fsmtest.Put("a", "1"), fsmtest.PutUntil("t", "1", 1000))
}

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
	last, err := old.LastDigest()
	if err != nil || last == 0 {
		t.Fatal(last, err)
	}
	data, records := fsmtest.Dump(t, x.engine, storage.Data), len(fsmtest.Dump(t, x.engine, storage.Changelog))
	fork(t, x.engine, to)
	x.restart()
	if id := x.m.Identity(); id.History != to.History || id.Cluster != old.Identity().Cluster {
		t.Errorf("identity %+v", id)
	}
	if l := x.m.Lineage(); len(l) != 1 || l[0] != (history.Former{History: to.Former, End: to.End}) || !x.m.Succeeds(to.Former) {
		t.Errorf("lineage %+v", l)
	}
	base := to.End + era.Gap
	if now, err := x.m.LastDigest(); now != last || err != nil {
		t.Errorf("the newest change has the digest %x, had %x, %v", now, last, err)
	}
	if x.m.Applied() != base || x.m.Base() != base || x.m.ChangelogFloor() != 1 {
		t.Errorf("at %d, base %d, floor %d", x.m.Applied(), x.m.Base(), x.m.ChangelogFloor())
	}
	if x.m.Clock() != to.Clock || x.m.ExpiredTotal() != 3 || x.m.Paused() || x.m.Epoch() != (command.Epoch{}) {
		t.Errorf("clock %d, expired %d, paused %v, epoch %+v", x.m.Clock(), x.m.ExpiredTotal(), x.m.Paused(), x.m.Epoch())
	}
	_, timed := x.m.Timing()
	_, awaited := x.m.Standbys()
	if x.m.Sealed() != "" || timed+awaited != 0 || x.m.Format() != command.FirstFormat {
		t.Errorf("sealed for %q, timing of %d, standbys of %d, format %d", x.m.Sealed(), timed, awaited, x.m.Format())
	}
	if slaves, err := x.m.Slaves(); len(slaves)+len(x.m.Members()) != 0 || err != nil {
		t.Errorf("slaves %+v, members %+v, %v", slaves, x.m.Members(), err)
	}
	if got := fsmtest.Dump(t, x.engine, storage.Data); !fsmtest.SamePairs(got, data) {
		t.Errorf("keys %q, were %q", got, data)
	}
	checkExpiry(t, x.engine)
	if again := x.one(command.OK, fsmtest.As(fsmtest.Increment("n", 5), 7, 1, 0)); again.Index != 6 || again.Counter != 5 {
		t.Errorf("a request of the old history came to %+v", again)
	}
	at := x.one(command.OK, fsmtest.Write(fsmtest.Put("c", "3"))).Index
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

// A state of another history, or at another index, is not forked, and stays as it is.
func TestForkRejectsOtherStates(t *testing.T) {
	x, to := ended(t)
	before := fsmtest.Replicated(t, x.engine)
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
	if !fsmtest.Same(fsmtest.Replicated(t, x.engine), before) {
		t.Error("the state was changed")
	}
}

// A crash between any two steps, with the last write there or not, leaves a state that the
// repeated fork completes.
func TestForkAfterACrash(t *testing.T) {
	whole, to := ended(t)
	origin := whole.copied(t)
	fork(t, whole.engine, to)
	want := fsmtest.Replicated(t, whole.engine)
	for fail := 1; ; fail++ {
		engine := origin.copied(t).engine
		if err := Fork(&fsmtest.Faulty{Engine: engine, FailWrite: fail}, to); err == nil {
			if fail < 3 {
				t.Fatalf("only %d writes", fail-1)
			}
			break
		}
		for _, landed := range []bool{false, true} {
			engine := origin.copied(t).engine
			if err := Fork(&fsmtest.Faulty{Engine: engine, FailWrite: fail, Landed: landed}, to); !errors.Is(err, fsmtest.ErrInjected) {
				t.Fatal(err)
			}
			fork(t, engine, to)
			if got := fsmtest.Replicated(t, engine); !fsmtest.Same(got, want) {
				t.Errorf("crash at write %d (landed %v): %q, want %q", fail, landed, got, want)
			}
		}
	}
}

// A slave and its founder hold the same bytes once both are forked and the slave has the
// founder's requests, and go on alike.
func TestForkedReplicasAgree(t *testing.T) {
	x, to := ended(t)
	slave := x.copied(t) // of an earlier state, as all that slaves hold
	at := x.one(command.OK, fsmtest.Unseal("p")).Index
	epoch := x.m.Epoch().ID
	x.apply(fsmtest.Fenced(epoch, fsmtest.Pause(false)), fsmtest.As(fsmtest.Fenced(epoch, fsmtest.Write(fsmtest.Put("late", "1"))), 8, 1, 0), fsmtest.Fenced(epoch, fsmtest.Expire(1000, "t")))
	changes, err := x.m.Changes(at, 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := slave.m.Replicate(changes.Changes, changes.Newest, false); err != nil {
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
	slave.restart()
	for _, c := range []command.Command{fsmtest.As(fsmtest.Write(fsmtest.Put("late", "1")), 8, 1, 0), fsmtest.Begin(1, 2, 3), fsmtest.Member(2, "m")} {
		if a, b := x.apply(c)[0], slave.apply(c)[0]; a.Index != b.Index || a.Code != b.Code {
			t.Errorf("%v came to %+v and %+v", c.Kind, a, b)
		}
	}
	if a, b := fsmtest.Replicated(t, x.engine), fsmtest.Replicated(t, slave.engine); !fsmtest.Same(a, b) {
		t.Errorf("they differ:\n%q\n%q", a, b)
	}
}

// The import replaces what was there, and rejects what is no request.
func TestImportRequests(t *testing.T) {
	x := newFixture(t)
	x.one(command.OK, fsmtest.As(fsmtest.Write(fsmtest.Put("a", "1")), 7, 1, 0))
	i := ImportRequests(x.engine)
	for _, bad := range [][]byte{{1}, record(storage.Data, "request/x", []byte("1")), record(storage.Meta, "state", []byte("1"))} {
		if err := i.Add(bad); !errors.Is(err, chunks.ErrBadSnapshot) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if err := ImportRequests(x.engine).Finish(); err != nil {
		t.Fatal(err)
	}
	x.restart()
	if x.m.Requests().Sessions != 0 {
		t.Error("the earlier requests are still there")
	}
	if err := ImportRequests(x.engine).Add(record(storage.Meta, "request/12345678", []byte{1})); err != nil {
		t.Fatal(err)
	}
	if err := ImportRequests(x.engine).Finish(); err != nil {
		t.Errorf("an import that replaces a broken one: %v", err)
	}
}

// TestForkBehindTheEnd: a state that goes on behind the end, above the skipped indexes, begins its log
// there; one that goes on below them, or is elsewhere, is rejected.
func TestForkBehindTheEnd(t *testing.T) {
	x, to := ended(t)
	e := command.Command{Kind: command.Unseal, Expect: []byte("p")}
	last := to.End + era.Gap + 5
	if err := x.m.Apply([]fsm.Entry{{Index: last, Command: &e}}, make([]command.Result, 1), false); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []kv.Index{0, to.End + 1, to.End + era.Gap - 1, last - 1, last + 1} {
		to.Last = wrong
		if err := Fork(x.engine, to); err == nil {
			t.Errorf("forked at %d, and the state is at %d", wrong, last)
		}
	}
	to.Last = last
	for range 2 {
		fork(t, x.engine, to)
		x.restart()
		if x.m.Applied() != last || x.m.Base() != last || !x.m.Lost(to.End+1) || x.m.Lost(to.End+era.Gap) {
			t.Errorf("at %d, base %d", x.m.Applied(), x.m.Base())
		}
		if l := x.m.Lineage(); len(l) != 1 || l[0] != (history.Former{History: to.Former, End: to.End}) {
			t.Errorf("lineage %+v", l)
		}
	}
}
