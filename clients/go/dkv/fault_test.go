package dkv

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/testkit"
)

const (
	putMethod       = serverpb.DKV_Put_FullMethodName
	getMethod       = serverpb.DKV_Get_FullMethodName
	incrementMethod = serverpb.DKV_Increment_FullMethodName
	watchMethod     = serverpb.DKVReplication_WatchChanges_FullMethodName
)

// ready is open and WaitReady.
func ready(t testing.TB, target string, opts ...Option) *Client {
	t.Helper()
	c := open(t, target, opts...)
	if err := c.WaitReady(testkit.Within(t, enough)); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestLeaderChange(t *testing.T) {
	cl := newCluster(t, 3, 1)
	c := ready(t, cl.addrs())
	ctx := testkit.Within(t, enough)
	for i := range 6 {
		must[uint64](t)(c.Put(ctx, []byte{1}, fmt.Append(nil, i)))
		if got := must[Value](t)(c.Get(ctx, []byte{1})); string(got.Bytes) != fmt.Sprint(i) {
			t.Fatalf("got %q after putting %d", got.Bytes, i)
		}
		cl.lead(cl.nodes[(i+1)%3])
	}
}

func TestNoLeaderForAWhile(t *testing.T) {
	cl := newCluster(t, 3, 1)
	c := ready(t, cl.addrs())
	cl.lead(nil)
	done := make(chan error, 1)
	go func() {
		_, err := c.Put(testkit.Within(t, enough), []byte{1}, nil)
		done <- err
	}()
	testkit.Eventually(t, "the put is refused", func() bool { return cl.nodes[0].count(putMethod) > 0 })
	cl.lead(cl.nodes[2])
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// The leader is killed during many increments: each call that succeeded counts once, even
// if it was sent twice.
func TestKillLeaderDuringBurst(t *testing.T) {
	const workers, each = 8, 50
	cl := newCluster(t, 3, 1)
	c := ready(t, cl.addrs())
	ctx := testkit.Within(t, enough)
	var lost atomic.Int64
	cl.nodes[0].fail(nil, func(_ context.Context, method string) error {
		if method == incrementMethod && lost.Add(1)%3 == 0 { // applied, and the answer gets lost
			return status.Error(codes.Unavailable, "lost")
		}
		return nil
	})
	var acked atomic.Int64
	var g sync.WaitGroup
	for range workers {
		g.Go(func() {
			for range each {
				if _, _, err := c.Increment(ctx, []byte("n"), 1); err != nil {
					t.Error(err)
					return
				}
				if acked.Add(1) == workers*each/4 {
					cl.nodes[0].stop()
					cl.lead(cl.nodes[1])
				}
			}
		})
	}
	g.Wait()
	if got := binary.BigEndian.Uint64([]byte(cl.pairs()["n"])); got != workers*each {
		t.Fatalf("the counter is %d after %d increments", got, workers*each)
	}
	if lost.Load() < 3 {
		t.Fatal("no answer was lost")
	}
}

func TestLostAnswerWithoutID(t *testing.T) {
	cl := newCluster(t, 1, 1)
	c := ready(t, cl.addrs(), WithoutIdempotency())
	cl.nodes[0].fail(nil, func(_ context.Context, method string) error {
		if method == incrementMethod {
			return status.Error(codes.Unavailable, "lost")
		}
		return nil
	})
	_, _, err := c.Increment(testkit.Within(t, enough), []byte("n"), 1)
	if !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "outcome unknown") {
		t.Error(err)
	}
	if n := cl.nodes[0].count(incrementMethod); n != 1 {
		t.Errorf("it was sent %d times", n)
	}
}

// An unknown outcome of an earlier attempt stays, even if the last one is rejected.
func TestUnknownStaysUnknown(t *testing.T) {
	cl := newCluster(t, 1, 1)
	c := ready(t, cl.addrs())
	var n atomic.Int64
	cl.nodes[0].fail(func(_ context.Context, method string) error {
		switch {
		case method != putMethod:
			return nil
		case n.Add(1) == 1:
			return explained(codes.Unavailable, kv.ReasonUnknown, "the leader is gone")
		default:
			return explained(codes.FailedPrecondition, kv.ReasonNotApplied, "writes are paused")
		}
	}, nil)
	_, err := c.Put(testkit.Within(t, enough), []byte("k"), nil)
	if !errors.Is(err, ErrPrecondition) || !errors.Is(err, ErrOutcomeUnknown) {
		t.Error(err)
	}
}

// TestMastersThatBecameSlaves: a promotion makes the former masters slaves, and clients find the
// new ones a moment later, also if they have waited for longer than that moment before.
func TestMastersThatBecameSlaves(t *testing.T) {
	slave, err := status.New(codes.FailedPrecondition, "this node is a slave; write to another one").WithDetails(
		&errdetails.ErrorInfo{Domain: kv.ErrorDomain, Reason: kv.ReasonNotApplied}, &errdetails.ErrorInfo{Domain: kv.ErrorDomain, Reason: kv.ReasonSlave})
	if err != nil {
		t.Fatal(err)
	}
	other := explained(codes.FailedPrecondition, kv.ReasonOtherCluster, "this node is of another cluster")
	for _, c := range []struct {
		answer error
		sealed time.Duration // for how long the master rejects writes before
		times  int
		want   error
	}{
		{slave.Err(), 0, 2, nil},
		{slave.Err(), elsewhereWait * 6 / 5, 2, nil},
		{slave.Err(), 0, math.MaxInt, ErrPrecondition},
		{other, elsewhereWait * 6 / 5, 2, nil},
		{other, 0, math.MaxInt, ErrOtherCluster},
	} {
		cl := newCluster(t, 1, 1)
		client := ready(t, cl.addrs())
		begun, passed := time.Now(), 0
		cl.nodes[0].fail(func(_ context.Context, method string) error {
			switch {
			case method != putMethod:
				return nil
			case time.Since(begun) < c.sealed:
				return explained(codes.Unavailable, kv.ReasonNotApplied, "writes are paused")
			case passed < c.times:
				passed++
				return c.answer
			default:
				return nil
			}
		}, nil)
		_, err := client.Put(testkit.Within(t, enough), []byte("k"), nil)
		if c.want == nil && err != nil || c.want != nil && (!errors.Is(err, c.want) || errors.Is(err, ErrOutcomeUnknown)) {
			t.Errorf("after %d rejections and %v: %v", c.times, c.sealed, err)
		}
	}
}

// An attempt is marked as a repeat only if an earlier one may have taken effect: a request
// that no server has applied is new.
func TestRepeatsSaySo(t *testing.T) {
	cl := newCluster(t, 1, 1)
	c := ready(t, cl.addrs())
	answers := []error{
		explained(codes.Unavailable, kv.ReasonNotApplied, "no leader"),
		explained(codes.Unavailable, kv.ReasonNotOwner, "not me"),
		explained(codes.Unavailable, kv.ReasonUnknown, "the leader is gone"),
		explained(codes.Unavailable, kv.ReasonNotApplied, "no leader"),
	}
	cl.nodes[0].fail(func(_ context.Context, method string) error {
		if i := cl.nodes[0].count(putMethod); method == putMethod && i <= len(answers) {
			return answers[i-1]
		}
		return nil
	}, nil)
	if _, err := c.Put(testkit.Within(t, enough), []byte("k"), nil); err != nil {
		t.Fatal(err)
	}
	ids := cl.nodes[0].requests()
	if len(ids) != len(answers)+1 {
		t.Fatalf("it was sent %d times", len(ids))
	}
	for i, id := range ids {
		if id.GetSequence() != ids[0].GetSequence() || id.GetClientId() != ids[0].GetClientId() || id.GetRepeat() != (i > 2) {
			t.Errorf("attempt %d had the id %v", i+1, id)
		}
	}
}

// Servers drop results by age, so a mutation that an early attempt may have applied is not
// repeated after that, though all later attempts were rejected, and an attempt from before that
// ends in time.
func TestUnknownIsNotRepeatedForEver(t *testing.T) {
	rejected := explained(codes.Unavailable, kv.ReasonNotApplied, "no leader")
	for name, c := range map[string]struct {
		age, asleep time.Duration
		sent        int
	}{"soon": {repeatWithin / 2, 0, 1}, "late": {repeatWithin, 0, 0}, "after a suspension": {0, repeatWithin, 0}} {
		cl := newCluster(t, 1, 1)
		client := ready(t, cl.addrs())
		var left time.Duration
		cl.nodes[0].fail(func(ctx context.Context, method string) error {
			if end, _ := ctx.Deadline(); method == putMethod {
				left = time.Until(end)
			}
			return nil
		}, nil)
		var id serverpb.RequestID
		to := request{method: putMethod, key: []byte("k"), mutates: true}
		client.assignID(&to, &id)
		a := attempts{client: client, request: &to, began: testkit.Suspended(t, time.Now().Add(-c.age), c.asleep), unknown: true}
		err := a.retry(testkit.Within(t, time.Hour), client.topology.Load().masters[0], peer.FromStatus(rejected),
			&serverpb.PutRequest{Key: to.key, RequestId: &id}, new(serverpb.PutResponse))
		if got := cl.nodes[0].count(putMethod); got != c.sent || (err == nil) != (c.sent > 0) || err != nil && !errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("%s: sent %d times, %v", name, got, err)
		}
		if late := left - (2*repeatWithin - c.age); late > time.Second {
			t.Errorf("%s: a node may let it wait until %v after servers have forgotten the request", name, late)
		}
	}
}

