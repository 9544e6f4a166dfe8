package requests

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestListKeepsItsOrder appends and removes elements in random order and compares
// with a slice, forwards and backwards.
func TestListKeepsItsOrder(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var l list[entry, *entry]
	var want []*entry
	for range 2000 {
		if len(want) == 0 || rnd.IntN(5) < 3 && len(want) < 20 {
			e := new(entry)
			l.append(e)
			want = append(want, e)
		} else {
			i := rnd.IntN(len(want))
			l.remove(want[i])
			if want[i].before != nil || want[i].after != nil {
				t.Fatal("what is removed still has neighbours")
			}
			want = slices.Delete(want, i, i+1)
		}
		var forwards, backwards []*entry
		for e := l.first; e != nil; e = e.after {
			forwards = append(forwards, e)
		}
		for e := l.last; e != nil; e = e.before {
			backwards = append(backwards, e)
		}
		slices.Reverse(backwards)
		if !slices.Equal(forwards, want) || !slices.Equal(backwards, want) {
			t.Fatalf("of %d elements the list has %d forwards and %d backwards, or in another order", len(want), len(forwards), len(backwards))
		}
	}
}
