package dkv

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"pgregory.net/rapid"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/testkit"
	_ "github.com/dkvdb/dkv/internal/testkit/seed" // draws the same values in every run
)

func keysOf(names ...string) [][]byte {
	out := make([][]byte, len(names))
	for i, n := range names {
		out[i] = []byte(n)
	}
	return out
}

// MultiGet returns what single gets would, in the order of the keys, however the keys are
// spread over vBuckets.
func TestMultiGet(t *testing.T) {
	for _, vBuckets := range []int{1, 5} {
		cl := newCluster(t, 2, vBuckets)
		c := ready(t, cl.addrs())
		ctx := testkit.Within(t, enough)
		held := make(map[string]string)
		for i := range 20 {
			held[fmt.Sprint(i)] = fmt.Sprint("v", i)
		}
		for key, value := range held {
			must[uint64](t)(c.Put(ctx, []byte(key), []byte(value)))
		}
		rapid.Check(t, func(t *rapid.T) {
			var want []string
			keys := make([][]byte, 0, 10)
			for _, n := range rapid.SliceOf(rapid.IntRange(0, 30)).Draw(t, "keys") {
				key := fmt.Sprint(n)
				keys = append(keys, []byte(key))
				if value, is := held[key]; is {
					want = append(want, key+"="+value)
				}
			}
			got, err := c.MultiGet(ctx, keys)
			if err != nil || len(got) != len(want) {
				t.Fatalf("%d pairs, want %d; %v", len(got), len(want), err)
			}
			for i, p := range got {
				if s := string(p.Key) + "=" + string(p.Value); s != want[i] {
					t.Fatalf("pair %d is %s, want %s", i, s, want[i])
				}
			}
		})
	}
}

func TestMultiGetIndex(t *testing.T) {
	c := ready(t, newCluster(t, 1, 4).addrs())
	keys := keysOf("a", "b", "c", "d", "e", "f")
	if _, err := c.MultiGet(testkit.Within(t, enough), keys, Sequential, MinIndex(1)); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	if _, err := c.MultiGet(testkit.Within(t, enough), keys[:1], Sequential, MinIndex(1)); err != nil {
		t.Error(err)
	}
}

func TestMultiPut(t *testing.T) {
	cl := newCluster(t, 2, 4)
	c := ready(t, cl.addrs())
	ctx := testkit.Within(t, enough)
	var pairs []Pair
	want := make(map[string]string)
	for i := range 12 {
		pairs = append(pairs, Pair{Key: fmt.Append(nil, i), Value: fmt.Append(nil, "v", i)})
		want[fmt.Sprint(i)] = fmt.Sprint("v", i)
	}
	if _, err := c.MultiPut(ctx, pairs...); !errors.Is(err, ErrInvalid) || len(cl.pairs()) != 0 {
		t.Fatalf("across vBuckets: %v", err)
	}
	if err := c.MultiPutSplit(ctx, pairs...); err != nil {
		t.Fatal(err)
	}
	if got := cl.pairs(); !maps.Equal(got, want) {
		t.Fatalf("%v", got)
	}
	if index := must[uint64](t)(c.MultiPut(ctx, pairs[0], pairs[0])); index == 0 {
		t.Error("no index")
	}
	for _, err := range []error{second(c.MultiPut(ctx)), c.MultiPutSplit(ctx)} {
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("of nothing: %v", err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// TestMultiPutSplitOfAnInvalidPair: what no server would accept keeps all other pairs from being sent.
func TestMultiPutSplitOfAnInvalidPair(t *testing.T) {
	cl := newCluster(t, 2, 4)
	c := ready(t, cl.addrs())
	pairs := []Pair{{Key: []byte("a")}, {Key: []byte("b")}, {Key: []byte("c")}, {Value: []byte("v")}}
	err := c.MultiPutSplit(testkit.Within(t, enough), pairs...)
	if !errors.Is(err, ErrInvalid) || errors.Is(err, ErrOutcomeUnknown) || !strings.Contains(err.Error(), "put 4 of 4: key is empty") || len(cl.pairs()) != 0 {
		t.Errorf("%v, and %v are written", err, cl.pairs())
	}
}

// If one part fails, the error says that the others were written.
func TestMultiPutSplitFails(t *testing.T) {
	cl := newCluster(t, 2, 2)
	c := ready(t, cl.addrs())
	ctx := testkit.Within(t, enough)
	var pairs []Pair
	for i := range 12 {
		pairs = append(pairs, Pair{Key: fmt.Append(nil, i)})
	}
	refuse := func(_ context.Context, method string) error {
		if method == serverpb.DKV_MultiPut_FullMethodName {
			return explained(codes.ResourceExhausted, kv.ReasonNotApplied, "the disk is full")
		}
		return nil
	}
	cl.nodes[0].fail(refuse, nil)
	if err := c.MultiPutSplit(ctx, pairs...); !errors.Is(err, ErrExhausted) || !errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("one of two: %v", err)
	}
	cl.nodes[1].fail(refuse, nil)
	if err := c.MultiPutSplit(ctx, pairs...); !errors.Is(err, ErrExhausted) || errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("all: %v", err)
	}
}
