package fsm

import (
	"context"
	"testing"

	"github.com/dkvdb/dkv/internal/command"
)

// The hash tells apart what differs in any part, and nothing else.
func TestContentHash(t *testing.T) {
	of := func(cs ...command.Command) ContentHash {
		x := newFixture(t)
		if len(cs) > 0 {
			x.apply(cs...)
		}
		return hash(t, x.m)
	}
	base := of(write(put("a", "bc")))
	if base.Index != 1 || base.Keys != 1 {
		t.Fatalf("hash %+v", base)
	}
	if same := of(write(put("x", "y")), write(del("x"), put("a", "bc"))); same.Sum != base.Sum || same.Index != 2 {
		t.Errorf("the way to a keyspace changes its hash: %+v, %+v", same, base)
	}
	for name, other := range map[string]ContentHash{
		"empty":       of(),
		"value":       of(write(put("a", "bd"))),
		"key":         of(write(put("b", "bc"))),
		"cut between": of(write(put("ab", "c"))),
		"expiry":      of(write(putUntil("a", "bc", 9))),
		"one more":    of(write(put("a", "bc"), put("b", ""))),
	} {
		if other.Sum == base.Sum {
			t.Errorf("%s: the hash does not tell", name)
		}
	}
	// An expired key counts until the log has removed it.
	x := newFixture(t)
	x.apply(write(putUntil("t", "1", 1), put("a", "bc")))
	hidden := hash(t, x.m)
	x.clock += clockOf(2)
	x.apply(write())
	if h := hash(t, x.m); h.Sum != hidden.Sum || h.Keys != 2 {
		t.Error("a clock changed the hash")
	}
	x.apply(expire(1, "t"))
	if h := hash(t, x.m); h.Sum != base.Sum {
		t.Error("the expired key still counts")
	}
}

func TestHashStopsWithItsContext(t *testing.T) {
	x := newFixture(t)
	big := string(make([]byte, hashStep))
	x.apply(write(put("a", big), put("b", big)))
	v, err := x.m.View()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := v.Hash(ctx); err != context.Canceled {
		t.Errorf("Hash: %v", err)
	}
	if err := v.CopyTo(ctx, openMemory(t)); err != context.Canceled {
		t.Errorf("CopyTo: %v", err)
	}
}
