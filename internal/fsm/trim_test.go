package fsm

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

var keepNothing = changelog.Retention{MaxBytes: 1, MaxAge: time.Nanosecond}

func (x *fixture) trim(ret changelog.Retention) (more bool) {
	x.Helper()
	more, err := x.m.TrimChangelog(ret)
	if err != nil {
		x.Fatalf("TrimChangelog: %v", err)
	}
	return more
}

func TestTrim(t *testing.T) {
	x := newFixture(t)
	for i := range 10 {
		x.clock = start + clockOf(i)
		x.apply(write(put("a", fmt.Sprint(i))))
	}
	x.trim(changelog.Retention{})
	if x.m.ChangelogFloor() != 1 {
		t.Fatalf("no limit, floor %d", x.m.ChangelogFloor())
	}
	x.trim(changelog.Retention{MaxAge: 4 * time.Second})
	if x.m.ChangelogFloor() != 6 { // the clocks 5 to 9
		t.Fatalf("floor %d, want 6", x.m.ChangelogFloor())
	}
	each := (x.m.state.Logged + 9) / 10
	x.trim(changelog.Retention{MaxBytes: 2 * each})
	if x.m.ChangelogFloor() != 9 {
		t.Fatalf("floor %d, want 9", x.m.ChangelogFloor())
	}
	if n, err := x.m.ChangelogBytes(); err != nil || n != 2*each {
		t.Fatalf("%d bytes, %v, want %d", n, err, 2*each)
	}
	if n := len(dump(t, x.engine, storage.Changelog)); n != 2 {
		t.Fatalf("%d records are left", n)
	}
	x.restart()
	if _, err := x.m.Changes(8, 0, 1<<20); x.m.ChangelogFloor() != 9 || kv.KindOf(err) != kv.OutOfRange {
		t.Fatalf("after a restart: floor %d, %v", x.m.ChangelogFloor(), err)
	}
	if ch, err := x.m.Changes(9, 0, 1<<20); err != nil || len(ch.Changes) != 2 {
		t.Fatalf("%+v, %v", ch, err)
	}
	// By age even the newest goes. Only the entry without effect is above.
	x.clock += clockOf(100)
	x.apply(write())
	x.trim(changelog.Retention{MaxAge: time.Second})
	if x.m.ChangelogFloor() != 11 {
		t.Fatalf("floor %d, want 11", x.m.ChangelogFloor())
	}
	if n, err := x.m.ChangelogBytes(); err != nil || n != 0 {
		t.Fatalf("%d bytes, %v", n, err)
	}
	x.trim(keepNothing)
	x.one(command.OK, write(put("a", "next")))
	if ch, err := x.m.Changes(x.m.Applied(), 0, 1<<20); err != nil || len(ch.Changes) != 1 {
		t.Fatalf("%+v, %v", ch, err)
	}
}

func TestTrimInSteps(t *testing.T) {
	x := newFixture(t)
	entries := make([]Entry, 2*trimStep+100)
	c := write(put("a", "1"))
	for i := range entries {
		entries[i] = Entry{Index: uint64(i) + 1, Command: &c}
	}
	if err := x.m.Apply(entries, make([]command.Result, len(entries)), false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		floor kv.Index
		more  bool
	}{{trimStep + 1, true}, {2*trimStep + 1, true}, {2*trimStep + 100, false}, {2*trimStep + 100, false}} {
		if more := x.trim(changelog.Retention{MaxBytes: 1}); more != want.more || x.m.ChangelogFloor() != want.floor {
			t.Fatalf("floor %d, more is %v; want %+v", x.m.ChangelogFloor(), more, want)
		}
	}
	if n := len(dump(t, x.engine, storage.Changelog)); n != 1 {
		t.Fatalf("%d records are left", n)
	}
}

