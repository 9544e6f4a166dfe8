package fair

import "container/list"

// turns are values that are taken one after the other, each of which has a key. Every
// operation takes the same time however many there are.
type turns[K comparable, V any] struct {
	of    map[K]*list.Element // of order
	order list.List           // of V, the next one first
}

// get returns the value of a key. One that is made comes after all others.
func (t *turns[K, V]) get(k K, made func() V) V {
	at, there := t.of[k]
	if !there {
		if t.of == nil {
			t.of = make(map[K]*list.Element)
		}
		at = t.order.PushBack(made())
		t.of[k] = at
	}
	return at.Value.(V)
}

// first returns whose turn it is, of at least one.
func (t *turns[K, V]) first() V { return t.order.Front().Value.(V) }

// pass makes the first one the last.
func (t *turns[K, V]) pass() { t.order.MoveToBack(t.order.Front()) }

// drop forgets a value.
func (t *turns[K, V]) drop(k K) {
	if at, there := t.of[k]; there {
		delete(t.of, k)
		t.order.Remove(at)
	}
}

func (t *turns[K, V]) none() bool { return len(t.of) == 0 }
