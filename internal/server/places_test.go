package server

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// A request that was ended holds no place, though its handler has yet to notice, and
// gives none back a second time when it does.
func TestEndedRequestsHoldNoPlace(t *testing.T) {
	r := newRig(t)
	reading, gate := make(chan struct{}), make(chan struct{})
	k := &call{Context: t.Context(), calls: r.calls, begun: time.Now(), forwarded: true}
	k.receiving.Store(true)
	left := make(chan error, 1)
	get := r.calls.unaries[serverpb.DKV_Get_FullMethodName]
	go func() {
		_, err := get.handler(get.srv, k, func(any) error {
			close(reading)
			<-gate
			return errors.New("the message does not come")
		}, nil)
		left <- err
	}()
	<-reading
	if n := r.calls.inFlight.taken.Load(); n != 1 {
		t.Errorf("%d places are taken while the message comes", n)
	}
	if !k.endRequest(exhausted(requestPause, "ended")) {
		t.Fatal("it could not be ended")
	}
	if n := r.calls.inFlight.taken.Load(); n != 0 {
		t.Errorf("%d places are taken once the request was ended", n)
	}
	close(gate)
	wantCode(t, <-left, codes.ResourceExhausted, "ended")
	if n := r.calls.inFlight.taken.Load(); n != 0 {
		t.Errorf("%d places are taken once the handler has left", n)
	}
}

// Requests that were announced and do not come make room for those of their kind: ending
// others would free no place.
func TestPlacesAreMadeByRequestsOfTheKind(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxInFlight = 2 })
	a := r.attack(1<<16, true)
	a.Begin(healthpb.Health_Check_FullMethodName)
	a.Begin(serverpb.DKV_Iterate_FullMethodName)
	a.Begin(serverpb.DKV_Get_FullMethodName)
	a.Begin(serverpb.DKV_Get_FullMethodName)
	testkit.Eventually(t, "all of them have handlers", func() bool {
		return r.calls.inFlight.taken.Load() == 2 && r.calls.probes.taken.Load() == 1 && r.calls.streams.size() == 1
	})
	for _, c := range r.calls.conns() {
		c.mu.Lock()
		for _, k := range c.byStream {
			k.moved = k.moved.Add(-2 * stale)
		}
		c.mu.Unlock()
	}
	if _, err := serverpb.NewDKVClient(r.conn).Get(context.Background(), &serverpb.GetRequest{Key: []byte("k")}); err != nil {
		t.Errorf("another request: %v", err)
	}
	for range 2 {
		if end := <-a.Ends; end.Code != codes.ResourceExhausted {
			t.Errorf("ended with %+v", end)
		}
	}
	if probes, streams := r.calls.probes.taken.Load(), r.calls.streams.size(); probes != 1 || streams != 1 {
		t.Errorf("%d health checks and %d streams are left of one each", probes, streams)
	}
}
