package fsm

import (
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm/layout"
	"github.com/dkvdb/dkv/internal/fsm/requests"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// model says what commands mean, by maps and lists and without any thought of
// speed. It shares no code with the machine.
type model struct {
	keys     map[string]modelValue
	clock    uint64 // milliseconds
	paused   bool
	timing   uint64 // index of the last SetTiming
	standbys uint64 // and of the last SetStandbys
	sealed   string // the promotion, and the index of its Seal
	sealedAt uint64
	requests modelRequests
}

type modelValue struct {
	value string
	until uint64 // seconds, 0 is for ever
}

func newModel(bounds requests.Bounds) *model {
	return &model{keys: make(map[string]modelValue), requests: modelRequests{bounds: bounds}}
}

func (o *model) over(until uint64) bool { return until != 0 && o.clock/1000 >= until }

// apply returns the result of an entry and its effects.
func (o *model) apply(e Entry) (command.Result, []kv.Mutation) {
	c := e.Command
	if c == nil {
		return command.Result{Index: e.Index}, nil
	}
	if o.sealed != "" && c.Kind != command.Unseal && c.Kind != command.SetMember {
		if c.Kind == command.Seal && string(c.Expect) == o.sealed {
			return command.Result{Index: o.sealedAt}, nil
		}
		return command.Result{Index: e.Index, Code: command.Sealed}, nil
	}
	if c.Fence != 0 { // there are no epochs here
		return command.Result{Index: e.Index, Code: command.Fenced}, nil
	}
	switch c.Kind {
	case command.Seal:
		o.sealed, o.sealedAt = string(c.Expect), e.Index
		return command.Result{Index: e.Index}, nil
	case command.Unseal:
		if string(c.Expect) == o.sealed {
			o.sealed = ""
		}
		return command.Result{Index: e.Index}, nil
	case command.SetStandbys:
		if uint64(c.Delta) != o.standbys {
			return command.Result{Index: e.Index, Code: command.NotUpdated}, nil
		}
		o.standbys = e.Index
		return command.Result{Index: e.Index}, nil
	case command.SetTiming:
		if uint64(c.Delta) != o.timing {
			return command.Result{Index: e.Index, Code: command.NotUpdated}, nil
		}
		o.timing = e.Index
		return command.Result{Index: e.Index}, nil
	case command.SetMember, command.SetFormat:
		return command.Result{Index: e.Index}, nil
	case command.SetClock:
		o.clock = uint64(c.Clock)
		return command.Result{Index: e.Index}, nil
	case command.SetPaused:
	default:
		o.clock = max(o.clock, uint64(c.Clock))
	}
	if c.Request.Client != 0 {
		if res, known := o.requests.answered(c, e.Index, o.clock); known {
			return res, nil
		}
	}
	res := command.Result{Index: e.Index}
	var effects []kv.Mutation
	switch {
	case c.Kind == command.SetPaused:
		o.paused = c.Flag
	case c.Kind == command.Tick:
	case o.paused:
		return command.Result{Index: e.Index, Code: command.Paused}, nil
	default:
		effects = o.mutate(c, &res)
	}
	if c.Request.Client != 0 {
		o.requests.remember(modelRequest{id: c.Request, asked: asked(c), clock: o.clock, result: res})
	}
	return res, effects
}

func (o *model) mutate(c *command.Command, res *command.Result) (effects []kv.Mutation) {
	first := func() (modelValue, bool) {
		v, found := o.keys[string(c.Mutations[0].Key)]
		return v, found && !o.over(v.until)
	}
	switch c.Kind {
	case command.Write:
		for _, m := range c.Mutations {
			effects = o.set(effects, m)
		}
	case command.CompareAndSet:
		v, live := first()
		if live && v.value != string(c.Expect) || !live && len(c.Expect) > 0 {
			res.Code = command.NotUpdated
			return nil
		}
		effects = o.set(effects, c.Mutations[0])
	case command.Increment:
		v, live := first()
		m := c.Mutations[0]
		old := int64(0)
		if live && v.value != "" {
			if len(v.value) != 8 {
				res.Code = command.NotACounter
				return nil
			}
			old = int64(binary.BigEndian.Uint64([]byte(v.value)))
		}
		sum := new(big.Int).Add(big.NewInt(old), big.NewInt(c.Delta))
		if !sum.IsInt64() {
			res.Code, res.Counter = command.Overflow, old
			return nil
		}
		res.Counter = sum.Int64()
		m.Value = []byte(counter(res.Counter))
		if m.ExpireTS == 0 && live {
			m.ExpireTS = v.until
		}
		effects = o.set(effects, m)
	case command.Expire:
		for _, m := range c.Mutations {
			if v, found := o.keys[string(m.Key)]; found && v.until == m.ExpireTS && o.over(v.until) {
				effects = o.set(effects, kv.Mutation{Key: m.Key, Delete: true})
			}
		}
	}
	return effects
}

func (o *model) set(effects []kv.Mutation, m kv.Mutation) []kv.Mutation {
	if !m.Delete && !o.over(m.ExpireTS) {
		o.keys[string(m.Key)] = modelValue{string(m.Value), m.ExpireTS}
		return append(effects, m)
	}
	if _, found := o.keys[string(m.Key)]; !found {
		return effects
	}
	delete(o.keys, string(m.Key))
	return append(effects, kv.Mutation{Key: m.Key, Delete: true})
}

// asked is what a command asks for, without who asks and when.
func asked(c *command.Command) string {
	bare := *c
	bare.Clock, bare.Request = 0, kv.RequestID{}
	return string(bare.Append(nil))
}

// compare fails unless the machine holds what the model does.
func (o *model) compare(t failer, m *Machine) {
	t.Helper()
	if m.Clock() != kv.Clock(o.clock) || m.Paused() != o.paused {
		t.Fatalf("clock %d, paused %v; want %d, %v", m.Clock(), m.Paused(), o.clock, o.paused)
	}
	if got, want := stored(t, m), o.keys; !samePhysical(got, want) {
		t.Fatalf("the engine holds %v, want %v", got, want)
	}
	if got, want := liveKeys(t, m, kv.Clock(o.clock)), o.live(); !slices.Equal(got, want) {
		t.Fatalf("live keys %q, want %q", got, want)
	}
	o.requests.compare(t, m)
}

func (o *model) live() []string {
	var out []string
	for k, v := range o.keys {
		if !o.over(v.until) {
			out = append(out, fmt.Sprintf("%s=%s@%d", k, v.value, v.until))
		}
	}
	slices.Sort(out)
	return out
}

// stored is the machine's keyspace with what has expired but is still there.
func stored(t failer, m *Machine) map[string]modelValue {
	t.Helper()
	out := make(map[string]modelValue)
	for _, p := range dump(t, m.engine, storage.Data) {
		value, until, err := layout.SplitData([]byte(p.Value))
		if err != nil {
			t.Fatalf("key %q: %v", p.Key, err)
		}
		out[p.Key] = modelValue{string(value), until}
	}
	return out
}

func samePhysical(a, b map[string]modelValue) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, found := b[k]; !found || v != w {
			return false
		}
	}
	return true
}

