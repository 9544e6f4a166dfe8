package server

import (
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/quota"
)

// retryAfter is when an error says that its call may be tried again; 0 if it does not.
func retryAfter(err error) time.Duration {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			return info.GetRetryDelay().AsDuration()
		}
	}
	return 0
}

// TestIdentitiesAreLimited: what an identity has under way leaves room for others, and for
// its own health checks, and its calls beyond that are told when to come back.
func TestIdentitiesAreLimited(t *testing.T) {
	r, a := newGuarded(t)
	for _, name := range []string{"busy", "other"} {
		a.Grant(name, grant(auth.Read))
	}
	a.Limit("busy", auth.Limits{RequestsInFlight: 2, Streams: 1})
	begun, release := r.service.hold()
	get := func(name string) chan error {
		done := make(chan error, 1)
		go func() {
			_, err := r.Get(as(t, name), &serverpb.GetRequest{Key: []byte("k")})
			done <- err
		}()
		return done
	}
	first, second := get("busy"), get("busy")
	<-begun
	<-begun
	err := <-get("busy")
	wantCode(t, err, codes.ResourceExhausted,
		`Get: of identity "busy", 2 requests are under way, which is its limit (requests-in-flight); retry later (not applied)`)
	if retryAfter(err) == 0 {
		t.Error("the error does not say when to try again")
	}
	if _, err := healthpb.NewHealthClient(r.conn).Check(as(t, "busy"), &healthpb.HealthCheckRequest{}); err != nil {
		t.Errorf("a health check: %v", err)
	}
	other := get("other")
	<-begun
	release()
	for _, done := range []chan error{first, second, other} {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if err := <-get("busy"); err != nil {
		t.Errorf("once the others are done: %v", err)
	}
	if n := r.hits(quota.InFlight); n != 1 {
		t.Errorf("%v hits of the limit", n)
	}
}

func TestStreamsOfIdentitiesAreLimited(t *testing.T) {
	r, a := newGuarded(t, withReplication(&replication{}))
	a.Grant("ann", grant(auth.Watch))
	a.Limit("ann", auth.Limits{Streams: 1})
	watch := func() (serverpb.DKVReplication_WatchChangesClient, error) {
		s, err := serverpb.NewDKVReplicationClient(r.conn).WatchChanges(as(t, "ann"), &serverpb.WatchChangesRequest{})
		if err != nil {
			return nil, err
		}
		_, err = s.Recv()
		return s, err
	}
	if _, err := watch(); err != nil {
		t.Fatal(err)
	}
	_, err := watch()
	wantCode(t, err, codes.ResourceExhausted, `WatchChanges: of identity "ann", 1 streams are open, which is its limit (streams); retry later (not applied)`)
	if retryAfter(err) != time.Second || r.hits(quota.Streams) != 1 {
		t.Errorf("retry after %v, %v hits of the limit", retryAfter(err), r.hits(quota.Streams))
	}
}

// TestRatesOfIdentitiesAreLimited: a call beyond the rate is not read, and may come again
// once the error says.
func TestRatesOfIdentitiesAreLimited(t *testing.T) {
	r, a := newGuarded(t)
	a.Grant("ann", grant(auth.Read))
	a.Limit("ann", auth.Limits{RequestsPerSecond: 1})
	get := func() error {
		_, err := r.Get(as(t, "ann"), &serverpb.GetRequest{Key: []byte("k")})
		return err
	}
	if err := get(); err != nil {
		t.Fatal(err)
	}
	var err error
	for range 100 { // at most one in a second is within the limit
		if err = get(); err != nil {
			break
		}
	}
	wantCode(t, err, codes.ResourceExhausted,
		`Get: of identity "ann", more requests come than the 1 a second that are its limit (requests-per-second); retry later (not applied)`)
	after := retryAfter(err)
	if after <= 0 || after > time.Second {
		t.Fatalf("retry after %v", after)
	}
	<-time.After(after) // what the error promises
	if err := get(); err != nil {
		t.Errorf("after the pause: %v", err)
	}
}
