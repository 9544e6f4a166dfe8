package dkv

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/testkit"
)

const iterateMethod = serverpb.DKV_Iterate_FullMethodName

// walked are the keys of an iteration, and its error.
func walked(ctx context.Context, c *Client, r Range, opts ...ReadOption) (string, error) {
	var keys []string
	for p, err := range c.Iterate(ctx, r, opts...) {
		if err != nil {
			return strings.Join(keys, " "), err
		}
		keys = append(keys, string(p.Key))
	}
	return strings.Join(keys, " "), nil
}

func TestIterate(t *testing.T) {
	for _, vBuckets := range []int{1, 3} {
		c := ready(t, newCluster(t, 3, vBuckets).addrs())
		ctx := testkit.Within(t, enough)
		for _, key := range []string{"b", "a1", "a2", "a3", "c"} {
			must[uint64](t)(c.Put(ctx, []byte(key), []byte("v")))
		}
		for _, one := range []struct {
			r    Range
			want string
		}{
			{Range{}, "a1 a2 a3 b c"},
			{Range{Prefix: []byte("a")}, "a1 a2 a3"},
			{Range{Prefix: []byte("a"), Start: []byte("a2")}, "a2 a3"},
			{Range{Limit: 2}, "a1 a2"},
			{Range{Reverse: true}, "c b a3 a2 a1"},
			{Range{Prefix: []byte("x")}, ""},
		} {
			for _, level := range []Level{Linearizable, Sequential} {
				if got, err := walked(ctx, c, one.r, level); got != one.want || err != nil {
					t.Errorf("%+v: %q, %v", one.r, got, err)
				}
			}
		}
		for p, err := range c.Iterate(ctx, Range{}) {
			if string(p.Key) != "a1" || err != nil {
				t.Errorf("%+v, %v", p, err)
			}
			break // ends the request: goleak sees that it does
		}
	}
}

// A sequential iteration stays in the data centre if a node there holds all vBuckets, and goes
// to a master if that one's state is too old.
func TestIterateInOwnDC(t *testing.T) {
	cl := newCluster(t, 2, 2)
	cl.nodes[0].dc, cl.nodes[1].dc = "far", "far"
	slave := startNode(t, cl, "")
	slave.slave = true
	at := replicaAt(t, slave.addr)
	at.Zone = "here"
	cl.replicas = []*serverpb.Replica{at}
	c := ready(t, cl.addrs(), WithDC("here"))
	testkit.Eventually(t, "the replica there is known", func() bool {
		c.learner.probeSoon()
		v := c.topology.Load().vBuckets
		return v[0].near == 1 && v[1].near == 1
	})
	var masters, slaves atomic.Int64
	var old atomic.Bool
	for _, n := range cl.nodes {
		n.fail(func(_ context.Context, method string) error {
			if method == iterateMethod {
				masters.Add(1)
			}
			return nil
		}, nil)
	}
	slave.fail(func(_ context.Context, method string) error {
		if method != iterateMethod {
			return nil
		}
		slaves.Add(1)
		if old.Load() {
			return explained(codes.FailedPrecondition, kv.ReasonNotApplied, "the state is too old")
		}
		return nil
	}, nil)
	ctx := testkit.Within(t, enough)
	must[uint64](t)(c.Put(ctx, []byte("k"), nil))
	for _, one := range []struct {
		opts                  []ReadOption
		old                   bool
		atMasters, atTheSlave int64
	}{
		{nil, false, 1, 0},
		{[]ReadOption{Sequential}, false, 0, 1},
		{[]ReadOption{Sequential, MaxAge(time.Second)}, true, 1, 1},
	} {
		masters.Store(0)
		slaves.Store(0)
		old.Store(one.old)
		if got, err := walked(ctx, c, Range{}, one.opts...); got != "k" || err != nil || masters.Load() != one.atMasters || slaves.Load() != one.atTheSlave {
			t.Errorf("%v: %q, %v; %d iterations at masters, %d at the slave", one.opts, got, err, masters.Load(), slaves.Load())
		}
	}
}

