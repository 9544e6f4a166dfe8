package master

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/master/mastertest"
	"github.com/dkvdb/dkv/internal/route"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestForwardAnswersAlike asks the owner and another node the same, over equal
// states: no client can tell which of them answered.
func TestForwardAnswersAlike(t *testing.T) {
	const level = serverpb.ReadConsistency_LINEARIZABLE
	key := []byte("counter")
	asks := []func(context.Context, serverpb.DKVClient) (proto.Message, error){
		func(ctx context.Context, c serverpb.DKVClient) (proto.Message, error) {
			return c.Put(ctx, &serverpb.PutRequest{Key: []byte("a"), Value: []byte("1"), ExpireTS: 1 << 40})
		},
		func(ctx context.Context, c serverpb.DKVClient) (proto.Message, error) {
			return c.MultiPut(ctx, &serverpb.MultiPutRequest{PutRequest: []*serverpb.PutRequest{mastertest.PutOf("b", "2"), mastertest.PutOf("c", "3")}})
		},
		func(ctx context.Context, c serverpb.DKVClient) (proto.Message, error) {
			return c.Increment(ctx, &serverpb.IncrementRequest{Key: key, Delta: 5})
		},
		func(ctx context.Context, c serverpb.DKVClient) (proto.Message, error) {
			return c.CompareAndSet(ctx, &serverpb.CompareAndSetRequest{Key: []byte("b"), OldValue: []byte("2"), NewValue: []byte("4")})
		},
		func(ctx context.Context, c serverpb.DKVClient) (proto.Message, error) {
			return c.CompareAndSet(ctx, &serverpb.CompareAndSetRequest{Key: []byte("b"), OldValue: []byte("2"), NewValue: []byte("4")})
		},
		func(ctx context.Context, c serverpb.DKVClient) (proto.Message, error) {
			return c.Delete(ctx, &serverpb.DeleteRequest{Key: []byte("c")})
		},
		func(ctx context.Context, c serverpb.DKVClient) (proto.Message, error) {
			return c.Get(ctx, mastertest.Linearizable("a"))
		},
		func(ctx context.Context, c serverpb.DKVClient) (proto.Message, error) {
			return c.Get(ctx, mastertest.Linearizable("c"))
		},
		func(ctx context.Context, c serverpb.DKVClient) (proto.Message, error) {
			return c.MultiGet(ctx, &serverpb.MultiGetRequest{Keys: [][]byte{[]byte("b"), []byte("c"), []byte("a")}, ReadConsistency: level})
		},
		func(ctx context.Context, c serverpb.DKVClient) (proto.Message, error) {
			s, err := c.Iterate(ctx, &serverpb.IterateRequest{ReadConsistency: level, Batched: true})
			if err != nil {
				return nil, err
			}
			return s.Recv()
		},
		// Refusals, of the node that is asked and of the owner.
		func(ctx context.Context, c serverpb.DKVClient) (proto.Message, error) {
			return c.Put(ctx, mastertest.PutOf("", "1"))
		},
		func(ctx context.Context, c serverpb.DKVClient) (proto.Message, error) {
			return c.Increment(ctx, &serverpb.IncrementRequest{Key: []byte("a"), Delta: 1})
		},
		func(ctx context.Context, c serverpb.DKVClient) (proto.Message, error) {
			s, err := c.Iterate(ctx, &serverpb.IterateRequest{ReadConsistency: 7})
			if err != nil {
				return nil, err
			}
			return s.Recv()
		},
	}
	direct, hop := newCluster(t, 2, 1), newCluster(t, 2, 1)
	for i, ask := range asks {
		want, wantErr := ask(testkit.Within(t, patience), direct.Nodes[0])
		got, gotErr := ask(testkit.Within(t, patience), hop.Nodes[1])
		if wantErr == nil && (gotErr != nil || !proto.Equal(got, want)) {
			t.Errorf("ask %d: %v, %v; the owner says %v", i, got, gotErr, want)
		}
		if wantErr != nil && (status.Code(gotErr) != status.Code(wantErr) || status.Convert(gotErr).Message() != status.Convert(wantErr).Message() || mastertest.Reason(gotErr) != mastertest.Reason(wantErr)) {
			t.Errorf("ask %d: %v\nthe owner says %v", i, gotErr, wantErr)
		}
	}
	if got := hop.Nodes[1].Router.Forwards(); got != (route.Forwards{Reads: 4, Writes: 7}) {
		t.Errorf("forwards: %+v", got)
	}
	if got := hop.Nodes[0].Router.Forwards(); got != (route.Forwards{}) {
		t.Errorf("the owner forwarded: %+v", got)
	}
}

