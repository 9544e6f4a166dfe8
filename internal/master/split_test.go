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
	"github.com/dkvdb/dkv/internal/master/mastertest"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestMultiGetAcross compares with a map: pairs come in the order of the request, whichever node
// owns them, without missing keys, and again for keys that are requested again.
func TestMultiGetAcross(t *testing.T) {
	const vBuckets = 5
	c := newCluster(t, 3, vBuckets)
	for v := range vBuckets {
		c.Own(v, v%3)
	}
	model := make(map[string]string)
	keys := mastertest.Keys(400)
	for i, key := range keys {
		if i%3 != 0 {
			model[string(key)] = fmt.Sprint(i)
			mastertest.MustPut(t, c.Nodes[i%3], string(key), fmt.Sprint(i))
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
		resp, err := c.Nodes[rnd.IntN(3)].MultiGet(testkit.Within(t, patience), req)
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
	c := newCluster(t, 2, 2)
	_, err := c.Nodes[1].MultiGet(testkit.Within(t, patience), &serverpb.MultiGetRequest{Keys: mastertest.Keys(20), MinIndex: 1})
	mastertest.WantStatus(t, err, codes.InvalidArgument, "minIndex is an index of one vBucket, and the request is about 2; leave it out, or use LINEARIZABLE")

	// Each owner's pairs fit in a response, those of both do not.
	c.Own(1, 1)
	value := strings.Repeat("v", 300_000)
	req := &serverpb.MultiGetRequest{ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE}
	for _, key := range mastertest.Keys(10) {
		mastertest.MustPut(t, c.Nodes[0], string(key), value)
		req.Keys = append(req.Keys, key)
	}
	for _, n := range c.Nodes {
		_, err = n.MultiGet(testkit.Within(t, patience), req)
		mastertest.WantStatus(t, err, codes.ResourceExhausted, "the pairs exceed 2097152 bytes, the limit of a response (max-message-size); ask for fewer keys")
	}
}

// TestMultiGetRetriesOwner has one of two owners change.
func TestMultiGetRetriesOwner(t *testing.T) {
	c := newCluster(t, 3, 2)
	for _, key := range mastertest.Keys(20) {
		mastertest.MustPut(t, c.Nodes[0], string(key), "v")
	}
	c.Own(1, 1)
	mastertest.Hook(&c.Nodes[1].Replicas[1].OnServe, func(context.Context) error {
		c.Own(1, 2)
		return kv.Errorf(kv.NotOwner, "handed over")
	})
	for i, n := range []*mastertest.Member{c.Nodes[0], c.Nodes[2], c.Nodes[1]} {
		c.Own(1, 1)
		resp, err := n.MultiGet(testkit.Within(t, patience), &serverpb.MultiGetRequest{Keys: mastertest.Keys(20), ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
		if err != nil || len(resp.GetKeyValues()) != 20 {
			t.Errorf("node %d: %d pairs, %v", i, len(resp.GetKeyValues()), err)
		}
	}
}

// TestMultiGetEndsAtError does not wait for one owner when another one has refused.
func TestMultiGetEndsAtError(t *testing.T) {
	c := newCluster(t, 3, 2)
	c.Own(1, 1)
	reached, left := make(chan struct{}), make(chan struct{})
	mastertest.Hook(&c.Nodes[0].Replicas[0].OnServe, func(ctx context.Context) error {
		close(reached)
		<-ctx.Done()
		close(left)
		return kv.Errorf(kv.Unavailable, "gone: %w", ctx.Err())
	})
	mastertest.Hook(&c.Nodes[1].Replicas[1].OnServe, func(context.Context) error {
		<-reached
		return kv.Errorf(kv.Corrupt, "a block is damaged")
	})
	_, err := c.Nodes[2].MultiGet(t.Context(), &serverpb.MultiGetRequest{Keys: mastertest.Keys(20), ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
	mastertest.WantStatus(t, err, codes.DataLoss, "a block is damaged")
	<-left
}
