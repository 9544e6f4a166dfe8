package fair

import "slices"

// turns are values that are taken one after the other, each of which has a key.
type turns[K comparable, V any] struct {
	of    map[K]V
	order []K // the next one first
}

// get returns the value of a key. One that is made comes after all others.
func (t *turns[K, V]) get(k K, made func() V) V {
	v, there := t.of[k]
	if !there {
		if t.of == nil {
			t.of = make(map[K]V)
		}
		v = made()
		t.of[k] = v
		t.order = append(t.order, k)
	}
	return v
}

// next returns whose turn it is, of at least one, and makes it the last.
func (t *turns[K, V]) next() (K, V) {
	k := t.order[0]
	t.order = append(t.order[1:], k)
	return k, t.of[k]
}

// drop forgets a value.
func (t *turns[K, V]) drop(k K) {
	delete(t.of, k)
	if i := slices.Index(t.order, k); i >= 0 {
		t.order = slices.Delete(t.order, i, i+1)
	}
}

func (t *turns[K, V]) none() bool { return len(t.of) == 0 }
