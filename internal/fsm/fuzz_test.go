package fsm

import (
	"bytes"
	"errors"
	"testing"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm/layout"
	"github.com/dkvdb/dkv/internal/storage"
)

// FuzzApply makes a command sequence of its input, applies it to two machines
// in different batches, with restarts and snapshots in one of them, and to the
// model.
func FuzzApply(f *testing.F) {
	f.Add(uint8(3), []byte(nil))
	f.Add(uint8(9), []byte("the quick brown fox jumps over the lazy dog"))
	f.Add(uint8(60), bytes.Repeat([]byte{19, 0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233}, 20))
	random := newSeeded(1)
	for range 8 {
		p := make([]byte, 400)
		for i := range p {
			p[i] = byte(random.intn(256))
		}
		f.Add(uint8(50), p)
	}
	f.Fuzz(func(t *testing.T, count uint8, p []byte) {
		choose := &input{p}
		g := newGenerator(choose, 4)
		entries := g.entries(1, int(count))

		bounds := fewRequests()
		one := newBoundedFixture(t, bounds)
		o := newModel(bounds)
		for i := range entries {
			one.runBoth(o, entries[i:i+1])
		}
		o.compare(t, one.m)
		checkInvariants(t, one.m)

		other := newBoundedFixture(t, bounds).m
		for _, batch := range split(choose, entries, 9) {
			if err := other.Apply(batch, make([]command.Result, len(batch)), false); err != nil {
				t.Fatal(err)
			}
			switch choose.intn(4) {
			case 0:
				other = newBoundedMachine(t, other.engine, bounds)
			case 1:
				other = newBoundedMachine(t, copiedEngine(t, other), bounds)
			}
		}
		checkInvariants(t, other)
		left, right := withoutIdentity(replicated(t, one.engine)), withoutIdentity(replicated(t, other.engine))
		if !sameSpaces(left, right) {
			t.Fatalf("split otherwise, the entries left\n%q, not\n%q", right, left)
		}
	})
}

// withoutIdentity drops what two new machines differ in.
func withoutIdentity(spaces map[storage.Space][]pair) map[storage.Space][]pair {
	var meta []pair
	for _, p := range spaces[storage.Meta] {
		if p.key != string(layout.KeyIdentity) {
			meta = append(meta, p)
		}
	}
	spaces[storage.Meta] = meta
	return spaces
}

// FuzzLoader feeds payloads that are of no snapshot, or damaged: checksums are the sender's
// and the receiver's affair, and a sender may be wrong.
func FuzzLoader(f *testing.F) {
	x := newFixture(f)
	x.apply(write(put("a", "1"), putUntil("b", "2", 9)), as(increment("c", 1), 7, 1, 0))
	payload, _, err := viewOf(f, x.m).Chunk(nil, 1<<20)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(payload)
	f.Add([]byte(nil))
	f.Add([]byte("\x00\x01a"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e := openMemory(t)
		err := loadInto(e, raw)
		if err != nil && !errors.Is(err, ErrBadSnapshot) && !errors.Is(err, storage.ErrNewer) {
			t.Fatalf("error is neither ErrBadSnapshot nor ErrNewer: %v", err)
		}
		if err != nil && len(dump(t, e, storage.Data)) > 0 {
			if _, err := New(e); err == nil {
				t.Fatal("the remains of a bad snapshot pass for a state")
			}
		}
	})
}
