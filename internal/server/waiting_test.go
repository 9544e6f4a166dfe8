package server

import (
	"context"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/testkit"
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

// A call that began before its connection was crowded learns of that when it is about to
// read, waits, and then has room for a response like the last one.
func TestCallsLearnThatTheyAreCrowded(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxMemory, o.MaxInFlight = 64<<20, 1000 })
	begun, read, crowded := make(chan struct{}), make(chan struct{}), make(chan bool)
	r.service.get = func(ctx context.Context, req *serverpb.GetRequest) (*serverpb.GetResponse, error) {
		place := kv.PlaceOf(ctx)
		begun <- struct{}{}
		<-read
		crowded <- place.Crowded()
		// Twice, as when several vBuckets are read.
		for range 2 {
			if err := place.AwaitRoom(ctx); err != nil {
				return nil, err
			}
		}
		crowded <- place.Crowded()
		return &serverpb.GetResponse{}, nil
	}
	done := r.call("k")
	<-begun
	conn, w := r.calls.conns()[0], r.calls.wire
	if limit := conn.take(w.perConnOut); limit != "" {
		t.Fatal(limit)
	}
	close(read)
	if !<-crowded {
		t.Error("it may read though nothing it makes can be sent")
	}
	testkit.Eventually(t, "it waits", func() bool { return r.gauge("dkv_requests_waiting") == 1 })
	conn.give(w.perConnOut)
	if <-crowded {
		t.Error("it has waited, and has to wait again")
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	testkit.Eventually(t, "nothing is held any more", func() bool { return w.held.Load() == 0 })
}