func liveKeys(t failer, m *Machine, now kv.Clock) []string {
	t.Helper()
	v, err := m.View()
	if err != nil {
		t.Fatalf("View: %v", err)
	}
	defer v.Close()
	it := v.Iterate(storage.Range{}, now)
	defer it.Close()
	var out []string
	for it.Next() {
		p := it.Pair()
		out = append(out, fmt.Sprintf("%s=%s@%d", p.Key, p.Value, p.ExpireTS))
	}
	if err := it.Err(); err != nil {
		t.Fatalf("iterate: %v", err)
	}
	slices.Sort(out)
	return out
}

// TestModel runs random commands through the machine and the model. The change
// stream, replayed onto nothing, must lead to the same keyspace.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bounds := requests.DefaultBounds()
		if rapid.Bool().Draw(t, "few requests") {
			bounds = fewRequests()
		}
		x := newBoundedFixture(t, bounds)
		o := newModel(bounds)
		g := newGenerator(drawn{t}, 4)
		g.clients = 6
		replay := newReplay()
		for range rapid.IntRange(1, 12).Draw(t, "batches") {
			entries := g.entries(x.m.Applied()+1, rapid.IntRange(1, 8).Draw(t, "size"))
			x.runBoth(o, entries)
			o.compare(t, x.m)
			checkInvariants(t, x.m)
			replay.follow(t, x.m)
			if !samePhysical(replay.keys, o.keys) {
				t.Fatalf("the change stream leads to %v, want %v", replay.keys, o.keys)
			}
			if rapid.IntRange(0, 7).Draw(t, "restart") == 0 {
				x.restart()
				o.compare(t, x.m)
			}
		}
	})
}

// runBoth applies entries to machine and model and compares results and effects.
func (x *fixture) runBoth(o *model, entries []Entry) {
	x.Helper()
	results := make([]command.Result, len(entries))
	if err := x.m.Apply(entries, results, false); err != nil {
		x.Fatalf("Apply: %v", err)
	}
	for i, e := range entries {
		want, effects := o.apply(e)
		if results[i] != want {
			x.Fatalf("entry %d (%+v) came to %+v, want %+v", e.Index, e.Command, results[i], want)
		}
		var short []string
		for _, m := range effects {
			short = append(short, shorten(m))
		}
		if got := x.effects(e.Index); !slices.Equal(got, short) {
			x.Fatalf("entry %d (%+v) had the effects %q, want %q", e.Index, e.Command, got, short)
		}
	}
}

// replay is a follower that knows nothing but the change stream.
type replay struct {
	keys map[string]modelValue
	next kv.Index
}

func newReplay() *replay { return &replay{keys: make(map[string]modelValue), next: 1} }

// follow takes over all changes that are new, two at a time.
func (r *replay) follow(t failer, m *Machine) {
	t.Helper()
	for {
		ch, err := m.Changes(r.next, 2, 1<<20)
		if err != nil {
			t.Fatalf("Changes(%d): %v", r.next, err)
		}
		for _, c := range ch.Changes {
			if c.Index < r.next || len(c.Mutations) == 0 {
				t.Fatalf("asked for changes from %d on, got %+v", r.next, c)
			}
			r.next = c.Index + 1
			for _, m := range c.Mutations {
				delete(r.keys, string(m.Key))
				if !m.Delete {
					r.keys[string(m.Key)] = modelValue{string(m.Value), m.ExpireTS}
				}
			}
		}
		if len(ch.Changes) == 0 {
			if ch.Newest != m.Applied() || ch.History != m.Identity().History {
				t.Fatalf("newest %d of %s, want %d", ch.Newest, ch.History, m.Applied())
			}
			return
		}
	}
}
