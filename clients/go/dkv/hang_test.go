package dkv

import (
	"context"
	"errors"
	"sync/atomic"
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

// hangAt makes a node take calls of a method and answer none. It answers all others.
func (n *fakeNode) hangAt(method string) (asked *atomic.Int64) {
	asked = new(atomic.Int64)
	n.fail(func(ctx context.Context, m string) error {
		if m != method {
			return nil
		}
		asked.Add(1)
		<-ctx.Done()
		return ctx.Err()
	}, nil)
	return asked
}

// An iteration leaves one of several fixed addresses that sends nothing, and later ones pass it over.
func TestIterateAtFixedAddressThatHangs(t *testing.T) {
	cl := newCluster(t, 2, 1)
	c := ready(t, cl.addrs(), WithFixedAddresses(), WithTimeout(6*time.Second))
	must[uint64](t)(c.Put(t.Context(), []byte("k"), nil))
	asked := cl.nodes[0].hangAt(iterateMethod)
	for i := range 2 {
		got, err := walked(t.Context(), c, Range{})
		if got != "k" || err != nil || asked.Load() != 1 {
			t.Fatalf("iteration %d: %q, %v; the node that hangs was asked %d times", i, got, err, asked.Load())
		}
	}
}

// An iteration at a leader that hangs goes on at the next one, long before its time is up.
func TestIterateAtLeaderThatHangs(t *testing.T) {
	cl := newCluster(t, 3, 1)
	c := ready(t, cl.addrs(), WithTimeout(4*time.Second))
	must[uint64](t)(c.Put(t.Context(), []byte("k"), nil))
	asked := cl.nodes[0].hangAt(iterateMethod)
	cl.nodes[0].hang()
	cl.lead(cl.nodes[1])
	if got, err := walked(t.Context(), c, Range{}); got != "k" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if asked.Load() != 1 {
		t.Errorf("the node that hangs was asked %d times", asked.Load())
	}
}

// The part of the time that a call has at one of several fixed addresses costs it nothing, as its time limit.
func TestShareOfTheTimeCostsNothing(t *testing.T) {
	c := open(t, newCluster(t, 2, 1).addrs(), WithFixedAddresses())
	own, cancel := c.bounded(t.Context())
	defer cancel()
	share, release := c.firstShareOf(own, new(request))
	defer release()
	if share == own {
		t.Error("a call with a context of its own has all of the time")
	}
	all, _ := c.bounded(context.Background())
	limit, _ := all.Deadline()
	share, _ = c.firstShareOf(all, new(request))
	if at, limited := share.Deadline(); !limited || limit.Sub(at) < DefaultTimeout/5 || limit.Sub(at) > DefaultTimeout/3 {
		t.Errorf("%v of %v", time.Until(at), time.Until(limit))
	}
	r := new(request)
	if n := testing.AllocsPerRun(1000, func() { c.firstShareOf(all, r) }); n >= 1 {
		t.Errorf("%v allocations", n)
	}
}