// A failure before the first pair is retried at another node.
func TestIterateAgain(t *testing.T) {
	cl := newCluster(t, 3, 1)
	c := ready(t, cl.addrs())
	must[uint64](t)(c.Put(testkit.Within(t, enough), []byte("k"), nil))
	var n atomic.Int64
	for _, node := range cl.nodes {
		node.fail(func(_ context.Context, method string) error {
			if method == iterateMethod && n.Add(1) <= 2 {
				return explained(codes.Unavailable, kv.ReasonNotApplied, "not now")
			}
			return nil
		}, nil)
	}
	if got, err := walked(testkit.Within(t, enough), c, Range{}); got != "k" || err != nil || n.Load() != 3 {
		t.Errorf("%q, %v after %d requests", got, err, n.Load())
	}
}

// The error of an iteration that breaks says that the pairs before it are not all.
func TestIterateBreaks(t *testing.T) {
	cl := newCluster(t, 1, 1)
	c := ready(t, cl.addrs())
	ctx := testkit.Within(t, enough)
	var pairs []Pair
	for i := range 2000 { // more than a connection takes at once
		pairs = append(pairs, Pair{Key: fmt.Append(nil, i), Value: make([]byte, 1000)})
	}
	if err := c.MultiPutSplit(ctx, pairs...); err != nil {
		t.Fatal(err)
	}
	n, last := 0, error(nil)
	for _, err := range c.Iterate(ctx, Range{}) {
		if n++; n == 1 {
			cl.nodes[0].stop()
		}
		last = err
	}
	if !errors.Is(last, ErrUnavailable) || !strings.Contains(last.Error(), "incomplete") {
		t.Errorf("after %d pairs: %v", n, last)
	}
}

// The error of an iteration that the server ended because its reader was too slow says
// where to resume: both iterations together return each key once.
func TestIterateSaysWhereToResume(t *testing.T) {
	cl := newCluster(t, 1, 1)
	c := ready(t, cl.addrs())
	ctx := testkit.Within(t, enough)
	for _, key := range []string{"a", "b", "c", "d", "e"} {
		must[uint64](t)(c.Put(ctx, []byte(key), nil))
	}
	stall := func(at string) {
		cl.nodes[0].mu.Lock()
		defer cl.nodes[0].mu.Unlock()
		cl.nodes[0].stallAt = at
	}
	for _, reverse := range []bool{false, true} {
		stall("c")
		got, err := walked(ctx, c, Range{Reverse: reverse})
		var e *Error
		if !errors.As(err, &e) || !errors.Is(err, ErrUnavailable) || string(e.ResumeKey) != "c" {
			t.Fatalf("%q, %+v", got, err)
		}
		stall("")
		if reverse {
			continue // the fake knows no start in reverse
		}
		rest, err := walked(ctx, c, Range{Start: e.ResumeKey})
		if all := got + " " + rest; err != nil || all != "a b c d e" {
			t.Errorf("%q, %v", all, err)
		}
	}
	// The error of an iteration that broke in another way has no such key.
	cl.nodes[0].fail(func(_ context.Context, method string) error {
		if method == iterateMethod {
			return stalled(kv.Resume{kv.ResumeStartKey: "%"})
		}
		return nil
	}, nil)
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	var e *Error
	if _, err := walked(short, c, Range{}); !errors.As(err, &e) || e.ResumeKey != nil {
		t.Errorf("%+v", err)
	}
}

func TestIterateStalls(t *testing.T) {
	cl := newCluster(t, 1, 1)
	c := ready(t, cl.addrs(), WithTimeout(50*time.Millisecond))
	release := make(chan struct{})
	cl.nodes[0].fail(func(ctx context.Context, method string) error {
		if method == iterateMethod {
			select {
			case <-release:
			case <-ctx.Done():
				return explained(codes.DeadlineExceeded, kv.ReasonNotApplied, "the caller is gone")
			}
		}
		return nil
	}, nil)
	defer close(release)
	if _, err := walked(context.Background(), c, Range{}); !errors.Is(err, ErrUnavailable) || !errors.Is(err, errStalled) {
		t.Error(err)
	}
	patient := ready(t, cl.addrs(), WithTimeout(enough))
	if _, err := walked(testkit.Within(t, 20*time.Millisecond), patient, Range{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestIterateRefused(t *testing.T) {
	cl := newCluster(t, 1, 1)
	c := ready(t, cl.addrs())
	cl.nodes[0].fail(func(_ context.Context, method string) error {
		if method == iterateMethod {
			return explained(codes.InvalidArgument, kv.ReasonNotApplied, "startKey does not begin with keyPrefix")
		}
		return nil
	}, nil)
	if _, err := walked(testkit.Within(t, enough), c, Range{}); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
}
