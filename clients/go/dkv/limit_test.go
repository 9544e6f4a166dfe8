package dkv

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/testkit"
)

// limited is the error of a call beyond a limit that ends after a pause.
func limited(t *testing.T, pause time.Duration, reason string) error {
	t.Helper()
	st, err := status.New(codes.ResourceExhausted, "too many requests").WithDetails(
		&errdetails.RetryInfo{RetryDelay: durationpb.New(pause)}, &errdetails.ErrorInfo{Domain: kv.ErrorDomain, Reason: reason})
	if err != nil {
		t.Fatal(err)
	}
	return st.Err()
}

// A call that a limit rejects is repeated after the pause that the node asks for, if there
// is time for it, and not before. A full disk asks for none.
func TestLimitsAreWaitedFor(t *testing.T) {
	const pause = 300 * time.Millisecond
	for name, c := range map[string]struct {
		reject error
		calls  int
		kind   error
	}{
		"a limit":                             {limited(t, pause, kv.ReasonNotApplied), 2, nil},
		"no time for the wait":                {limited(t, time.Hour, kv.ReasonNotApplied), 1, ErrExhausted},
		"a limit that may have come too late": {limited(t, pause, kv.ReasonUnknown), 1, ErrOutcomeUnknown},
		"a full disk":                         {explained(codes.ResourceExhausted, kv.ReasonNotApplied, "the disk is full"), 1, ErrExhausted},
	} {
		t.Run(name, func(t *testing.T) {
			cl := newCluster(t, 1, 1)
			client := ready(t, cl.addrs())
			cl.nodes[0].fail(func(_ context.Context, method string) error {
				if method == putMethod && cl.nodes[0].count(putMethod) == 1 {
					return c.reject
				}
				return nil
			}, nil)
			began := time.Now()
			_, err := client.Put(testkit.Within(t, enough), []byte("k"), nil)
			took := time.Since(began)
			if c.kind == nil && (err != nil || took < pause) || c.kind != nil && (!errors.Is(err, ErrExhausted) || errors.Is(err, ErrOutcomeUnknown) != (c.kind == ErrOutcomeUnknown) || took > enough/2) {
				t.Errorf("%v after %v", err, took)
			}
			if n := cl.nodes[0].count(putMethod); n != c.calls {
				t.Errorf("it was sent %d times, want %d", n, c.calls)
			}
		})
	}
}

func TestOwnTimeLimit(t *testing.T) {
	cl := newCluster(t, 1, 1)
	c := ready(t, cl.addrs(), WithTimeout(30*time.Millisecond))
	cl.nodes[0].hang()
	cancelable, cancel := context.WithCancel(context.Background())
	defer cancel()
	for _, ctx := range []context.Context{context.Background(), cancelable} {
		began := time.Now()
		if _, err := c.Get(ctx, []byte("k")); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if took := time.Since(began); took < 30*time.Millisecond {
			t.Errorf("gave up after %s", took)
		}
	}
}

// A time limit of no end does not wrap around.
func TestNoTimeLimit(t *testing.T) {
	c := ready(t, newCluster(t, 1, 1).addrs(), WithTimeout(math.MaxInt64))
	must[uint64](t)(c.Put(context.Background(), []byte("k"), nil))
	for _, err := range c.Iterate(context.Background(), Range{}) {
		if err != nil {
			t.Error(err)
		}
	}
}