func TestSequentialReadsStay(t *testing.T) {
	c := newCluster(t, 2, 1)
	mastertest.MustPut(t, c.Nodes[0], "a", "1")
	c.Nodes[0].Kill()
	for _, owner := range []int{0, mastertest.NoOne} {
		c.Own(0, owner)
		got, err := c.Nodes[1].Get(testkit.Within(t, patience), &serverpb.GetRequest{Key: []byte("a")})
		if err != nil || string(got.GetValue()) != "1" {
			t.Errorf("%v, %v", got, err)
		}
	}
	if got := c.Nodes[1].Router.Forwards(); got != (route.Forwards{}) {
		t.Errorf("forwards: %+v", got)
	}
}

// TestOwnerIsFoundInTheEnd asks a node that is late to know the owner.
func TestOwnerIsFoundInTheEnd(t *testing.T) {
	for _, c := range []struct {
		name  string
		stale int // whom node 0 takes for the owner at first
	}{{"none", mastertest.NoOne}, {"another", 1}, {"itself", 0}, {"unreachable", 3}} {
		t.Run(c.name, func(t *testing.T) {
			tr := newCluster(t, 3, 1)
			tr.Nodes = append(tr.Nodes, &mastertest.Member{Addr: testkit.Address(t)})
			owned := tr.Nodes[0].Replicas[0]
			for n := range 3 {
				tr.Nodes[n].Replicas[0].SetOwner(2)
			}
			for i, ask := range []func(){
				func() {
					if got := mastertest.MustPut(t, tr.Nodes[0], "a", "1").GetIndex(); got != 1 {
						t.Errorf("index %d: it was applied before", got)
					}
				},
				func() { mastertest.MustGet(t, tr.Nodes[0], "a", "1") },
			} {
				owned.SetOwner(c.stale)
				var looks atomic.Int32 // one goroutine forwards, another watches where the owner is
				mastertest.Hook(&owned.OnOwner, func() {
					if looks.Add(1) == 4 {
						owned.SetOwner(2)
					}
				})
				if c.stale == 0 {
					// It believes so, until it tries.
					mastertest.Hook(&owned.OnServe, func(context.Context) error {
						owned.SetOwner(2)
						return kv.Errorf(kv.NotOwner, "fenced")
					})
				}
				ask()
				if looks.Load() < 2 {
					t.Errorf("ask %d: looked for the owner %d times", i, looks.Load())
				}
			}
		})
	}
}

