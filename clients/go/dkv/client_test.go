package dkv

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

func TestKeys(t *testing.T) {
	for _, shape := range []struct{ nodes, vBuckets int }{{1, 1}, {3, 1}, {3, 4}} {
		t.Run(fmt.Sprintf("%d nodes, %d vBuckets", shape.nodes, shape.vBuckets), func(t *testing.T) {
			c := newCluster(t, shape.nodes, shape.vBuckets)
			testKeys(t, open(t, c.nodes[shape.nodes-1].addr))
		})
	}
}

// must returns the result of a call that must succeed.
func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// Expiry times come from any client and may be any number of seconds. A time in the far
// future must not become one in the past because a time.Time cannot hold it.
func TestExpiryBeyondWhatTimeHolds(t *testing.T) {
	now := time.Now()
	for _, ts := range []uint64{1 << 40, math.MaxInt64 - 1<<36, math.MaxInt64 - 1, math.MaxInt64, math.MaxInt64 + 1, math.MaxUint64} {
		if at := expiry(ts); !at.After(now) {
			t.Errorf("a key that expires at second %d expires at %v", ts, at)
		} else if again := expiry(expireTS(at)); !again.Equal(at) {
			t.Errorf("%v, sent and read again, is %v", at, again)
		}
	}
}

func testKeys(t *testing.T, c *Client) {
	ctx := testkit.Within(t, enough)
	key := []byte("k\x00\xff")
	if _, err := c.Get(ctx, key); !errors.Is(err, ErrNotFound) {
		t.Fatalf("a key that was never put: %v", err)
	}
	index := must[uint64](t)(c.Put(ctx, key, []byte("v\xfe")))
	got := must[Value](t)(c.Get(ctx, key))
	if string(got.Bytes) != "v\xfe" || got.Index < index || !got.Expires.IsZero() {
		t.Fatalf("got %+v after the put at %d", got, index)
	}
	if got := must[Value](t)(c.Get(ctx, key, Sequential, MinIndex(index), MaxAge(time.Minute))); string(got.Bytes) != "v\xfe" || got.Age != 5*time.Millisecond {
		t.Fatalf("got %+v", got)
	}
	for _, cas := range []struct {
		old  string
		want bool
	}{{"other", false}, {"v\xfe", true}} {
		updated, _, err := c.CompareAndSet(ctx, key, []byte(cas.old), nil)
		if err != nil || updated != cas.want {
			t.Fatalf("compare with %q: %v, %v", cas.old, updated, err)
		}
	}
	if got := must[Value](t)(c.Get(ctx, key)); len(got.Bytes) != 0 {
		t.Fatalf("an empty value came back as %q", got.Bytes)
	}
	for _, want := range []int64{-3, -6} {
		if got, _, err := c.Increment(ctx, []byte("counter"), -3); got != want || err != nil {
			t.Fatalf("counter: %d, %v", got, err)
		}
	}
	must[uint64](t)(c.Delete(ctx, key))
	if _, err := c.Get(ctx, key); !errors.Is(err, ErrNotFound) {
		t.Fatalf("after the delete: %v", err)
	}
}

func TestExpiry(t *testing.T) {
	c := open(t, newCluster(t, 1, 1).addrs())
	ctx := testkit.Within(t, enough)
	at := time.Unix(4_000_000_000, 1)
	must[uint64](t)(c.Put(ctx, []byte("a"), nil, ExpireAt(at)))
	if got := must[Value](t)(c.Get(ctx, []byte("a"))); !got.Expires.Equal(time.Unix(4_000_000_001, 0)) {
		t.Errorf("expires at %v", got.Expires)
	}
	begun := time.Now()
	must[uint64](t)(c.PutTTL(ctx, []byte("a"), nil, time.Minute))
	got := must[Value](t)(c.Get(ctx, []byte("a"))).Expires
	if got.Before(begun.Add(time.Minute)) || got.After(time.Now().Add(time.Minute+time.Second)) {
		t.Errorf("a minute from %v is %v", begun, got)
	}
	must[uint64](t)(c.MultiPut(ctx, Pair{Key: []byte("b"), Expires: at}))
	if got := must[[]Pair](t)(c.MultiGet(ctx, [][]byte{[]byte("b")})); !got[0].Expires.Equal(time.Unix(4_000_000_001, 0)) {
		t.Errorf("expires at %v", got[0].Expires)
	}
	if expireTS(time.Unix(-5, 0)) == 0 || expireTS(time.Time{}) == 0 {
		t.Error("a time that is past became never")
	}
	// A key that never expires is written back as it was read.
	must[uint64](t)(c.Put(ctx, []byte("c"), []byte("1")))
	held := must[Value](t)(c.Get(ctx, []byte("c")))
	must[uint64](t)(c.Put(ctx, []byte("c"), []byte("2"), ExpireAt(held.Expires)))
	if got := must[Value](t)(c.Get(ctx, []byte("c"))); !got.Expires.IsZero() {
		t.Errorf("a key that never expired expires at %v", got.Expires)
	}
}