// TOO_LATE is not repeated: servers that no longer know a result will not know it later.
func TestTooLateIsNotRepeated(t *testing.T) {
	cl := newCluster(t, 1, 1)
	c := ready(t, cl.addrs())
	cl.nodes[0].fail(func(_ context.Context, method string) error {
		switch {
		case method != putMethod:
			return nil
		case cl.nodes[0].count(putMethod) == 1:
			return explained(codes.Unavailable, kv.ReasonUnknown, "the leader is gone")
		default:
			return explained(codes.FailedPrecondition, kv.ReasonTooLate, "not remembered any more (outcome unknown)")
		}
	}, nil)
	_, err := c.Put(testkit.Within(t, enough), []byte("k"), nil)
	if !errors.Is(err, ErrOutcomeUnknown) || errors.Is(err, ErrPrecondition) || errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "not remembered any more") {
		t.Error(err)
	}
	if n := cl.nodes[0].count(putMethod); n != 2 {
		t.Errorf("it was sent %d times", n)
	}
}

// TestNotConfirmedIsRepeatedWithAnIDOnly: a mutation that the standbys have not confirmed is
// applied, so another attempt without an id would apply it again.
func TestNotConfirmedIsRepeatedWithAnIDOnly(t *testing.T) {
	for _, ids := range []bool{false, true} {
		cl := newCluster(t, 1, 1)
		failed := false
		cl.nodes[0].fail(func(_ context.Context, method string) error {
			if method != putMethod || failed {
				return nil
			}
			failed = true
			return explained(codes.Unavailable, kv.ReasonNotConfirmed, "applied here, not confirmed (outcome unknown)")
		}, nil)
		var opts []Option
		if !ids {
			opts = append(opts, WithoutIdempotency())
		}
		c := ready(t, cl.addrs(), opts...)
		_, err := c.Put(testkit.Within(t, enough), []byte("k"), nil)
		if n := cl.nodes[0].count(putMethod); ids && (err != nil || n != 2) ||
			!ids && (!errors.Is(err, ErrUnavailable) || !errors.Is(err, ErrOutcomeUnknown) || n != 1) {
			t.Errorf("ids %v: %v after %d attempts", ids, err, n)
		}
	}
}

