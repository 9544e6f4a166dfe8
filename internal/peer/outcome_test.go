package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestErrors checks what callers decide by.
func TestErrors(t *testing.T) {
	explained := func(code codes.Code, text, domain, reason string) error {
		st, err := status.New(code, text).WithDetails(&errdetails.ErrorInfo{Domain: domain, Reason: reason})
		if err != nil {
			t.Fatal(err)
		}
		return st.Err()
	}
	also := func(text, reason string) error {
		st, err := status.New(codes.FailedPrecondition, text).WithDetails(
			&errdetails.ErrorInfo{Domain: "dkv", Reason: kv.ReasonNotApplied}, &errdetails.ErrorInfo{Domain: "dkv", Reason: reason})
		if err != nil {
			t.Fatal(err)
		}
		return st.Err()
	}
	for _, c := range []struct {
		name     string
		err      error
		kind     kv.Kind
		outcome  kv.Outcome
		answered bool
		text     string
		is       error
	}{
		{"not applied", explained(codes.Unavailable, "busy (not applied)", "dkv", kv.ReasonNotApplied), kv.Unavailable, kv.NotApplied, true, "busy (not applied)", nil},
		{"unknown", explained(codes.Unavailable, "cut off (outcome unknown)", "dkv", kv.ReasonUnknown), kv.Unavailable, kv.Unknown, true, "cut off (outcome unknown)", nil},
		{"another cluster", explained(codes.FailedPrecondition, "of another cluster (not applied)", "dkv", kv.ReasonOtherCluster), kv.OtherCluster, kv.NotApplied, true, "of another cluster (not applied)", nil},
		{"too late", explained(codes.FailedPrecondition, "too late (outcome unknown)", "dkv", kv.ReasonTooLate), kv.TooLate, kv.Unknown, true, "too late (outcome unknown)", nil},
		{"not owner", explained(codes.Unavailable, "not me", "dkv", kv.ReasonNotOwner), kv.NotOwner, kv.NotApplied, true, "not me", nil},
		{"a reason to come", explained(codes.Unavailable, "x", "dkv", "LATER"), kv.Unavailable, kv.Unknown, true, "x", nil},
		{"another domain", explained(codes.FailedPrecondition, "x", "other", kv.ReasonNotApplied), kv.Precondition, kv.Unknown, false, "node ADDR: x", nil},
		{"no reason", status.Error(codes.ResourceExhausted, "x"), kv.Exhausted, kv.Unknown, false, "node ADDR: x", nil},
		{"deadline there", explained(codes.DeadlineExceeded, "late", "dkv", kv.ReasonUnknown), kv.Unavailable, kv.Unknown, true, "late", context.DeadlineExceeded},
		{"cancelled there", explained(codes.Canceled, "left", "dkv", kv.ReasonNotApplied), kv.Unavailable, kv.NotApplied, true, "left", context.Canceled},
		{"removed", also("removed (not applied)", kv.ReasonRemoved), kv.Precondition, kv.NotApplied, true, "removed (not applied)", kv.ErrRemoved},
		{"a slave", also("a slave (not applied)", kv.ReasonSlave), kv.Precondition, kv.NotApplied, true, "a slave (not applied)", kv.ErrSlave},
		{"invalid", explained(codes.InvalidArgument, "x", "dkv", kv.ReasonNotApplied), kv.Invalid, kv.NotApplied, true, "x", nil},
		{"out of range", explained(codes.OutOfRange, "x", "dkv", kv.ReasonNotApplied), kv.OutOfRange, kv.NotApplied, true, "x", nil},
		{"data loss", explained(codes.DataLoss, "x", "dkv", kv.ReasonNotApplied), kv.Corrupt, kv.NotApplied, true, "x", nil},
		{"not found", explained(codes.NotFound, "x", "dkv", kv.ReasonNotApplied), kv.NotFound, kv.NotApplied, true, "x", nil},
		{"unimplemented", explained(codes.Unimplemented, "x", "dkv", kv.ReasonNotApplied), kv.Unimplemented, kv.NotApplied, true, "x", nil},
		{"internal", explained(codes.Internal, "x", "dkv", kv.ReasonUnknown), kv.Internal, kv.Unknown, true, "x", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, &site{
				get:     func(context.Context, *serverpb.GetRequest) (*serverpb.GetResponse, error) { return nil, c.err },
				iterate: func(grpc.ServerStreamingServer[serverpb.IterateResponse]) error { return c.err },
			})
			p := peerAt(t, newPool(t, Options{}), s.addr)
			_, err := get(t.Context(), p)
			stream, serr := p.Stream(t.Context(), serverpb.DKV_Iterate_FullMethodName, &serverpb.IterateRequest{})
			if serr == nil {
				serr = stream.Recv(new(serverpb.IterateResponse))
			}
			for _, err := range []error{err, serr} {
				text := strings.ReplaceAll(err.Error(), s.addr, "ADDR")
				if kv.KindOf(err) != c.kind || kv.OutcomeOf(err) != c.outcome || Answered(err) != c.answered || text != c.text {
					t.Errorf("%q: kind %d, %v, answered: %v", text, kv.KindOf(err), kv.OutcomeOf(err), Answered(err))
				}
				for _, end := range []error{context.DeadlineExceeded, context.Canceled, kv.ErrRemoved, kv.ErrSlave} {
					if errors.Is(err, end) != (c.is == end) {
						t.Errorf("%q is %v: %v", text, end, errors.Is(err, end))
					}
				}
			}
		})
	}
}