func TestBadTarget(t *testing.T) {
	for _, target := range []string{"", "host", "host:", ":80", "host:0", "host:65536", "host:80,", "http://host:80", "h\x01ost:80", "ho\nst:80", "ho st:80",
		"discovery://", "discovery://host", "discovery://host:80/a/b"} {
		if c, err := Open(t.Context(), target); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v, %v", target, c, err)
		}
	}
	for name, opts := range map[string][]Option{
		"timeout":     {WithTimeout(0)},
		"connections": {WithConnections(-1)},
		"message":     {WithMaxMessageSize(0)},
		"logger":      {WithLogger(nil)},
		"token":       {WithToken("secret")},
	} {
		if c, err := Open(t.Context(), "example.org:80", opts...); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
}

func TestParseTarget(t *testing.T) {
	got, err := parseTarget("discovery://a:1, b:2,a:1/db")
	if err != nil || len(got.addrs) != 2 || got.addrs[1] != "b:2" || got.database != "db" || !got.discovery {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestOpenBeforeServers(t *testing.T) {
	addr := testkit.Address(t)
	c := open(t, addr)
	ctx := testkit.Within(t, enough)
	ready := make(chan error, 1)
	go func() { ready <- c.WaitReady(ctx) }()
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := c.Put(short, []byte("k"), nil); !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrOutcomeUnknown) {
		t.Fatalf("without a server: %v", err)
	}
	written := make(chan error, 1)
	go func() {
		_, err := c.Put(ctx, []byte("k"), []byte("v"))
		written <- err
	}()
	one := &cluster{t: t, history: "h", changed: make(chan struct{})}
	one.mu.Lock()
	one.nodes = []*fakeNode{startNode(t, one, addr)}
	one.vBuckets = newBuckets(one.nodes[0], 1)
	one.mu.Unlock()
	for _, ch := range []chan error{ready, written} {
		if err := <-ch; err != nil {
			t.Fatal(err)
		}
	}
	if one.pairs()["k"] != "v" {
		t.Fatal("the put was lost")
	}
}

func TestClosed(t *testing.T) {
	cl := newCluster(t, 1, 1)
	c := open(t, cl.addrs())
	ctx := testkit.Within(t, enough)
	if err := c.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	cl.nodes[0].hang()
	under := make(chan error, 1)
	go func() {
		_, err := c.Put(ctx, []byte("k"), nil)
		under <- err
	}()
	const method = "/dkv.serverpb.DKV/Put"
	testkit.Eventually(t, "the put arrives", func() bool { return cl.nodes[0].count(method) == 1 })
	for range 2 {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-under; !errors.Is(err, ErrClosed) || !errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("the call under way: %v", err)
	}
	_, put := c.Put(ctx, []byte("k"), nil)
	_, get := c.Get(ctx, []byte("k"))
	_, multi := c.MultiGet(ctx, [][]byte{{1}})
	_, position := c.Position(ctx)
	var walk, watch error
	for _, walk = range c.Iterate(ctx, Range{}) {
	}
	for _, watch = range c.Watch(ctx, nil, nil) {
	}
	for i, err := range []error{put, get, multi, position, walk, watch, c.WaitReady(ctx)} {
		if !errors.Is(err, ErrClosed) || errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("%d: %v", i, err)
		}
	}
}

func TestClosedBeforeServers(t *testing.T) {
	c := open(t, testkit.Address(t))
	failed := make(chan error, 1)
	go func() { failed <- c.WaitReady(t.Context()) }()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

// The client's own time limit of a call ends with the client, which is no end of the caller's context.
func TestClosedDuringCallsWithoutADeadline(t *testing.T) {
	cl := newCluster(t, 3, 1)
	c := ready(t, cl.addrs())
	for _, n := range cl.nodes {
		n.hang()
	}
	const calls = 30
	asked := cl.calls(serverpb.DKVNode_GetNodeStatus_FullMethodName)
	before, ended := asked(), make(chan error)
	for range calls {
		go func() {
			_, err := c.Position(context.Background())
			ended <- err
		}()
	}
	testkit.Eventually(t, "the nodes are asked", func() bool { return asked() >= before+calls })
	c.Close()
	for range calls {
		if err := <-ended; !errors.Is(err, ErrClosed) || errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}
