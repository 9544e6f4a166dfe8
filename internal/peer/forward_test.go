package peer

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/forward"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/server/servertest"
	"github.com/dkvdb/dkv/internal/testkit"
)

// node serves DKV as nodes do, with the stream of forwarded calls.
func node(t *testing.T, get func(context.Context, *serverpb.GetRequest) (*serverpb.GetResponse, error)) *servertest.Server {
	return servertest.Start(t, servertest.Options{Register: func(r grpc.ServiceRegistrar) { serverpb.RegisterDKVServer(r, &site{get: get}) }})
}

func share(ctx context.Context, p *Peer) (taken bool, resp *serverpb.GetResponse, err error) {
	resp = new(serverpb.GetResponse)
	taken, err = p.Forward(ctx, &forward.Call{Method: getMethod, Request: &serverpb.GetRequest{Key: []byte("k")}}, resp)
	return taken, resp, err
}

// reached returns a peer to which a connection stands.
func reached(t *testing.T, addr string, o Options) *Peer {
	t.Helper()
	p := peerAt(t, newPool(t, o), addr)
	if err := p.Reach(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestForwardedCallsShareAStream: once the peer has taken the stream, calls go by it. Their
// errors are those of calls of their own.
func TestForwardedCallsShareAStream(t *testing.T) {
	s := node(t, answers)
	p := reached(t, s.Addr, Options{Share: true})
	testkit.Eventually(t, "a call goes by the stream", func() bool {
		taken, resp, err := share(t.Context(), p)
		if err != nil || taken && string(resp.GetValue()) != "v" {
			t.Fatalf("%v, %v", resp, err)
		}
		return taken
	})
	taken, err := p.Forward(t.Context(), &forward.Call{Method: serverpb.DKV_Put_FullMethodName, Request: &serverpb.PutRequest{}}, new(serverpb.PutResponse))
	if !taken || kv.KindOf(err) != kv.Unimplemented {
		t.Errorf("an error of the handler: %v, %v", taken, err)
	}
	s.Stop()
	testkit.Eventually(t, "the stream has ended", func() bool {
		taken, _, err := share(t.Context(), p)
		if taken && (kv.KindOf(err) != kv.Unavailable || kv.OutcomeOf(err) != kv.Unknown) {
			t.Fatalf("%v", err)
		}
		return !taken
	})
}

// TestForwardedCallsOfAnEarlierRelease: a peer without the service is sent each call alone.
func TestForwardedCallsOfAnEarlierRelease(t *testing.T) {
	p := reached(t, serve(t, &site{get: answers}).addr, Options{Share: true})
	testkit.Eventually(t, "the peer has been asked", func() bool {
		if taken, _, _ := share(t.Context(), p); taken {
			t.Fatal("a peer without the service has taken a call")
		}
		return p.shared.due.Load() > time.Now().Add(openAgain).UnixNano()
	})
	if taken, _, err := share(t.Context(), p); taken || err != nil || p.shared.opening.Load() {
		t.Errorf("asked again at once: %v, %v", taken, err)
	}
}

// TestBrokenStreamOfForwardedCalls: what was sent may have taken effect.
func TestBrokenStreamOfForwardedCalls(t *testing.T) {
	begun := make(chan struct{}, 1)
	s := node(t, func(ctx context.Context, r *serverpb.GetRequest) (*serverpb.GetResponse, error) {
		if _, waits := ctx.Deadline(); waits {
			begun <- struct{}{}
			<-ctx.Done()
		}
		return answers(ctx, r)
	})
	p := reached(t, s.Addr, Options{Share: true})
	testkit.Eventually(t, "a call goes by the stream", func() bool { taken, _, _ := share(t.Context(), p); return taken })
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
		defer cancel()
		_, _, err := share(ctx, p)
		done <- err
	}()
	<-begun
	p.pool.Retain()
	if err := <-done; kv.KindOf(err) != kv.Unavailable || kv.OutcomeOf(err) != kv.Unknown || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// TestNodesWithTokensForwardAlone: a token of the stream's beginning may have run out.
func TestNodesWithTokensForwardAlone(t *testing.T) {
	for name, o := range map[string]Options{"a token": {Share: true, PerRPC: &Token{}}, "no wish to share": {}} {
		if newPool(t, o).shares {
			t.Errorf("%s: calls share a stream", name)
		}
	}
}

// TestForwardedCallThatIsTooLate: it was not sent, so that nothing has come of it.
func TestForwardedCallThatIsTooLate(t *testing.T) {
	p := reached(t, node(t, answers).Addr, Options{Share: true})
	testkit.Eventually(t, "a call goes by the stream", func() bool {
		taken, _, err := share(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		return taken
	})
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	taken, _, err := share(ctx, p)
	if !taken || kv.KindOf(err) != kv.Unavailable || kv.OutcomeOf(err) != kv.NotApplied || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, %v: %v", taken, kv.OutcomeOf(err), err)
	}
}
