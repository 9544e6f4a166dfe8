package fsm

import (
	"bytes"
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
		if p.Key != string(layout.KeyIdentity) {
			meta = append(meta, p)
		}
	}
	spaces[storage.Meta] = meta
	return spaces
}
