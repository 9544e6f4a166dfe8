package offline

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/fsm/chunks"
	"github.com/dkvdb/dkv/internal/fsm/fsmtest"
	"github.com/dkvdb/dkv/internal/fsm/layout"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// fixture is a machine over a memory engine, with a clock for its commands and
// shorthands that fail the test.
type fixture struct {
	fsmtest.T
	engine storage.Engine
	m      *fsm.Machine
	clock  kv.Clock
}

func newFixture(t fsmtest.T) *fixture {
	t.Helper()
	return fixtureOf(t, fsmtest.OpenMemory(t))
}

func fixtureOf(t fsmtest.T, engine storage.Engine) *fixture {
	t.Helper()
	x := &fixture{T: t, engine: engine, clock: fsmtest.Start}
	x.restart()
	return x
}

// restart opens a machine over the engine, as a process does that starts again.
func (x *fixture) restart() {
	x.Helper()
	var err error
	if x.m, err = fsm.New(x.engine); err != nil {
		x.Fatalf("New: %v", err)
	}
}

// apply applies commands at the fixture's clock as one batch.
func (x *fixture) apply(commands ...command.Command) []command.Result {
	x.Helper()
	entries := make([]fsm.Entry, len(commands))
	for i := range commands {
		commands[i].Clock = x.clock
		entries[i] = fsm.Entry{Index: x.m.Applied() + 1 + uint64(i), Command: &commands[i]}
	}
	results := make([]command.Result, len(entries))
	if err := x.m.Apply(entries, results, false); err != nil {
		x.Fatalf("Apply: %v", err)
	}
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

// changed reports whether the entry at an index has left a change.
func (x *fixture) changed(index kv.Index) bool {
	x.Helper()
	ch, err := x.m.Changes(index, 1, 1<<20)
	if err != nil {
		x.Fatalf("Changes(%d): %v", index, err)
	}
	return len(ch.Changes) > 0 && ch.Changes[0].Index == index
}

// copied is a fixture with a copy of the state, without its changes.
func (x *fixture) copied(t *testing.T) *fixture {
	t.Helper()
	v, err := x.m.View()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	e := fsmtest.OpenMemory(t)
	if err := v.CopyTo(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	return fixtureOf(t, e)
}

// filled is a machine with some of everything.
func filled(t fsmtest.T) *fixture {
	t.Helper()
	x := newFixture(t)
	big := string(bytes.Repeat([]byte("0123456789abcdef"), 256))
	for i := range 12 {
		x.apply(
			fsmtest.Write(fsmtest.Put(fmt.Sprintf("key%02d", i), fmt.Sprint(i)+big)),
			fsmtest.As(fsmtest.Write(fsmtest.PutUntil(fmt.Sprintf("ttl%02d", i), big, i+1)), 7, uint64(i)+1, 0),
		)
	}
	x.apply(fsmtest.Write(fsmtest.Put("empty", "")))
	return x
}

// checkExpiry fails unless the state counts the entries of its expiry index.
func checkExpiry(t *testing.T, engine storage.Engine) {
	t.Helper()
	st, err := layout.ReadState(engine)
	if entries := len(fsmtest.Dump(t, engine, storage.Expiry)); err != nil || st.Expiring != uint64(entries) {
		t.Fatalf("%d keys expire, and %d are counted (%v)", entries, st.Expiring, err)
	}
}

// record is a record of a chunk.
func record(space storage.Space, key string, value []byte) []byte {
	var c chunks.Chunk
	c.Add(space, []byte(key), value)
	return c.Payload
}
