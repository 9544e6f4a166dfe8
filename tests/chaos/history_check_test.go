package chaos

import (
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// TestCheckerCanFail gives the checker histories that no correct store produces, each
// with a similar one that a correct store may produce.
func TestCheckerCanFail(t *testing.T) {
	type op struct {
		call, end int64
		in        input
		out       output
	}
	put := func(call, end int64, v string) op {
		return op{call, end, input{kind: opPut, key: "k", value: v}, output{}}
	}
	get := func(call, end int64, v string) op {
		return op{call, end, input{kind: opGet, key: "k"}, output{value: v}}
	}
	cas := func(call, end int64, old, v string, updated bool) op {
		return op{call, end, input{kind: opCAS, key: "k", old: old, value: v}, output{updated: updated}}
	}
	add := func(call, end, delta int64, sum string) op {
		return op{call, end, input{kind: opAdd, key: "k", delta: delta}, output{value: sum}}
	}
	unknown := func(o op) op {
		o.out = output{unknown: true}
		return o
	}
	elsewhere := func(o op) op {
		o.in.key = "another"
		return o
	}
	for _, c := range []struct {
		name string
		want porcupine.CheckResult
		ops  []op
	}{
		{"read back", porcupine.Ok, []op{put(0, 1, "a"), put(2, 3, "b"), get(4, 5, "b")}},
		{"stale read", porcupine.Illegal, []op{put(0, 1, "a"), put(2, 3, "b"), get(4, 5, "a")}},
		{"read beside the write", porcupine.Ok, []op{put(0, 1, "a"), put(2, 6, "b"), get(4, 5, "a")}},
		{"backwards beside the write", porcupine.Illegal, []op{put(0, 1, "a"), put(2, 9, "b"), get(3, 4, "b"), get(5, 6, "a")}},
		{"lost write", porcupine.Illegal, []op{put(0, 1, "a"), get(2, 3, "")}},
		{"a value from nowhere", porcupine.Illegal, []op{put(0, 1, "a"), get(2, 3, "c")}},
		{"another key's value", porcupine.Illegal, []op{elsewhere(put(0, 1, "a")), get(2, 3, "a")}},
		{"unknown, seen late", porcupine.Ok, []op{put(0, 1, "a"), unknown(put(2, 3, "b")), get(4, 5, "a"), get(6, 7, "b")}},
		{"unknown, never seen", porcupine.Ok, []op{put(0, 1, "a"), unknown(put(2, 3, "b")), get(4, 5, "a")}},
		{"unknown, seen and gone", porcupine.Illegal, []op{put(0, 1, "a"), unknown(put(2, 3, "b")), get(4, 5, "b"), get(6, 7, "a")}},
		{"unknown, seen before its call", porcupine.Illegal, []op{put(0, 1, "a"), get(2, 3, "b"), unknown(put(4, 5, "b"))}},
		{"one of two wins", porcupine.Ok, []op{cas(0, 9, "", "a", true), cas(1, 8, "", "b", false), get(10, 11, "a")}},
		{"both win", porcupine.Illegal, []op{cas(0, 9, "", "a", true), cas(1, 8, "", "b", true)}},
		{"neither wins", porcupine.Illegal, []op{cas(0, 9, "", "a", false), cas(1, 8, "", "b", false)}},
		{"an unknown one wins", porcupine.Ok, []op{unknown(cas(0, 1, "", "a", false)), cas(2, 3, "", "b", false), get(4, 5, "a")}},
		{"sums", porcupine.Ok, []op{add(0, 9, 2, "5"), add(1, 8, 3, "3"), get(10, 11, "5")}},
		{"a sum counted twice", porcupine.Illegal, []op{add(0, 1, 2, "2"), add(2, 3, 3, "7")}},
		{"a sum lost", porcupine.Illegal, []op{add(0, 1, 2, "2"), add(2, 3, 3, "3")}},
	} {
		h := newHistory()
		for i, o := range c.ops {
			h.add(i, o.in, o.call, o.out, o.end)
		}
		if got, _ := h.check(10 * time.Second); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
