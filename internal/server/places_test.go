package server

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
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

// Requests of one host that wait leave room for those of others.
func TestWaitingRequestsOfAHostLeaveRoom(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxInFlight = 400 })
	park := func(host string) (*call, error) {
		c := &conn{calls: r.calls, client: kv.Client{Host: netip.MustParseAddr(host)}}
		k := &call{Context: t.Context(), calls: r.calls, conn: c, method: r.calls.methods[serverpb.DKV_Get_FullMethodName]}
		return k, k.Park()
	}
	var parked []*call
	for range 400 {
		if k, err := park("192.0.2.1"); err == nil {
			parked = append(parked, k)
		}
	}
	if n := len(parked); n < 80 || n >= 100 {
		t.Errorf("%d of 100 places have gone to one host", n)
	}
	for i := range 5 {
		k, err := park("192.0.2.2")
		if err != nil {
			t.Fatalf("request %d of another host: %v", i, err)
		}
		parked = append(parked, k)
	}
	if _, err := park("192.0.2.1"); err == nil || !strings.Contains(err.Error(), "other hosts get what is left of 100") {
		t.Errorf("a further one of the first host: %v", err)
	}
	for _, k := range parked {
		k.Unpark()
	}
	if n := r.calls.waiting.count(); n != 0 || len(r.calls.waiting.of) != 0 || r.calls.inFlight.taken.Load() != 0 {
		t.Errorf("%d of %d hosts wait still", n, len(r.calls.waiting.of))
	}
}
