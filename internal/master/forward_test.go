package master

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestForwardAnswersAlike asks the owner and another node the same, over equal
// states: nobody can tell which of them answered.
func TestForwardAnswersAlike(t *testing.T) {
	const level = serverpb.ReadConsistency_LINEARIZABLE
	key := []byte("counter")
	asks := []func(context.Context, serverpb.DKVClient) (proto.Message, error){
		func(ctx context.Context, c serverpb.DKVClient) (proto.Message, error) {
			return c.Put(ctx, &serverpb.PutRequest{Key: []byte("a"), Value: []byte("1"), ExpireTS: 1 << 40})
		},
		func(ctx context.Context, c serverpb.DKVClient) (proto.Message, error) {
			return c.MultiPut(ctx, &serverpb.MultiPutRequest{PutRequest: []*serverpb.PutRequest{putOf("b", "2"), putOf("c", "3")}})
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
			return c.Get(ctx, linearizable("a"))
		},
		func(ctx context.Context, c serverpb.DKVClient) (proto.Message, error) {
			return c.Get(ctx, linearizable("c"))
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
			return c.Put(ctx, putOf("", "1"))
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
	direct, hop := newTrial(t, 2, 1), newTrial(t, 2, 1)
	for i, ask := range asks {
		want, wantErr := ask(testkit.Within(t, patience), direct.nodes[0])
		got, gotErr := ask(testkit.Within(t, patience), hop.nodes[1])
		if wantErr == nil && (gotErr != nil || !proto.Equal(got, want)) {
			t.Errorf("ask %d: %v, %v; the owner says %v", i, got, gotErr, want)
		}
		if wantErr != nil && (status.Code(gotErr) != status.Code(wantErr) || status.Convert(gotErr).Message() != status.Convert(wantErr).Message() || reason(gotErr) != reason(wantErr)) {
			t.Errorf("ask %d: %v\nthe owner says %v", i, gotErr, wantErr)
		}
	}
	if got := hop.nodes[1].router.Forwards(); got != (Forwards{Reads: 4, Writes: 7}) {
		t.Errorf("forwards: %+v", got)
	}
	if got := hop.nodes[0].router.Forwards(); got != (Forwards{}) {
		t.Errorf("the owner forwarded: %+v", got)
	}
}

func TestSequentialReadsStay(t *testing.T) {
	c := newTrial(t, 2, 1)
	mustPut(t, c.nodes[0], "a", "1")
	c.nodes[0].kill()
	for _, owner := range []int{0, nobody} {
		c.own(0, owner)
		got, err := c.nodes[1].Get(testkit.Within(t, patience), &serverpb.GetRequest{Key: []byte("a")})
		if err != nil || string(got.GetValue()) != "1" {
			t.Errorf("%v, %v", got, err)
		}
	}
	if got := c.nodes[1].router.Forwards(); got != (Forwards{}) {
		t.Errorf("forwards: %+v", got)
	}
}

// TestOwnerIsFoundInTheEnd asks a node that is late to know the owner.
func TestOwnerIsFoundInTheEnd(t *testing.T) {
	for _, c := range []struct {
		name  string
		stale int // whom node 0 takes for the owner at first
	}{{"nobody", nobody}, {"another", 1}, {"itself", 0}, {"unreachable", 3}} {
		t.Run(c.name, func(t *testing.T) {
			tr := newTrial(t, 3, 1)
			tr.nodes = append(tr.nodes, &trialNode{addr: testkit.Address(t)})
			owned := tr.nodes[0].replicas[0]
			for n := range 3 {
				tr.nodes[n].replicas[0].owner.Store(2)
			}
			for i, ask := range []func(){
				func() {
					if got := mustPut(t, tr.nodes[0], "a", "1").GetIndex(); got != 1 {
						t.Errorf("index %d: it was applied before", got)
					}
				},
				func() { mustGet(t, tr.nodes[0], "a", "1") },
			} {
				owned.owner.Store(int64(c.stale))
				looks := 0
				hook(&owned.onOwner, func() {
					if looks++; looks == 4 {
						owned.owner.Store(2)
					}
				})
				if c.stale == 0 {
					// It believes so, until it tries.
					hook(&owned.onServe, func(context.Context) error {
						owned.owner.Store(2)
						return kv.Errorf(kv.NotOwner, "fenced")
					})
				}
				ask()
				if looks < 2 {
					t.Errorf("ask %d: looked for the owner %d times", i, looks)
				}
			}
		})
	}
}

// TestForwardedOnce lets two nodes take each other for the owner: a request goes
// from one to the other and back, and no further.
func TestForwardedOnce(t *testing.T) {
	c := newTrial(t, 2, 1)
	c.nodes[0].replicas[0].owner.Store(1)
	c.nodes[1].replicas[0].owner.Store(0)
	const limit = 300 * time.Millisecond
	for _, ask := range []struct {
		name string
		do   func(context.Context) error
		text string
	}{
		{"put", func(ctx context.Context) error {
			_, err := c.nodes[0].Put(ctx, putOf("a", "1"))
			return err
		}, "the node that is taken for the owner says that it is not, so that the log is changing hands; retry later (not applied)"},
		{"get", func(ctx context.Context) error {
			_, err := c.nodes[0].Get(ctx, linearizable("a"))
			return err
		}, "the node that is taken for the owner says that it is not, so that the log is changing hands; retry later"},
		{"iterate", func(ctx context.Context) error {
			s, err := c.nodes[0].Iterate(ctx, &serverpb.IterateRequest{ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
			if err == nil {
				_, err = s.Recv()
			}
			return err
		}, "the node that is taken for the owner says that it is not, so that the log is changing hands; retry later"},
		{"pause", func(ctx context.Context) error {
			_, err := c.nodes[0].ops.PauseWrites(ctx, nil)
			return err
		}, "the node that is taken for the owner says that it is not, so that the log is changing hands; retry later (not applied)"},
	} {
		t.Run(ask.name, func(t *testing.T) {
			timely(t, func() error {
				begin := time.Now()
				err := ask.do(testkit.Within(t, limit))
				took := time.Since(begin)
				if got := status.Convert(err); got.Code() != codes.Unavailable || got.Message() != ask.text || reason(err) != kv.ReasonNotApplied || took >= limit || took < limit/2 {
					return fmt.Errorf("after %v of %v: %w, reason %q", took, limit, err, reason(err))
				}
				return nil
			})
		})
	}
	if got := c.nodes[1].router.Forwards(); got != (Forwards{}) {
		t.Errorf("forwarded on: %+v", got)
	}
}

// TestForwardedIsTurnedAway asks as another node does.
func TestForwardedIsTurnedAway(t *testing.T) {
	c := newTrial(t, 2, 2)
	ctx := metadata.AppendToOutgoingContext(testkit.Within(t, patience), forwardedMark, "1")
	n := c.nodes[1] // which owns nothing
	_, err := n.Put(ctx, putOf("a", "1"))
	if v := c.vBucketOf("a"); status.Convert(err).Message() != "this node does not own vBucket "+v+"; ask its owner (not applied)" {
		t.Error(err)
	}
	for i, ask := range []func() error{
		func() error { return err },
		func() error { _, err := n.Get(ctx, linearizable("a")); return err },
		func() error {
			_, err := n.MultiGet(ctx, &serverpb.MultiGetRequest{Keys: keysOf(20), ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
			return err
		},
		func() error {
			s, err := n.Iterate(ctx, &serverpb.IterateRequest{ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
			if err == nil {
				_, err = s.Recv()
			}
			return err
		},
		func() error { _, err := n.ops.PauseWrites(ctx, nil); return err },
	} {
		if err := ask(); status.Code(err) != codes.Unavailable || reason(err) != kv.ReasonNotOwner {
			t.Errorf("ask %d: %v, reason %s", i, err, reason(err))
		}
	}
	ctx = metadata.AppendToOutgoingContext(ctx, vBucketMark, "v7")
	_, err = n.ops.PauseWrites(ctx, nil)
	wantStatus(t, err, codes.NotFound, `this node has no vBucket "v7"; it has [v0 v1] (not applied)`)
}

// TestForwardDeadline has an owner that does not answer: whoever asked is told
// why before the deadline, and not much before.
func TestForwardDeadline(t *testing.T) {
	c := newTrial(t, 2, 1)
	mustPut(t, c.nodes[1], "a", "1") // the connection stands
	hook(&c.nodes[0].replicas[0].onServe, func(ctx context.Context) error {
		<-ctx.Done()
		return kv.UnknownOutcome(kv.Unavailable, ctx.Err())
	})
	const limit = 300 * time.Millisecond
	for _, ask := range []struct {
		do   func(context.Context) error
		want string
	}{
		{func(ctx context.Context) error { _, err := c.nodes[1].Put(ctx, putOf("a", "1")); return err }, kv.ReasonUnknown},
		{func(ctx context.Context) error { _, err := c.nodes[1].Get(ctx, linearizable("a")); return err }, kv.ReasonNotApplied},
	} {
		timely(t, func() error {
			begin := time.Now()
			err := ask.do(testkit.Within(t, limit))
			took := time.Since(begin)
			stated := strings.HasSuffix(status.Convert(err).Message(), "(outcome unknown)") == (ask.want == kv.ReasonUnknown)
			if status.Code(err) != codes.DeadlineExceeded || reason(err) != ask.want || !stated || took > limit || took < limit-50*time.Millisecond {
				return fmt.Errorf("after %v of %v: %w, reason %q", took, limit, err, reason(err))
			}
			return nil
		})
	}
}

// TestForwardCancel takes a request back: the owner need not go on with it.
func TestForwardCancel(t *testing.T) {
	c := newTrial(t, 2, 1)
	reached, left := make(chan struct{}), make(chan error)
	hook(&c.nodes[0].replicas[0].onServe, func(ctx context.Context) error {
		reached <- struct{}{}
		<-ctx.Done()
		left <- ctx.Err()
		return kv.UnknownOutcome(kv.Unavailable, ctx.Err())
	})
	for i, ask := range []func(context.Context) error{
		func(ctx context.Context) error { _, err := c.nodes[1].Put(ctx, putOf("a", "1")); return err },
		func(ctx context.Context) error { _, err := c.nodes[1].Get(ctx, linearizable("a")); return err },
		func(ctx context.Context) error {
			s, err := c.nodes[1].Iterate(ctx, &serverpb.IterateRequest{ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
			if err == nil {
				_, err = s.Recv()
			}
			return err
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- ask(ctx) }()
		<-reached
		cancel()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("ask %d: at the owner: %v", i, err)
		}
		if err := <-done; status.Code(err) != codes.Canceled {
			t.Errorf("ask %d: %v", i, err)
		}
	}
}

// TestOwnerDies cuts the owner off while it works on a request.
func TestOwnerDies(t *testing.T) {
	asks := map[string]struct {
		do     func(context.Context, serverpb.DKVClient) error
		reason string
	}{
		"put": {func(ctx context.Context, n serverpb.DKVClient) error {
			_, err := n.Put(ctx, putOf("a", "2"))
			return err
		}, kv.ReasonUnknown},
		"get": {func(ctx context.Context, n serverpb.DKVClient) error {
			resp, err := n.Get(ctx, linearizable("a"))
			if err == nil && string(resp.GetValue()) != "1" {
				err = errors.New("another value")
			}
			return err
		}, ""},
		"iterate": {func(ctx context.Context, n serverpb.DKVClient) error {
			s, err := n.Iterate(ctx, &serverpb.IterateRequest{ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
			if err == nil {
				_, err = s.Recv()
			}
			return err
		}, ""},
	}
	for name, ask := range asks {
		t.Run(name, func(t *testing.T) {
			c := newTrial(t, 3, 1)
			mustPut(t, c.nodes[1], "a", "1")
			reached := make(chan struct{}, 9)
			hook(&c.nodes[0].replicas[0].onServe, func(ctx context.Context) error {
				reached <- struct{}{}
				<-ctx.Done()
				return kv.UnknownOutcome(kv.Unavailable, ctx.Err())
			})
			done := make(chan error)
			go func() { done <- ask.do(testkit.Within(t, patience), c.nodes[1]) }()
			<-reached
			// The next owner is known only after the first has gone.
			c.nodes[0].kill()
			c.own(0, 2)
			err := <-done
			if got := reason(err); got != ask.reason || err != nil && ask.reason == "" {
				t.Errorf("%v, reason %q, want %q", err, got, ask.reason)
			}
			if ask.reason != "" && (status.Code(err) != codes.Unavailable || !strings.HasSuffix(status.Convert(err).Message(), "(outcome unknown)")) {
				t.Error(err)
			}
			// Those that come later find the new one.
			mustPut(t, c.nodes[1], "b", "2")
			mustGet(t, c.nodes[1], "b", "2")
		})
	}
}

// TestReadLeavesSilentOwner has an owner that neither answers nor goes away: a
// read does not wait for it when there is another one.
func TestReadLeavesSilentOwner(t *testing.T) {
	c := newTrial(t, 3, 1)
	mustPut(t, c.nodes[1], "a", "1")
	reached := make(chan struct{}, 9)
	hook(&c.nodes[0].replicas[0].onServe, func(ctx context.Context) error {
		reached <- struct{}{}
		<-ctx.Done()
		return kv.Errorf(kv.Unavailable, "gone: %w", ctx.Err())
	})
	asks := []func() error{
		func() error { _, err := c.nodes[1].Get(t.Context(), linearizable("a")); return err },
		func() error {
			s, err := c.nodes[1].Iterate(t.Context(), &serverpb.IterateRequest{ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
			if err == nil {
				_, err = s.Recv()
			}
			return err
		},
	}
	for i, ask := range asks {
		c.own(0, 0)
		done := make(chan error)
		go func() { done <- ask() }()
		<-reached
		c.own(0, 2)
		if err := <-done; err != nil {
			t.Errorf("ask %d: %v", i, err)
		}
	}
}

// TestOwnerOutOfReach ends at the deadline with nothing done.
func TestOwnerOutOfReach(t *testing.T) {
	c := newTrial(t, 2, 1)
	c.nodes[0].kill()
	const limit = 250 * time.Millisecond
	for _, owner := range []int{0, nobody} {
		c.own(0, owner)
		timely(t, func() error {
			begin := time.Now()
			_, err := c.nodes[1].Put(testkit.Within(t, limit), putOf("a", "1"))
			took := time.Since(begin)
			if status.Code(err) != codes.Unavailable || reason(err) != kv.ReasonNotApplied || took > limit ||
				!strings.HasSuffix(status.Convert(err).Message(), "retry later (not applied)") {
				return fmt.Errorf("after %v of %v: %w, reason %q", took, limit, err, reason(err))
			}
			return nil
		})
	}
}

// TestForwardOversized asks for more than a response may hold.
func TestForwardOversized(t *testing.T) {
	c := newTrial(t, 2, 1)
	big := strings.Repeat("x", 1<<20)
	var keys [][]byte
	for _, k := range []string{"a", "b", "c"} {
		mustPut(t, c.nodes[1], k, big[:len(big)-1])
		keys = append(keys, []byte(k))
	}
	_, err := c.nodes[1].MultiGet(testkit.Within(t, patience), &serverpb.MultiGetRequest{Keys: keys, ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
	wantStatus(t, err, codes.ResourceExhausted, "the pairs exceed 2097152 bytes, the limit of a response (max-message-size); ask for fewer keys")
	// One such value goes both ways.
	mustGet(t, c.nodes[1], "a", big[:len(big)-1])
}

// TestOwnerPaysNothing measures what looking for the owner costs it.
func TestOwnerPaysNothing(t *testing.T) {
	c := newTrial(t, 1, 1)
	r := c.nodes[0].replicas[0]
	k := NewKeyspace(VBucket{Name: "v0", Replica: r})
	ctx, req := t.Context(), linearizable("a")
	get := func(f func() (*serverpb.GetResponse, error)) float64 {
		return testing.AllocsPerRun(200, func() {
			if _, err := f(); err != nil {
				t.Error(err)
			}
		})
	}
	routed := NewKV(k, trialLimits, c.nodes[0].router)
	with := get(func() (*serverpb.GetResponse, error) { return routed.Get(ctx, req) })
	without := get(func() (*serverpb.GetResponse, error) {
		opts, err := readOptions(req)
		if err != nil {
			return nil, err
		}
		return getHere(ctx, k.Of(req.Key), req.Key, opts)
	})
	if with > without {
		t.Errorf("%v allocations, and %v without looking for the owner", with, without)
	}
}