// TestOutcomeOfConnections distinguishes requests that were sent from those that were not.
func TestOutcomeOfConnections(t *testing.T) {
	reached := make(chan struct{}, 1)
	s := serve(t, &site{get: func(ctx context.Context, _ *serverpb.GetRequest) (*serverpb.GetResponse, error) {
		reached <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	pool := newPool(t, Options{})
	p := peerAt(t, pool, s.addr)

	// The caller leaves.
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-reached; cancel() }()
	_, err := get(ctx, p)
	if kv.OutcomeOf(err) != kv.Unknown || !errors.Is(err, context.Canceled) {
		t.Errorf("left: %v", err)
	}
	_, err = get(ctx, p) // had left before
	if kv.OutcomeOf(err) != kv.NotApplied || !errors.Is(err, context.Canceled) {
		t.Errorf("was never there: %v", err)
	}
	testkit.Timely(t, func() error { // the request has to arrive before the deadline
		_, err := get(testkit.Within(t, 50*time.Millisecond), p)
		select {
		case <-reached:
		default:
			return fmt.Errorf("did not arrive: %w", err)
		}
		if kv.OutcomeOf(err) != kv.Unknown || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("did not wait: %v", err)
		}
		return nil
	})

	// The connection breaks, then it cannot be made.
	go func() { <-reached; s.grpc.Stop() }()
	_, err = get(t.Context(), p)
	if kv.KindOf(err) != kv.Unavailable || kv.OutcomeOf(err) != kv.Unknown || Answered(err) {
		t.Errorf("broke: %v, %v", err, kv.OutcomeOf(err))
	}
	for range 3 {
		if err := p.Reach(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err = get(t.Context(), p)
		if kv.KindOf(err) != kv.Unavailable || kv.OutcomeOf(err) != kv.NotApplied || !strings.Contains(err.Error(), "refused") {
			t.Errorf("refused: %v, %v", err, kv.OutcomeOf(err))
		}
	}
}

// TestReachEnds holds that the wait for a connection ends with its context, and that
// the request which would have followed was not sent.
func TestReachEnds(t *testing.T) {
	pool := newPool(t, Options{Dial: func(ctx context.Context, addr string) (net.Conn, error) {
		if addr != "far:1" {
			t.Errorf("dials %s", addr)
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	cause := errors.New("cause")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(20*time.Millisecond, func() { cancel(cause) })
	if err := peerAt(t, pool, "far:1").Reach(ctx); !errors.Is(err, cause) {
		t.Error(err)
	}
	_, reachErr := pool.Reach(ctx, "far:1")
	callErr := pool.Call(ctx, "far:1", getMethod, &serverpb.GetRequest{}, &serverpb.GetResponse{})
	_, streamErr := pool.Stream(ctx, "far:1", serverpb.DKV_Iterate_FullMethodName, &serverpb.IterateRequest{})
	for _, err := range []error{reachErr, callErr, streamErr} {
		if !errors.Is(err, cause) || kv.KindOf(err) != kv.Unavailable || kv.OutcomeOf(err) != kv.NotApplied ||
			err.Error() != "node far:1 cannot be reached: cause" {
			t.Errorf("%v: kind %d, %v", err, kv.KindOf(err), kv.OutcomeOf(err))
		}
	}
}

// TestHints: the HTTP port of a node in place of its gRPC port is the likeliest mistake of all.
func TestHints(t *testing.T) {
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	pool := NewPool(Options{})
	defer pool.Close()
	addr := strings.TrimPrefix(web.URL, "http://")
	var said string
	if !testkit.Soon(func() bool {
		err := pool.Call(t.Context(), addr, "/a/b", new(emptypb.Empty), new(emptypb.Empty))
		said = fmt.Sprint(err)
		return strings.Contains(said, "that is an HTTP port (http-listen-addr)")
	}) {
		t.Errorf("the HTTP port: %s", said)
	}
	for text, want := range map[string]string{"the connection is draining": "requires TLS", "tls: first record does not look like a TLS handshake": "does not speak TLS", "connection refused": ""} {
		if got := hint(text); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: %q", text, got)
		}
	}
}
