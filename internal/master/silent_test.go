package master

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/master/mastertest"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestForwardDeadline has an owner that does not answer: the caller gets the reason before its
// deadline, and not much before.
func TestForwardDeadline(t *testing.T) {
	c := newCluster(t, 2, 1)
	mastertest.MustPut(t, c.Nodes[1], "a", "1") // the connection stands
	mastertest.Hook(&c.Nodes[0].Replicas[0].OnServe, func(ctx context.Context) error {
		<-ctx.Done()
		return kv.UnknownOutcome(kv.Unavailable, ctx.Err())
	})
	const limit = 300 * time.Millisecond
	for _, ask := range []struct {
		do   func(context.Context) error
		want string
	}{
		{func(ctx context.Context) error { _, err := c.Nodes[1].Put(ctx, mastertest.PutOf("a", "1")); return err }, kv.ReasonUnknown},
		{func(ctx context.Context) error {
			_, err := c.Nodes[1].Get(ctx, mastertest.Linearizable("a"))
			return err
		}, kv.ReasonNotApplied},
	} {
		testkit.Timely(t, func() error {
			begin := time.Now()
			err := ask.do(testkit.Within(t, limit))
			took := time.Since(begin)
			stated := strings.HasSuffix(status.Convert(err).Message(), "(outcome unknown)") == (ask.want == kv.ReasonUnknown)
			if status.Code(err) != codes.DeadlineExceeded || mastertest.Reason(err) != ask.want || !stated || took > limit || took < limit-50*time.Millisecond {
				return fmt.Errorf("after %v of %v: %w, reason %q", took, limit, err, mastertest.Reason(err))
			}
			return nil
		})
	}
}

// TestForwardCancel takes a request back: the owner need not go on with it.
func TestForwardCancel(t *testing.T) {
	c := newCluster(t, 2, 1)
	reached, left := make(chan struct{}), make(chan error)
	mastertest.Hook(&c.Nodes[0].Replicas[0].OnServe, func(ctx context.Context) error {
		reached <- struct{}{}
		<-ctx.Done()
		left <- ctx.Err()
		return kv.UnknownOutcome(kv.Unavailable, ctx.Err())
	})
	for i, ask := range []func(context.Context) error{
		func(ctx context.Context) error { _, err := c.Nodes[1].Put(ctx, mastertest.PutOf("a", "1")); return err },
		func(ctx context.Context) error {
			_, err := c.Nodes[1].Get(ctx, mastertest.Linearizable("a"))
			return err
		},
		func(ctx context.Context) error {
			s, err := c.Nodes[1].Iterate(ctx, &serverpb.IterateRequest{ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
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
			_, err := n.Put(ctx, mastertest.PutOf("a", "2"))
			return err
		}, kv.ReasonUnknown},
		"get": {func(ctx context.Context, n serverpb.DKVClient) error {
			resp, err := n.Get(ctx, mastertest.Linearizable("a"))
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
			c := newCluster(t, 3, 1)
			mastertest.MustPut(t, c.Nodes[1], "a", "1")
			reached := make(chan struct{}, 9)
			mastertest.Hook(&c.Nodes[0].Replicas[0].OnServe, func(ctx context.Context) error {
				reached <- struct{}{}
				<-ctx.Done()
				return kv.UnknownOutcome(kv.Unavailable, ctx.Err())
			})
			done := make(chan error)
			go func() { done <- ask.do(testkit.Within(t, patience), c.Nodes[1]) }()
			<-reached
			// The next owner is known only after the first has gone.
			c.Nodes[0].Kill()
			c.Own(0, 2)
			err := <-done
			if got := mastertest.Reason(err); got != ask.reason || err != nil && ask.reason == "" {
				t.Errorf("%v, reason %q, want %q", err, got, ask.reason)
			}
			if ask.reason != "" && (status.Code(err) != codes.Unavailable || !strings.HasSuffix(status.Convert(err).Message(), "(outcome unknown)")) {
				t.Error(err)
			}
			// Those that come later find the new one.
			mastertest.MustPut(t, c.Nodes[1], "b", "2")
			mastertest.MustGet(t, c.Nodes[1], "b", "2")
		})
	}
}

// TestReadLeavesSilentOwner has an owner that neither answers nor goes away: a
// read does not wait for it when there is another one.
func TestReadLeavesSilentOwner(t *testing.T) {
	c := newCluster(t, 3, 1)
	mastertest.MustPut(t, c.Nodes[1], "a", "1")
	reached := make(chan struct{}, 9)
	mastertest.Hook(&c.Nodes[0].Replicas[0].OnServe, func(ctx context.Context) error {
		reached <- struct{}{}
		<-ctx.Done()
		return kv.Errorf(kv.Unavailable, "gone: %w", ctx.Err())
	})
	asks := []func() error{
		func() error { _, err := c.Nodes[1].Get(t.Context(), mastertest.Linearizable("a")); return err },
		func() error {
			s, err := c.Nodes[1].Iterate(t.Context(), &serverpb.IterateRequest{ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
			if err == nil {
				_, err = s.Recv()
			}
			return err
		},
	}
	for i, ask := range asks {
		c.Own(0, 0)
		done := make(chan error)
		go func() { done <- ask() }()
		<-reached
		c.Own(0, 2)
		if err := <-done; err != nil {
			t.Errorf("ask %d: %v", i, err)
		}
	}
}

// TestOwnerOutOfReach ends at the deadline with nothing done.
func TestOwnerOutOfReach(t *testing.T) {
	c := newCluster(t, 2, 1)
	c.Nodes[0].Kill()
	const limit = 250 * time.Millisecond
	for _, owner := range []int{0, mastertest.NoOne} {
		c.Own(0, owner)
		testkit.Timely(t, func() error {
			begin := time.Now()
			_, err := c.Nodes[1].Put(testkit.Within(t, limit), mastertest.PutOf("a", "1"))
			took := time.Since(begin)
			if status.Code(err) != codes.Unavailable || mastertest.Reason(err) != kv.ReasonNotApplied || took > limit ||
				!strings.HasSuffix(status.Convert(err).Message(), "retry later (not applied)") {
				return fmt.Errorf("after %v of %v: %w, reason %q", took, limit, err, mastertest.Reason(err))
			}
			return nil
		})
	}
}