// TestForwardedOnce lets two nodes take each other for the owner: a request goes
// from one to the other and back, and no further.
func TestForwardedOnce(t *testing.T) {
	c := newCluster(t, 2, 1)
	c.Nodes[0].Replicas[0].SetOwner(1)
	c.Nodes[1].Replicas[0].SetOwner(0)
	const limit = 300 * time.Millisecond
	for _, ask := range []struct {
		name string
		do   func(context.Context) error
		text string
	}{
		{"put", func(ctx context.Context) error {
			_, err := c.Nodes[0].Put(ctx, mastertest.PutOf("a", "1"))
			return err
		}, "the node that was asked as the owner no longer owns the log, which is moving to another node; retry later (not applied)"},
		{"get", func(ctx context.Context) error {
			_, err := c.Nodes[0].Get(ctx, mastertest.Linearizable("a"))
			return err
		}, "the node that was asked as the owner no longer owns the log, which is moving to another node; retry later"},
		{"iterate", func(ctx context.Context) error {
			s, err := c.Nodes[0].Iterate(ctx, &serverpb.IterateRequest{ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
			if err == nil {
				_, err = s.Recv()
			}
			return err
		}, "the node that was asked as the owner no longer owns the log, which is moving to another node; retry later"},
		{"pause", func(ctx context.Context) error {
			_, err := c.Nodes[0].Ops.PauseWrites(ctx, nil)
			return err
		}, "the node that was asked as the owner no longer owns the log, which is moving to another node; retry later (not applied)"},
	} {
		t.Run(ask.name, func(t *testing.T) {
			testkit.Timely(t, func() error {
				begin := time.Now()
				err := ask.do(testkit.Within(t, limit))
				took := time.Since(begin)
				if got := status.Convert(err); got.Code() != codes.Unavailable || got.Message() != ask.text || mastertest.Reason(err) != kv.ReasonNotApplied || took >= limit || took < limit/2 {
					return fmt.Errorf("after %v of %v: %w, reason %q", took, limit, err, mastertest.Reason(err))
				}
				return nil
			})
		})
	}
	if got := c.Nodes[1].Router.Forwards(); got != (route.Forwards{}) {
		t.Errorf("forwarded on: %+v", got)
	}
}

// TestForwardedIsTurnedAway asks as another node does.
func TestForwardedIsTurnedAway(t *testing.T) {
	c := newCluster(t, 2, 2)
	ctx := metadata.AppendToOutgoingContext(testkit.Within(t, patience), string(route.Forwarded), "1")
	n := c.Nodes[1] // which owns nothing
	_, err := n.Put(ctx, mastertest.PutOf("a", "1"))
	if v := c.VBucketOf("a"); status.Convert(err).Message() != "this node does not own vBucket "+v+"; ask its owner (not applied)" {
		t.Error(err)
	}
	for i, ask := range []func() error{
		func() error { return err },
		func() error { _, err := n.Get(ctx, mastertest.Linearizable("a")); return err },
		func() error {
			_, err := n.MultiGet(ctx, &serverpb.MultiGetRequest{Keys: mastertest.Keys(20), ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
			return err
		},
		func() error {
			s, err := n.Iterate(ctx, &serverpb.IterateRequest{ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
			if err == nil {
				_, err = s.Recv()
			}
			return err
		},
		func() error { _, err := n.Ops.PauseWrites(ctx, nil); return err },
	} {
		if err := ask(); status.Code(err) != codes.Unavailable || mastertest.Reason(err) != kv.ReasonNotOwner {
			t.Errorf("ask %d: %v, reason %s", i, err, mastertest.Reason(err))
		}
	}
	ctx = metadata.AppendToOutgoingContext(ctx, "dkv-vbucket", "v7")
	_, err = n.Ops.PauseWrites(ctx, nil)
	mastertest.WantStatus(t, err, codes.NotFound, `this node has no vBucket "v7"; it has [v0 v1] (not applied)`)
}

// TestForwardOversized asks for more than a response may hold.
func TestForwardOversized(t *testing.T) {
	c := newCluster(t, 2, 1)
	big := strings.Repeat("x", 1<<20)
	var keys [][]byte
	for _, k := range []string{"a", "b", "c"} {
		mastertest.MustPut(t, c.Nodes[1], k, big[:len(big)-1])
		keys = append(keys, []byte(k))
	}
	_, err := c.Nodes[1].MultiGet(testkit.Within(t, patience), &serverpb.MultiGetRequest{Keys: keys, ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
	mastertest.WantStatus(t, err, codes.ResourceExhausted, "the pairs exceed 2097152 bytes, the limit of a response (max-message-size); ask for fewer keys")
	// One such value goes both ways.
	mastertest.MustGet(t, c.Nodes[1], "a", big[:len(big)-1])
}

// TestOwnerPaysNothing measures what looking for the owner costs it.
func TestOwnerPaysNothing(t *testing.T) {
	c := newCluster(t, 1, 1)
	r := c.Nodes[0].Replicas[0]
	k := route.NewKeyspace(route.VBucket{Name: "v0", Replica: r})
	ctx, req := t.Context(), mastertest.Linearizable("a")
	get := func(f func() (*serverpb.GetResponse, error)) float64 {
		return testing.AllocsPerRun(200, func() {
			if _, err := f(); err != nil {
				t.Error(err)
			}
		})
	}
	routed := NewKV(k, clusterLimits, c.Nodes[0].Router)
	with := get(func() (*serverpb.GetResponse, error) { return routed.Get(ctx, req) })
	without := get(func() (*serverpb.GetResponse, error) {
		opts, err := readOptions(req)
		if err != nil {
			return nil, err
		}
		pair, found, info, err := k.Of(req.Key).Get(ctx, req.Key, opts)
		if err != nil {
			return nil, err
		}
		return &serverpb.GetResponse{Status: &serverpb.Status{}, Value: pair.Value, Found: found, Index: info.Index, ExpireTS: pair.ExpireTS}, nil
	})
	if with > without {
		t.Errorf("%v allocations, and %v without looking for the owner", with, without)
	}
}
