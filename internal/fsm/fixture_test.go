package fsm

import (
	"bytes"
	"fmt"
	"time"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm/fsmtest"
	"github.com/dkvdb/dkv/internal/fsm/layout"
	"github.com/dkvdb/dkv/internal/fsm/requests"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// What the packages' tests share, under short names.
type (
	failer = fsmtest.T
	faulty = fsmtest.Faulty
	pair   = fsmtest.Pair
)

const start = fsmtest.Start

var (
	openMemory  = fsmtest.OpenMemory
	errInjected = fsmtest.ErrInjected
	fails       = fsmtest.Fails
	dump        = fsmtest.Dump
	replicated  = fsmtest.Replicated
	samePairs   = fsmtest.SamePairs
	sameSpaces  = fsmtest.Same
	sec         = fsmtest.Sec

	put         = fsmtest.Put
	putUntil    = fsmtest.PutUntil
	del         = fsmtest.Delete
	write       = fsmtest.Write
	cas         = fsmtest.Cas
	increment   = fsmtest.Increment
	expire      = fsmtest.Expire
	pause       = fsmtest.Pause
	as          = fsmtest.As
	begin       = fsmtest.Begin
	fenced      = fsmtest.Fenced
	member      = fsmtest.Member
	setSlave    = fsmtest.SetSlave
	setStandbys = fsmtest.SetStandbys
	setTiming   = fsmtest.SetTiming
	setFormat   = fsmtest.SetFormat
	sealFor     = fsmtest.Seal
	unseal      = fsmtest.Unseal
	stageOf     = fsmtest.Stage
)

func newMachine(t failer, e storage.Engine) *Machine {
	t.Helper()
	m, err := New(e)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return m
}

// fixture is a machine over a memory engine, with a clock for its commands and
// shorthands that fail the test.
type fixture struct {
	failer
	engine storage.Engine
	m      *Machine
	clock  kv.Clock
}

func newFixture(t failer) *fixture {
	t.Helper()
	x := &fixture{failer: t, engine: openMemory(t), clock: start}
	x.m = newMachine(t, x.engine)
	return x
}

// fewRequests are bounds that a short sequence of commands meets.
func fewRequests() requests.Bounds {
	return requests.Bounds{ClientEntries: 6, ClientBytes: 1500, Bytes: 4000, Sessions: 4, Age: 10 * time.Minute}
}

// newBoundedFixture is newFixture with other bounds of what is remembered.
func newBoundedFixture(t failer, bounds requests.Bounds) *fixture {
	t.Helper()
	x := &fixture{failer: t, engine: openMemory(t), clock: start}
	x.m = newBoundedMachine(t, x.engine, bounds)
	return x
}

func newBoundedMachine(t failer, e storage.Engine, bounds requests.Bounds) *Machine {
	t.Helper()
	m, err := open(e, Identity{Cluster: kv.NewID(), History: kv.NewID()}, bounds)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return m
}

// restart opens the machine again over the same engine.
func (x *fixture) restart() {
	x.Helper()
	x.m = newBoundedMachine(x, x.engine, x.m.bounds)
}

// apply applies commands at the fixture's clock as one batch and returns what
// they came to. It then holds the machine to its invariants.
func (x *fixture) apply(commands ...command.Command) []command.Result {
	x.Helper()
	entries := make([]Entry, len(commands))
	for i := range commands {
		if commands[i].Clock == 0 {
			commands[i].Clock = x.clock
		}
		entries[i] = Entry{Index: x.m.Applied() + 1 + uint64(i), Command: &commands[i]}
	}
	results := make([]command.Result, len(entries))
	if err := x.m.Apply(entries, results, false); err != nil {
		x.Fatalf("Apply: %v", err)
	}
	checkInvariants(x, x.m)
	return results
}

// one applies one command, whose result must have the given code.
func (x *fixture) one(want command.Code, c command.Command) command.Result {
	x.Helper()
	res := x.apply(c)[0]
	if res.Code != want {
		x.Fatalf("%v: code %v, want %v", c.Kind, res.Code, want)
	}
	return res
}

// expect fails unless key has the value for a reader at the fixture's clock;
// nil means that it is absent.
func (x *fixture) expect(key string, want []byte) {
	x.Helper()
	p, found, err := x.m.Get([]byte(key), x.clock)
	switch {
	case err != nil:
		x.Fatalf("Get(%s): %v", key, err)
	case found != (want != nil):
		x.Fatalf("Get(%s): found is %v, value %q; want %q", key, found, p.Value, want)
	case !bytes.Equal(p.Value, want):
		x.Fatalf("Get(%s) = %q, want %q", key, p.Value, want)
	}
}

// expireTS returns the expiry that key is stored with.
func (x *fixture) expireTS(key string) uint64 {
	x.Helper()
	p, _, err := x.m.Get([]byte(key), 0)
	if err != nil {
		x.Fatalf("Get(%s): %v", key, err)
	}
	return p.ExpireTS
}

// effects returns the change at index in short: "a=1" is a put, with "@" and the
// expiry's distance from start if it has one; "-a" is a delete. It is empty
// where the entry had no effect.
func (x *fixture) effects(index kv.Index) []string {
	x.Helper()
	ch, err := x.m.Changes(index, 1, 1<<20)
	if err != nil {
		x.Fatalf("Changes(%d): %v", index, err)
	}
	if len(ch.Changes) == 0 || ch.Changes[0].Index != index {
		return nil
	}
	var out []string
	for _, m := range ch.Changes[0].Mutations {
		out = append(out, shorten(m))
	}
	return out
}

func shorten(m kv.Mutation) string {
	switch {
	case m.Delete:
		return fmt.Sprintf("-%s", m.Key)
	case m.ExpireTS != 0:
		return fmt.Sprintf("%s=%s@%d", m.Key, m.Value, int64(m.ExpireTS)-int64(sec(0)))
	default:
		return fmt.Sprintf("%s=%s", m.Key, m.Value)
	}
}

// checkInvariants compares what the machine holds in memory and in its indexes
// with what follows from the data.
func checkInvariants(t failer, m *Machine) {
	t.Helper()
	want := make(map[string]bool)
	for _, p := range dump(t, m.engine, storage.Data) {
		_, expireTS, err := layout.SplitData([]byte(p.Value))
		if err != nil {
			t.Fatalf("key %q: %v", p.Key, err)
		}
		if expireTS != 0 {
			want[string(layout.AppendExpiryKey(nil, expireTS, []byte(p.Key)))] = true
		}
	}
	index := dump(t, m.engine, storage.Expiry)
	for _, p := range index {
		if !want[p.Key] || p.Value != "" {
			t.Fatalf("the expiry index has %x -> %q, which no key has", p.Key, p.Value)
		}
	}
	if len(index) != len(want) || m.state.Expiring != uint64(len(want)) {
		t.Fatalf("%d keys expire, %d are in the index, %d are counted", len(want), len(index), m.state.Expiring)
	}
	st, err := layout.ReadState(m.engine)
	if err != nil || st != m.state {
		t.Fatalf("state in the engine %+v (%v), in memory %+v", st, err, m.state)
	}
	if size, err := changelog.Size(m.engine, m.ChangelogFloor()); err != nil || size > m.state.Logged {
		t.Fatalf("the changelog has %d bytes (%v), %d were ever logged", size, err, m.state.Logged)
	}
	if err := m.requests.Check(m.engine); err != nil {
		t.Fatalf("the request table in memory differs from the stored one: %v", err)
	}
}
