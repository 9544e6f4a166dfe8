package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

func viewOf(t testing.TB, m *Machine) *View {
	t.Helper()
	v, err := m.View()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

// varied is a machine whose records are of all sizes, in all spaces.
func varied(t failer) *fixture {
	t.Helper()
	x := newFixture(t)
	g := newGenerator(newSeeded(3), 40)
	x.runBoth(newModel(x.m.bounds), g.entries(1, 300))
	x.apply(write(put("large", string(make([]byte, 5000)))), write(put("larger", string(make([]byte, 70_000)))))
	x.apply(setSlave("zone", "host:1", true), setSlave("", "host:2", true))
	return x
}

// chunksOf cuts a view into chunks of a limit, and checks what every one of them
// has to keep.
func chunksOf(t *testing.T, v *View, limit func() int) (payloads [][]byte, positions [][]byte) {
	t.Helper()
	for position := []byte(nil); ; {
		positions = append(positions, position)
		most := limit()
		p, next, err := v.Chunk(position, most)
		if err != nil {
			t.Fatal(err)
		}
		again, nextAgain, err := v.Chunk(position, most)
		if err != nil || !bytes.Equal(p, again) || !bytes.Equal(next, nextAgain) {
			t.Fatalf("the chunk at %.40x is another one when it is read again (%v)", position, err)
		}
		if n := records(t, p); n == 0 || n > 1 && len(p) > most {
			t.Fatalf("a chunk of %d records and %d bytes, the limit is %d", n, len(p), most)
		}
		payloads = append(payloads, p)
		if position = next; len(next) == 0 {
			return payloads, positions
		}
	}
}

// records counts those of a payload.
func records(t *testing.T, p []byte) (n int) {
	t.Helper()
	l := NewLoader(openMemory(t))
	for ; len(p) > 0; n++ {
		var err error
		if p, err = l.record(p); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// loadInto fills an empty engine with payloads.
func loadInto(e storage.Engine, payloads ...[]byte) error {
	l := NewLoader(e)
	for i, p := range payloads {
		if err := l.Add(p); err != nil {
			return fmt.Errorf("payload %d: %w", i, err)
		}
	}
	return l.Finish()
}

// load fills an engine with payloads and opens it.
func load(t *testing.T, payloads [][]byte) *Machine {
	t.Helper()
	e := openMemory(t)
	if err := loadInto(e, payloads...); err != nil {
		t.Fatal(err)
	}
	return newMachine(t, e)
}

// However a state is cut, its chunks are the same bytes in the same order, and make
// the same state.
func TestChunks(t *testing.T) {
	x := varied(t)
	v := viewOf(t, x.m)
	whole, next, err := v.Chunk(nil, 1<<30)
	if err != nil || len(next) != 0 {
		t.Fatalf("not all in one: %x, %v", next, err)
	}
	want := replicated(t, x.engine)
	choose := newSeeded(seed(t))
	x.apply(write(put("later", "1"))) // the view does not see it
	for _, limit := range []func() int{
		func() int { return 0 },
		func() int { return 1 + choose.intn(40) },
		func() int { return 100 + choose.intn(1000) },
		func() int { return 1 + choose.intn(20_000) },
	} {
		payloads, _ := chunksOf(t, v, limit)
		if !bytes.Equal(slices.Concat(payloads...), whole) {
			t.Fatalf("%d chunks together are another payload", len(payloads))
		}
		copied := load(t, payloads)
		if !sameSpaces(replicated(t, copied.engine), want) {
			t.Error("the copy differs")
		}
		if floor := copied.ChangelogFloor(); floor != v.Index()+1 {
			t.Errorf("floor %d behind index %d", floor, v.Index())
		}
		checkInvariants(t, copied)
	}
}

// A transfer may be resumed anywhere, with another limit.
func TestChunksFromAnyPosition(t *testing.T) {
	v := viewOf(t, varied(t).m)
	payloads, positions := chunksOf(t, v, func() int { return 500 })
	for i, from := range positions {
		rest, next, err := v.Chunk(from, 1<<30)
		if err != nil || len(next) != 0 || !bytes.Equal(rest, slices.Concat(payloads[i:]...)) {
			t.Fatalf("the rest from chunk %d on is another (%v)", i, err)
		}
	}
}

func TestChunkRefusesPositions(t *testing.T) {
	x := newFixture(t)
	x.apply(write(put("b", "1"), put("d", "2")), write(putUntil("e", "3", 100)))
	v := viewOf(t, x.m)
	at := func(space storage.Space, key string) []byte { return append([]byte{byte(space)}, key...) }
	for name, from := range map[string][]byte{
		"no key":             at(storage.Data, ""),
		"before all":         at(storage.Data, "a"),
		"between two":        at(storage.Data, "c"),
		"behind all":         at(storage.Data, "z"),
		"a longer key":       at(storage.Data, "b\x00"),
		"another space":      at(storage.Meta, "b"),
		"the changelog":      at(storage.Changelog, "\x00\x00\x00\x00\x00\x00\x00\x01"),
		"the floor":          at(storage.Meta, "floor"),
		"an unknown space":   at(storage.Spaces, "b"),
		"a space beyond all": {0xff},
	} {
		if p, next, err := v.Chunk(from, 100); kv.KindOf(err) != kv.Invalid {
			t.Errorf("%s: %x, %x, %v", name, p, next, err)
		}
	}
	for _, key := range []string{"b", "d", "e"} {
		if p, _, err := v.Chunk(at(storage.Data, key), 0); err != nil || records(t, p) != 1 {
			t.Errorf("at %s: %x, %v", key, p, err)
		}
	}
}

// FuzzChunkPosition asks for what a peer may ask for: any position, of which none
// may lead to more than an error, or to records that were not asked for.
func FuzzChunkPosition(f *testing.F) {
	x := newFixture(f)
	x.apply(write(put("b", "1"), put("d", "2")), write(putUntil("e", "3", 100)), as(increment("n", 1), 7, 1, 0))
	v := viewOf(f, x.m)
	whole, _, err := v.Chunk(nil, 1<<20)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(nil), 0)
	f.Add([]byte{0, 'b'}, 10)
	f.Add([]byte{0, 'c'}, -1)
	f.Add([]byte{3}, 1)
	f.Add([]byte("\x03state"), 1<<30)
	f.Add([]byte{255, 255}, 1)
	f.Fuzz(func(t *testing.T, from []byte, limit int) {
		p, next, err := v.Chunk(from, min(limit, 1<<16))
		if err != nil {
			if kv.KindOf(err) != kv.Invalid {
				t.Fatalf("position %x: %v", from, err)
			}
			return
		}
		if !bytes.Contains(whole, p) || len(p) == 0 {
			t.Fatalf("position %x: %x", from, p)
		}
		if len(next) > 0 {
			if _, _, err := v.Chunk(next, 1); err != nil {
				t.Fatalf("the position %x behind %x: %v", next, from, err)
			}
		}
	})
}

// sizes notes the sizes of an engine's batches.
type sizes struct {
	storage.Engine
	batches []int
}

func (s *sizes) Write(b *storage.Batch, sync bool) error {
	s.batches = append(s.batches, b.Size())
	return s.Engine.Write(b, sync)
}

// What one write takes does not depend on how large the payloads are.
func TestLoaderWritesBoundedBatches(t *testing.T) {
	v := viewOf(t, filled(t).m)
	whole, _, err := v.Chunk(nil, 1<<30)
	if err != nil || len(whole) < 4*fillStep {
		t.Fatalf("%d bytes, %v", len(whole), err)
	}
	e := &sizes{Engine: openMemory(t)}
	l := NewLoader(e)
	if err := l.Add(whole); err != nil {
		t.Fatal(err)
	}
	largest := copyChunk/4 + 100 // a value of filled
	for _, n := range e.batches {
		if n > fillStep+largest {
			t.Errorf("a batch of %d bytes", n)
		}
	}
	if len(e.batches) < len(whole)/(fillStep+largest) {
		t.Errorf("only %d batches", len(e.batches))
	}
}

// A load that lacks a part, or has one twice or in another place, either fails or
// is not taken for a state before it is finished.
func TestLoaderNeedsAll(t *testing.T) {
	x := varied(t)
	payloads, _ := chunksOf(t, viewOf(t, x.m), func() int { return 0 }) // one record each
	for name, key := range map[string]string{"no identity": "\x03\x08identity", "no state": "\x03\x05state"} {
		l := NewLoader(openMemory(t))
		for _, p := range payloads {
			if !bytes.HasPrefix(p, []byte(key)) {
				if err := l.Add(p); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := l.Finish(); !errors.Is(err, ErrBadSnapshot) {
			t.Errorf("%s: %v", name, err)
		}
	}
	unfinished := openMemory(t)
	l := NewLoader(unfinished)
	for _, p := range payloads {
		if err := l.Add(p); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := New(unfinished); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("a load that is not finished is taken for a state: %v", err)
	}
	if err := l.Finish(); err != nil {
		t.Fatal(err)
	}
	newMachine(t, unfinished)
}
