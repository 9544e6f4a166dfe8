package dkv

import (
	"errors"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/testkit"
)

// A node at a fixed address that takes calls and answers none leaves them time for the next one, and
// later calls go there at once.
func TestFixedAddressThatHangs(t *testing.T) {
	cl := newCluster(t, 2, 1)
	c := ready(t, cl.addrs(), WithFixedAddresses(), WithTimeout(6*time.Second))
	ctx := t.Context()
	must[uint64](t)(c.Put(ctx, []byte("k"), []byte("1")))
	hangs := cl.nodes[0]
	cl.lead(cl.nodes[1])
	hangs.hang()
	if _, _, err := c.Increment(ctx, []byte("n"), 1); err != nil {
		t.Fatal(err)
	}
	asked := hangs.count(incrementMethod)
	if asked != 1 {
		t.Fatalf("the node that hangs was asked %d times", asked)
	}
	began := time.Now()
	value, _, err := c.Increment(ctx, []byte("n"), 1)
	if err != nil || value != 2 || hangs.count(incrementMethod) != asked {
		t.Errorf("%d, %v after %v; the node that hangs was asked %d times", value, err, time.Since(began), hangs.count(incrementMethod))
	}
}

// What cannot be repeated has all of the time at one node.
func TestFixedAddressThatHangsWithoutIDs(t *testing.T) {
	cl := newCluster(t, 2, 1)
	c := ready(t, cl.addrs(), WithFixedAddresses(), WithoutIdempotency(), WithTimeout(1500*time.Millisecond))
	cl.nodes[0].hang()
	if _, err := c.Put(t.Context(), []byte("k"), nil); !errors.Is(err, ErrOutcomeUnknown) {
		t.Error(err)
	}
	if n := cl.nodes[1].count(putMethod); n != 0 {
		t.Errorf("the put was repeated %d times", n)
	}
	cl.lead(cl.nodes[1])
	if _, err := c.Get(testkit.Within(t, enough), []byte("k")); !errors.Is(err, ErrNotFound) {
		t.Errorf("the next call: %v", err)
	}
}
