package master

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestMultiGetAcross compares with a map: pairs come in the order of the request,
// whoever owns them, without those that are not there, again where they are asked
// for again.
func TestMultiGetAcross(t *testing.T) {
	const vBuckets = 5
	c := newTrial(t, 3, vBuckets)
	for v := range vBuckets {
		c.own(v, v%3)
	}
	model := make(map[string]string)
	keys := keysOf(400)
	for i, key := range keys {
		if i%3 != 0 {
			model[string(key)] = fmt.Sprint(i)
			mustPut(t, c.nodes[i%3], string(key), fmt.Sprint(i))
		}
	}
	rnd := rand.New(rand.NewPCG(5, 6))
	for round := range 100 {
		req := &serverpb.MultiGetRequest{ReadConsistency: serverpb.ReadConsistency(rnd.IntN(2))}
		var want []string
		for range rnd.IntN(700) {
			key := keys[rnd.IntN(len(keys))]
			req.Keys = append(req.Keys, key)
			if value, ok := model[string(key)]; ok {
				want = append(want, string(key)+"="+value)
			}
		}
		resp, err := c.nodes[rnd.IntN(3)].MultiGet(testkit.Within(t, patience), req)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range resp.GetKeyValues() {
			got = append(got, fmt.Sprintf("%s=%s", p.GetKey(), p.GetValue()))
		}
		if !slices.Equal(got, want) {
			t.Fatalf("round %d, %v: %d pairs, want %d\n%.300q\n%.300q", round, req.GetReadConsistency(), len(got), len(want), got, want)
		}
		if len(req.GetKeys()) > 100 && resp.GetIndex() != 0 {
			t.Errorf("index %d", resp.GetIndex())
		}
	}
}

func TestMultiGetAcrossRefuses(t *testing.T) {
	c := newTrial(t, 2, 2)
	_, err := c.nodes[1].MultiGet(testkit.Within(t, patience), &serverpb.MultiGetRequest{Keys: keysOf(20), MinIndex: 1})
	wantStatus(t, err, codes.InvalidArgument, "minIndex is an index of one vBucket, and the request is about 2; leave it out, or use LINEARIZABLE")

	// Each owner's pairs fit in a response, those of both do not.
	c.own(1, 1)
	value := strings.Repeat("v", 300_000)
	req := &serverpb.MultiGetRequest{ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE}
	for _, key := range keysOf(10) {
		mustPut(t, c.nodes[0], string(key), value)
		req.Keys = append(req.Keys, key)
	}
	for _, n := range c.nodes {
		_, err = n.MultiGet(testkit.Within(t, patience), req)
		wantStatus(t, err, codes.ResourceExhausted, "the pairs exceed 2097152 bytes, the limit of a response (max-message-size); ask for fewer keys")
	}
}

// TestMultiGetRetriesOwner has one of two owners change.
func TestMultiGetRetriesOwner(t *testing.T) {
	c := newTrial(t, 3, 2)
	for _, key := range keysOf(20) {
		mustPut(t, c.nodes[0], string(key), "v")
	}
	c.own(1, 1)
	hook(&c.nodes[1].replicas[1].onServe, func(context.Context) error {
		c.own(1, 2)
		return kv.Errorf(kv.NotOwner, "handed over")
	})
	for i, n := range []*trialNode{c.nodes[0], c.nodes[2], c.nodes[1]} {
		c.own(1, 1)
		resp, err := n.MultiGet(testkit.Within(t, patience), &serverpb.MultiGetRequest{Keys: keysOf(20), ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
		if err != nil || len(resp.GetKeyValues()) != 20 {
			t.Errorf("node %d: %d pairs, %v", i, len(resp.GetKeyValues()), err)
		}
	}
}

// TestMultiGetEndsAtError does not wait for one owner when another one has refused.
func TestMultiGetEndsAtError(t *testing.T) {
	c := newTrial(t, 3, 2)
	c.own(1, 1)
	reached, left := make(chan struct{}), make(chan struct{})
	hook(&c.nodes[0].replicas[0].onServe, func(ctx context.Context) error {
		close(reached)
		<-ctx.Done()
		close(left)
		return kv.Errorf(kv.Unavailable, "gone: %w", ctx.Err())
	})
	hook(&c.nodes[1].replicas[1].onServe, func(context.Context) error {
		<-reached
		return kv.Errorf(kv.Corrupt, "a block is damaged")
	})
	_, err := c.nodes[2].MultiGet(t.Context(), &serverpb.MultiGetRequest{Keys: keysOf(20), ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
	wantStatus(t, err, codes.DataLoss, "a block is damaged")
	<-left
}
