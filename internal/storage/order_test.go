package storage

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// ops are the mutations of a batch as texts.
func ops(t *testing.T, b *Batch) (out []string) {
	t.Helper()
	if err := b.Each(func(op Op) error {
		out = append(out, fmt.Sprint(op.Space, op.Kind, " ", string(op.Key), "=", string(op.Value)))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if b.Count() != len(out) {
		t.Errorf("the batch counts %d mutations and has %d", b.Count(), len(out))
	}
	return out
}

// The last mutation of each key stays, in the order of spaces and keys, also if a batch is used
// again.
func TestOrder(t *testing.T) {
	var b Batch
	for round := range 20 {
		b.Reset()
		last := make(map[string]string)
		var keys []string
		for i := range round * 20 {
			// Keys that are prefixes of others, and that differ only behind the first bytes.
			key := "same-beginning-"[:rand.IntN(15)] + []string{"", "\x00", "a", "b"}[rand.IntN(4)]
			space, value := Space(rand.IntN(int(Spaces))), fmt.Sprint(i)
			id := fmt.Sprint(int(space), " ", key)
			if _, there := last[id]; !there {
				keys = append(keys, id)
			}
			if rand.IntN(3) == 0 {
				b.Delete(space, []byte(key))
				last[id] = fmt.Sprint(space, OpDelete, " ", key, "=")
			} else {
				b.Put(space, []byte(key), []byte(value))
				last[id] = fmt.Sprint(space, OpPut, " ", key, "=", value)
			}
		}
		if err := b.Order(); err != nil {
			t.Fatal(err)
		}
		var want []string
		slices.Sort(keys) // a space is one digit
		for _, id := range keys {
			want = append(want, last[id])
		}
		if got := ops(t, &b); !slices.Equal(got, want) {
			t.Fatalf("got %q\nwant %q", got, want)
		}
	}
}

// What a range of keys deletes depends on what stands before it.
func TestOrderLeavesRangesAlone(t *testing.T) {
	var b Batch
	b.Put(Data, []byte("b"), []byte("1"))
	b.DeleteRange(Data, []byte("a"), []byte("c"))
	b.Put(Data, []byte("a"), []byte("2"))
	before := ops(t, &b)
	if err := b.Order(); err != nil || !slices.Equal(ops(t, &b), before) {
		t.Errorf("%v, was %q, is %q", err, before, ops(t, &b))
	}
}

// The memory of a batch is used again, by one with a hundred mutations in no order.
func TestOrderAllocatesNothing(t *testing.T) {
	var b Batch
	keys := make([][]byte, 100)
	for i := range keys {
		keys[i] = fmt.Append(nil, "key-", (i*37)%100)
	}
	if n := testing.AllocsPerRun(100, func() {
		b.Reset()
		for _, key := range keys {
			b.Put(Data, key, key)
		}
		if err := b.Order(); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