func TestErrors(t *testing.T) {
	cl := newCluster(t, 1, 1)
	c := ready(t, cl.addrs())
	for _, one := range []struct {
		answer error
		kind   error
	}{
		{explained(codes.InvalidArgument, kv.ReasonNotApplied, "x"), ErrInvalid},
		{explained(codes.FailedPrecondition, kv.ReasonNotApplied, "x"), ErrPrecondition},
		{explained(codes.Aborted, kv.ReasonLost, "x"), ErrPrecondition},
		{explained(codes.ResourceExhausted, kv.ReasonNotApplied, "x"), ErrExhausted},
		{explained(codes.OutOfRange, kv.ReasonNotApplied, "x"), ErrTrimmed},
		{explained(codes.Unimplemented, kv.ReasonNotApplied, "x"), ErrUnimplemented},
		{explained(codes.DataLoss, kv.ReasonNotApplied, "x"), nil},
		{status.Error(codes.Unauthenticated, "x"), ErrUnauthenticated},
		{status.Error(codes.PermissionDenied, "x"), ErrPermissionDenied},
		{explained(codes.Unauthenticated, kv.ReasonNotApplied, "x"), ErrUnauthenticated},
		{explained(codes.PermissionDenied, kv.ReasonNotApplied, "x"), ErrPermissionDenied},
		{status.Error(codes.ResourceExhausted, "x"), ErrInvalid},
	} {
		cl.nodes[0].fail(func(_ context.Context, method string) error {
			if method == putMethod {
				return one.answer
			}
			return nil
		}, nil)
		sent := cl.nodes[0].count(putMethod)
		_, err := c.Put(testkit.Within(t, enough), []byte("k"), nil)
		var e *Error
		if !errors.As(err, &e) || e.Kind != one.kind || e.OutcomeUnknown || e.Address != cl.nodes[0].addr {
			t.Errorf("%v: %+v, %v", one.answer, e, err)
		}
		if n := cl.nodes[0].count(putMethod) - sent; n != 1 {
			t.Errorf("%v: was sent %d times", one.answer, n)
		}
	}
	cl.nodes[0].fail(func(_ context.Context, method string) error {
		if method == putMethod {
			return explained(codes.Internal, kv.ReasonUnknown, "the disk failed")
		}
		return nil
	}, nil)
	if _, err := c.Put(testkit.Within(t, enough), []byte("k"), nil); !errors.Is(err, ErrOutcomeUnknown) || errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
}