// Trims and reads of the change stream run beside Apply. Entries without effect
// lie between the others: the search must not take a record that is written
// meanwhile for an old one.
func TestTrimBesideApply(t *testing.T) {
	x := newFixture(t)
	const count, keep = 4000, 50
	record := uint64(0)
	var wg sync.WaitGroup
	applied := make(chan struct{})
	check := func() {
		if _, err := x.m.TrimChangelog(changelog.Retention{MaxBytes: keep * record}); err != nil {
			t.Error(err)
		}
		floor := x.m.ChangelogFloor()
		ch, err := x.m.Changes(floor, 0, 1<<30)
		if err != nil {
			t.Error(err)
		} else if n := uint64(len(ch.Changes)); n < min(keep, (ch.Newest+1)/2) {
			t.Errorf("%d changes are left at %d above %d", n, ch.Newest, floor)
		}
	}
	apply := func() {
		defer close(applied)
		for i := range uint64(count) {
			c := write(put("a", "value"))
			if i%2 == 1 {
				c = write(del("absent"))
			}
			if err := x.m.Apply([]Entry{{Index: i + 2, Command: &c}}, make([]command.Result, 1), false); err != nil {
				t.Error(err)
			}
		}
	}
	x.apply(write(put("a", "value")))
	record = x.m.state.Logged
	wg.Go(apply)
	wg.Go(func() {
		for {
			select {
			case <-applied:
				return
			default:
				check()
			}
		}
	})
	wg.Wait()
	check()
	checkInvariants(t, x.m)
}

// meddled lets something happen between two reads of the changelog.
type meddled struct {
	storage.Engine
	meanwhile func()
}

type meddledView struct {
	storage.View
	engine *meddled
}

func (m *meddled) NewView() (storage.View, error) {
	v, err := m.Engine.NewView()
	return meddledView{v, m}, err
}

func (m *meddled) Iterate(s storage.Space, r storage.Range) storage.Iterator {
	return m.then(s, m.Engine.Iterate(s, r))
}

func (v meddledView) Iterate(s storage.Space, r storage.Range) storage.Iterator {
	return v.engine.then(s, v.View.Iterate(s, r))
}

func (m *meddled) then(s storage.Space, it storage.Iterator) storage.Iterator {
	if do := m.meanwhile; do != nil && s == storage.Changelog {
		m.meanwhile = nil
		do()
	}
	return it
}

// A record written during the search must not be taken for an old one.
func TestTrimSeesOneState(t *testing.T) {
	e := &meddled{Engine: openMemory(t)}
	x := &fixture{failer: t, engine: e, clock: start, m: newMachine(t, e)}
	for range 10 {
		x.apply(write(put("a", "value")))
	}
	each := x.m.state.Logged / 10
	for range 10 {
		x.apply(write(del("absent")))
	}
	done := false
	e.meanwhile = func() {
		x.clock += clockOf(1000)
		x.apply(write(put("a", "value")), write(put("a", "value")))
		done = true
	}
	x.trim(changelog.Retention{MaxBytes: 10 * each, MaxAge: time.Minute})
	if !done || x.m.ChangelogFloor() != 1 {
		t.Fatalf("meddled is %v, floor %d, want 1", done, x.m.ChangelogFloor())
	}
}

// Retention crosses the numbers that a promotion has skipped in one step.
func TestTrimOverSkippedNumbers(t *testing.T) {
	x, to := ended(t)
	fork(t, x.engine, to)
	x.restart()
	last := x.one(command.OK, write(put("new", "1"))).Index
	trims := 0
	for more := true; more; trims++ {
		if trims > 3 {
			t.Fatalf("the floor is %d after %d trims", x.m.ChangelogFloor(), trims)
		}
		var err error
		if more, err = x.m.TrimChangelog(changelog.Retention{MaxBytes: 1}); err != nil {
			t.Fatal(err)
		}
	}
	all, err := x.m.Changes(last, 0, 1<<20)
	if err != nil || len(all.Changes) != 1 {
		t.Errorf("the newest change is gone: %+v, %v", all.Changes, err)
	}
	if n := len(dump(t, x.engine, storage.Changelog)); n != 1 || x.m.ChangelogFloor() > last {
		t.Errorf("%d records are left, floor %d", n, x.m.ChangelogFloor())
	}
}
