package fsm

import (
	"context"
	"flag"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm/requests"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

var seedFlag = flag.Uint64("fsm.seed", 1, "seed of the random command sequences; 0 takes a new one")

// seed returns the seed of this run and has it printed if the test fails.
func seed(t *testing.T) uint64 {
	s := *seedFlag
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("rerun with -fsm.seed=%d", s)
	return s
}

// TestModelLong is TestModel with one long sequence. It also shows that such a
// sequence leaves out nothing that a command can come to.
func TestModelLong(t *testing.T) {
	for name, bounds := range map[string]requests.Bounds{"default bounds": requests.DefaultBounds(), "few requests": fewRequests()} {
		t.Run(name, func(t *testing.T) {
			g := newGenerator(newSeeded(seed(t)), 12)
			g.clients = 8
			x := newBoundedFixture(t, bounds)
			o := newModel(bounds)
			replay := newReplay()
			for x.m.Applied() < 10_000 {
				x.runBoth(o, g.entries(x.m.Applied()+1, 1+g.intn(40)))
				o.compare(t, x.m)
				checkInvariants(t, x.m)
				replay.follow(t, x.m)
				if !samePhysical(replay.keys, o.keys) {
					t.Fatalf("the change stream leads to %v, want %v", replay.keys, o.keys)
				}
			}
			if x.m.ExpiredTotal() == 0 {
				t.Error("nothing expired")
			}
		})
	}
}

func TestGeneratorLeavesNothingOut(t *testing.T) {
	g := newGenerator(newSeeded(1), 12)
	g.clients = 8
	x := newBoundedFixture(t, fewRequests())
	seen := make(map[command.Kind]map[command.Code]int)
	retries := 0
	for range 5000 {
		c := g.command()
		res := x.whatever(c)
		if seen[c.Kind] == nil {
			seen[c.Kind] = make(map[command.Code]int)
		}
		seen[c.Kind][res.Code]++
		if res.Index != x.m.Applied() {
			retries++
		}
	}
	for kind, codes := range map[command.Kind][]command.Code{
		command.Write:         {command.OK, command.Paused, command.StaleRequest, command.RequestMismatch, command.Fenced, command.Sealed},
		command.CompareAndSet: {command.OK, command.NotUpdated, command.Paused},
		command.Increment:     {command.OK, command.NotACounter, command.Overflow, command.Paused},
		command.Expire:        {command.OK, command.Paused},
		command.SetPaused:     {command.OK},
		command.Tick:          {command.OK},
		command.SetClock:      {command.OK},
		command.SetMember:     {command.OK},
		command.SetFormat:     {command.OK},
		command.SetTiming:     {command.OK, command.NotUpdated},
		command.SetStandbys:   {command.OK, command.NotUpdated},
		command.Seal:          {command.OK, command.Sealed},
		command.Unseal:        {command.OK},
	} {
		for _, code := range codes {
			if seen[kind][code] == 0 {
				t.Errorf("no %v came to %v", kind, code)
			}
		}
	}
	if s := x.m.Requests(); retries == 0 || x.m.ExpiredTotal() == 0 || s.Forgotten == 0 || s.Evicted == 0 {
		t.Errorf("%d retries, %d keys expired, requests %+v", retries, x.m.ExpiredTotal(), s)
	}
}

// whatever applies one command, whatever it comes to.
func (x *fixture) whatever(c *command.Command) command.Result {
	x.Helper()
	results := make([]command.Result, 1)
	if err := x.m.Apply([]Entry{{Index: x.m.Applied() + 1, Command: c}}, results, false); err != nil {
		x.Fatalf("Apply: %v", err)
	}
	return results[0]
}

// A runner brings the same entries into a machine in its own way.
type runner struct {
	name   string
	bounds requests.Bounds
	most   int // entries per batch
	// How often, in batches, each of these happens; 0 is never.
	restart, snapshot, trim int
	// encode sends each command through its encoding, as a log does.
	encode bool
}

// TestDeterminism: the same entries leave the same bytes, however they come.
func TestDeterminism(t *testing.T) {
	const count = 100_000
	s := seed(t)
	g := newGenerator(newSeeded(s), 500)
	g.clients = 40
	entries := g.entries(1, count)
	bounds := requests.Bounds{ClientEntries: 50, ClientBytes: 12_000, Bytes: 300_000, Sessions: 30, Age: 10 * time.Minute}
	wantResults := make([]command.Result, count)

	origin := newFixture(t) // all start from one identity

	want := (&runner{name: "plain", bounds: bounds, most: 64}).run(t, copiedEngine(t, origin.m), entries, wantResults, s)
	for i, r := range []*runner{
		{name: "large batches", most: 3000, restart: 5, trim: 2},
		{name: "small batches", most: 12, encode: true, trim: 200},
		{name: "restarts", most: 100, restart: 7, encode: true},
		{name: "snapshots", most: 200, snapshot: 25, restart: 11, trim: 9},
	} {
		t.Run(r.name, func(t *testing.T) {
			r.bounds = bounds
			results := make([]command.Result, count)
			got := r.run(t, copiedEngine(t, origin.m), entries, results, s+uint64(i)+1)
			for i := range results {
				if results[i] != wantResults[i] {
					t.Fatalf("entry %d came to %+v, elsewhere to %+v", i+1, results[i], wantResults[i])
				}
			}
			sameMachines(t, got, want)
		})
	}
}

func (r *runner) run(t *testing.T, base storage.Engine, entries []Entry, results []command.Result, seed uint64) *Machine {
	t.Helper()
	choose := newSeeded(seed)
	m := newBoundedMachine(t, base, r.bounds)
	happens := func(often int) bool { return often != 0 && choose.intn(often) == 0 }
	at := 0
	for _, batch := range split(choose, entries, r.most) {
		if r.encode {
			batch = recode(t, batch)
		}
		if err := m.Apply(batch, results[at:at+len(batch)], false); err != nil {
			t.Fatal(err)
		}
		at += len(batch)
		if happens(r.trim) {
			if _, err := m.TrimChangelog(changelog.Retention{MaxBytes: 10_000}); err != nil {
				t.Fatal(err)
			}
		}
		if happens(r.restart) {
			m = newBoundedMachine(t, m.engine, r.bounds)
		}
		if happens(r.snapshot) {
			m = newBoundedMachine(t, copiedEngine(t, m), r.bounds)
		}
	}
	checkInvariants(t, m)
	return m
}

// recode returns entries as a log would bring them.
func recode(t *testing.T, entries []Entry) []Entry {
	t.Helper()
	out := slices.Clone(entries)
	for i := range out {
		if out[i].Command == nil {
			continue
		}
		c, err := command.Decode(out[i].Command.Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		out[i].Command = &c
	}
	return out
}

// sameMachines compares what replicas must agree on, and those changes that both still have, in
// whatever records.
func sameMachines(t *testing.T, a, b *Machine) {
	t.Helper()
	left, right := replicated(t, a.engine), replicated(t, b.engine)
	for space := range storage.Space(storage.Spaces) {
		if !samePairs(left[space], right[space]) {
			t.Errorf("%v differs: %d and %d pairs", space, len(left[space]), len(right[space]))
		}
	}
	if hash(t, a) != hash(t, b) {
		t.Error("the content hashes differ")
	}
	floor := max(a.ChangelogFloor(), b.ChangelogFloor())
	tail := func(m *Machine) []kv.Change {
		changes, err := m.Changes(floor, 0, math.MaxInt)
		if err != nil {
			t.Fatal(err)
		}
		return changes.Changes
	}
	if left, right := tail(a), tail(b); !reflect.DeepEqual(left, right) {
		t.Errorf("%d and %d changes from %d on, which differ", len(left), len(right), floor)
	}
	if size := func(m *Machine) uint64 {
		n, err := changelog.Size(m.engine, floor)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}; size(a) != size(b) {
		t.Errorf("%d and %d bytes of changes from %d on", size(a), size(b), floor)
	}
}

func hash(t failer, m *Machine) ContentHash {
	t.Helper()
	v, err := m.View()
	if err != nil {
		t.Fatalf("View: %v", err)
	}
	defer v.Close()
	h, err := v.Hash(context.Background())
	if err != nil {
		t.Fatalf("Hash: %v", err)
	}
	return h
}

// copiedEngine returns an engine with a copy of the state.
func copiedEngine(t failer, m *Machine) storage.Engine {
	t.Helper()
	v, err := m.View()
	if err != nil {
		t.Fatalf("View: %v", err)
	}
	defer v.Close()
	e := openMemory(t)
	if err := v.CopyTo(context.Background(), e); err != nil {
		t.Fatalf("CopyTo: %v", err)
	}
	return e
}