func TestOversized(t *testing.T) {
	cl := newCluster(t, 1, 1)
	c := ready(t, cl.addrs())
	for _, size := range []int{2 << 20, 5 << 20} { // beyond the service's limit, and beyond gRPC's
		_, err := c.Put(testkit.Within(t, enough), []byte("k"), bytes.Repeat([]byte("x"), size))
		if !errors.Is(err, ErrInvalid) || errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	must[uint64](t)(c.Put(testkit.Within(t, enough), []byte("k"), make([]byte, 1<<20)))
	small := ready(t, cl.addrs(), WithMaxMessageSize(1<<10))
	if _, err := small.Get(testkit.Within(t, enough), []byte("k")); !errors.Is(err, ErrInvalid) {
		t.Error("an answer beyond the limit:", err)
	}
	if _, err := c.Put(testkit.Within(t, enough), nil, nil); !errors.Is(err, ErrInvalid) {
		t.Error("an empty key:", err)
	}
}

func TestDeadAddressInList(t *testing.T) {
	cl := newCluster(t, 1, 1)
	for _, target := range []string{testkit.Address(t) + "," + cl.addrs(), cl.addrs() + "," + testkit.Address(t)} {
		for _, opts := range [][]Option{nil, {WithFixedAddresses()}} {
			c := ready(t, target, opts...)
			must[uint64](t)(c.Put(testkit.Within(t, enough), []byte("k"), nil))
			must[Value](t)(c.Get(testkit.Within(t, enough), []byte("k"), Sequential))
		}
	}
}

func TestDeadline(t *testing.T) {
	cl := newCluster(t, 1, 1)
	c := ready(t, cl.addrs())
	cl.nodes[0].hang()
	for _, level := range []Level{Linearizable, Sequential} {
		ctx := testkit.Within(t, 30*time.Millisecond)
		_, err := c.Get(ctx, []byte("k"), level)
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrOutcomeUnknown) {
			t.Error(err)
		}
	}
	testkit.Timely(t, func() error { // it has to be sent before the deadline
		_, err := c.Put(testkit.Within(t, 30*time.Millisecond), []byte("k"), nil)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if !errors.Is(err, ErrOutcomeUnknown) {
			return err
		}
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	sent := cl.nodes[0].count(getMethod)
	go func() {
		testkit.Eventually(t, "the get arrives", func() bool { return cl.nodes[0].count(getMethod) > sent })
		cancel()
	}()
	if _, err := c.Get(ctx, []byte("k")); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := c.Get(ctx, []byte("k")); !errors.Is(err, context.Canceled) {
		t.Error("a context that had ended:", err)
	}
}

// Sequential reads avoid a node that hangs, once it is known to.
func TestSlowReplica(t *testing.T) {
	cl := newCluster(t, 3, 1)
	c := ready(t, cl.addrs())
	allReplicas(t, c, 3)
	cl.nodes[2].hang()
	ctx := testkit.Within(t, enough)
	testkit.Eventually(t, "the slow node is left out", func() bool { return len(c.topology.Load().vBuckets[0].replicas) == 2 })
	for range 20 {
		if _, err := c.Get(ctx, []byte("k"), Sequential); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
	}
	cl.nodes[2].unmute()
	allReplicas(t, c, 3)
}

func allReplicas(t *testing.T, c *Client, n int) {
	t.Helper()
	testkit.Eventually(t, "all replicas are known", func() bool {
		c.learner.probeSoon()
		t := c.topology.Load()
		return t != nil && len(t.vBuckets[0].replicas) == n
	})
}
