package server

import (
	"context"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
)

// Requests that wait for something leave their places to others, and are bounded by
// themselves.
func TestWaitingRequestsLeaveTheirPlaces(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxInFlight = 8 })
	begun, gate := make(chan struct{}, 10), make(chan struct{})
	r.service.get = func(ctx context.Context, req *serverpb.GetRequest) (*serverpb.GetResponse, error) {
		if string(req.Key) != "wait" {
			return &serverpb.GetResponse{}, nil
		}
		// Twice, as when several vBuckets are waited for.
		for range 2 {
			if err := kv.PlaceOf(ctx).Park(); err != nil {
				return nil, err
			}
			defer kv.PlaceOf(ctx).Unpark()
		}
		begun <- struct{}{}
		<-gate
		return &serverpb.GetResponse{}, nil
	}
	first, second := r.call("wait"), r.call("wait")
	<-begun
	<-begun
	if flight, waiting := r.gauge("dkv_requests_in_flight"), r.gauge("dkv_requests_waiting"); flight != 0 || waiting != 2 {
		t.Errorf("%v in flight, %v wait", flight, waiting)
	}
	wantCode(t, <-r.call("wait"), codes.ResourceExhausted,
		"2 requests wait for a newer state or for room, which is the limit (a quarter of max-requests-in-flight); retry later, or ask another node (not applied)")
	if err := <-r.call("k"); err != nil {
		t.Error(err)
	}
	close(gate)
	for _, done := range []chan error{first, second} {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if flight, waiting := r.gauge("dkv_requests_in_flight"), r.gauge("dkv_requests_waiting"); flight != 0 || waiting != 0 {
		t.Errorf("%v in flight, %v wait", flight, waiting)
	}
}
