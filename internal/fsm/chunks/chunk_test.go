package chunks

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/dkvdb/dkv/internal/fsm/fsmtest"
	"github.com/dkvdb/dkv/internal/fsm/history"
	"github.com/dkvdb/dkv/internal/fsm/layout"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// stored is an engine that holds a state at an index, with the given pairs.
func stored(t fsmtest.T, index kv.Index, pairs ...kv.Mutation) storage.Engine {
	t.Helper()
	e := fsmtest.OpenMemory(t)
	var b storage.Batch
	layout.PutIdentity(&b, history.Identity{Cluster: "c", History: "h"})
	st := layout.State{Applied: index}
	for i := range pairs {
		p := &pairs[i]
		layout.PutData(&b, p.Key, p.Value, p.ExpireTS)
		if p.ExpireTS != 0 {
			b.Put(storage.Expiry, layout.AppendExpiryKey(nil, p.ExpireTS, p.Key))
			st.Expiring++
		}
	}
	b.Put(storage.Meta, layout.KeyState, st.Append(nil))
	b.Put(storage.Meta, layout.KeyFloor, []byte("8 bytes!"))
	b.Put(storage.Meta, []byte("request/12345678"), []byte("a result"))
	b.Put(storage.Changelog, []byte("\x00\x00\x00\x00\x00\x00\x00\x01"), []byte("a change"))
	if err := e.Write(&b, false); err != nil {
		t.Fatalf("write: %v", err)
	}
	return e
}

// varied is an engine whose records are of all sizes, in all spaces.
func varied(t fsmtest.T) storage.Engine {
	t.Helper()
	random := rand.New(rand.NewPCG(3, 0))
	pairs := []kv.Mutation{fsmtest.Put("large", string(make([]byte, 5000))), fsmtest.Put("larger", string(make([]byte, 70_000)))}
	for i := range 300 {
		m := fsmtest.Put(fmt.Sprintf("k%d", i), string(make([]byte, random.IntN(40))))
		if i%3 == 0 {
			m.ExpireTS = fsmtest.Sec(random.IntN(100))
		}
		pairs = append(pairs, m)
	}
	return stored(t, 300, pairs...)
}

// filled is an engine with several FillSteps of data.
func filled(t fsmtest.T) storage.Engine {
	t.Helper()
	big := string(bytes.Repeat([]byte("0123456789abcdef"), FillStep/64))
	var pairs []kv.Mutation
	for i := range 12 {
		pairs = append(pairs, fsmtest.Put(fmt.Sprintf("key%02d", i), fmt.Sprint(i)+big), fsmtest.PutUntil(fmt.Sprintf("ttl%02d", i), big, i+1))
	}
	return stored(t, 24, append(pairs, fsmtest.Put("empty", ""))...)
}

// chunksOf cuts a state into chunks of a limit, and checks what every one of them
// has to keep.
func chunksOf(t *testing.T, r storage.Reader, limit func() int) (payloads [][]byte, positions [][]byte) {
	t.Helper()
	for position := []byte(nil); ; {
		positions = append(positions, position)
		most := limit()
		p, next, err := Append(nil, r, position, most)
		if err != nil {
			t.Fatal(err)
		}
		again, nextAgain, err := Append(nil, r, position, most)
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
	for ; len(p) > 0; n++ {
		var ok bool
		if _, p, ok = Take(p); !ok {
			t.Fatal("a record is malformed")
		}
	}
	return n
}

// However a state is cut, its chunks are the same bytes in the same order, and make
// the same state.
func TestChunks(t *testing.T) {
	e := varied(t)
	v, err := e.NewView()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	whole, next, err := Append(nil, v, nil, 1<<30)
	if err != nil || len(next) != 0 {
		t.Fatalf("not all in one: %x, %v", next, err)
	}
	want := fsmtest.Replicated(t, e)
	var later storage.Batch // the view does not see it
	layout.PutData(&later, []byte("later"), []byte("1"), 0)
	if err := e.Write(&later, false); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 0))
	for _, limit := range []func() int{
		func() int { return 0 },
		func() int { return 1 + random.IntN(40) },
		func() int { return 100 + random.IntN(1000) },
		func() int { return 1 + random.IntN(20_000) },
	} {
		payloads, _ := chunksOf(t, v, limit)
		if !bytes.Equal(slices.Concat(payloads...), whole) {
			t.Fatalf("%d chunks together are another payload", len(payloads))
		}
		copied := fsmtest.OpenMemory(t)
		if err := loadInto(copied, payloads...); err != nil {
			t.Fatal(err)
		}
		if !fsmtest.Same(fsmtest.Replicated(t, copied), want) {
			t.Error("the copy differs")
		}
		if floor, err := layout.ReadFloor(copied); floor != 301 || err != nil {
			t.Errorf("floor %d behind index 300, %v", floor, err)
		}
	}
}

// A transfer may be resumed anywhere, with another limit.
func TestChunksFromAnyPosition(t *testing.T) {
	v := varied(t)
	payloads, positions := chunksOf(t, v, func() int { return 500 })
	for i, from := range positions {
		rest, next, err := Append(nil, v, from, 1<<30)
		if err != nil || len(next) != 0 || !bytes.Equal(rest, slices.Concat(payloads[i:]...)) {
			t.Fatalf("the rest from chunk %d on is another (%v)", i, err)
		}
	}
}

func TestChunkRefusesPositions(t *testing.T) {
	v := stored(t, 3, fsmtest.Put("b", "1"), fsmtest.Put("d", "2"), fsmtest.PutUntil("e", "3", 100))
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
		if p, next, err := Append(nil, v, from, 100); kv.KindOf(err) != kv.Invalid {
			t.Errorf("%s: %x, %x, %v", name, p, next, err)
		}
	}
	for _, key := range []string{"b", "d", "e"} {
		if p, _, err := Append(nil, v, at(storage.Data, key), 0); err != nil || records(t, p) != 1 {
			t.Errorf("at %s: %x, %v", key, p, err)
		}
	}
}

// FuzzChunkPosition asks for what a peer may ask for: any position, of which none
// may lead to more than an error, or to records that were not asked for.
func FuzzChunkPosition(f *testing.F) {
	v := stored(f, 3, fsmtest.Put("b", "1"), fsmtest.Put("d", "2"), fsmtest.PutUntil("e", "3", 100))
	whole, _, err := Append(nil, v, nil, 1<<20)
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
		p, next, err := Append(nil, v, from, min(limit, 1<<16))
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
			if _, _, err := Append(nil, v, next, 1); err != nil {
				t.Fatalf("the position %x behind %x: %v", next, from, err)
			}
		}
	})
}
