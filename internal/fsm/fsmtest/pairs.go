package fsmtest

import (
	"slices"

	"github.com/dkvdb/dkv/internal/fsm/layout"
	"github.com/dkvdb/dkv/internal/storage"
)

// Pair is a stored pair.
type Pair = struct{ Key, Value string }

// Dump returns all that r holds in a space.
func Dump(t T, r storage.Reader, space storage.Space) []Pair {
	t.Helper()
	it := r.Iterate(space, storage.Range{})
	defer it.Close()
	var out []Pair
	for it.Next() {
		out = append(out, Pair{string(it.Key()), string(it.Value())})
	}
	if err := it.Err(); err != nil {
		t.Fatalf("iterate %v: %v", space, err)
	}
	return out
}

// replicated are the spaces that replicas agree on.
var replicated = []storage.Space{storage.Data, storage.Expiry, storage.Meta}

// Replicated returns what replicas agree on byte for byte at one index: all but
// the changelog and its floor.
func Replicated(t T, r storage.Reader) map[storage.Space][]Pair {
	t.Helper()
	out := make(map[storage.Space][]Pair)
	for _, space := range replicated {
		for _, p := range Dump(t, r, space) {
			if space != storage.Meta || p.Key != string(layout.KeyFloor) {
				out[space] = append(out[space], p)
			}
		}
	}
	return out
}

// SamePairs reports whether two lists of pairs are equal.
func SamePairs(a, b []Pair) bool { return slices.Equal(a, b) }

// Same reports whether what Replicated has returned twice is equal.
func Same(a, b map[storage.Space][]Pair) bool {
	for _, space := range replicated {
		if !SamePairs(a[space], b[space]) {
			return false
		}
	}
	return true
}
