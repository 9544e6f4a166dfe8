package server

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/auth"
)

// TestLocalCallsPassThroughTheServer: those of another server of the process are counted,
// limited and checked as those of clients are.
func TestLocalCallsPassThroughTheServer(t *testing.T) {
	r, a := newGuarded(t)
	a.Grant("reader", grant(auth.Read, "a"))
	a.Limit("reader", auth.Limits{RequestsInFlight: 1})
	id, err := a.Vouched("reader")
	if err != nil {
		t.Fatal(err)
	}
	ctx := auth.NewContext(t.Context(), id)
	begun, release := r.service.hold()
	get := func(key string) chan error {
		done := make(chan error, 1)
		go func() {
			_, err := r.Invoke(ctx, serverpb.DKV_Get_FullMethodName, &serverpb.GetRequest{Key: []byte(key)})
			done <- err
		}()
		return done
	}
	first := get("a1")
	<-begun
	wantCode(t, <-get("a2"), codes.ResourceExhausted,
		`Get: of identity "reader", 1 requests are under way, which is its limit (requests-in-flight); retry later (not applied)`)
	release()
	if err := <-first; err != nil {
		t.Error(err)
	}
	wantDenied(t, "another key", <-get("b"), codes.PermissionDenied)
	var prefix string
	err = r.Stream(ctx, serverpb.DKV_Iterate_FullMethodName, &serverpb.IterateRequest{KeyPrefix: []byte("a3")}, func(m any) error {
		prefix = string(m.(*serverpb.IterateResponse).GetKey())
		return nil
	})
	if err != nil || prefix != "a3" {
		t.Errorf("a stream: %q, %v", prefix, err)
	}
	err = r.Stream(ctx, serverpb.DKV_Iterate_FullMethodName, &serverpb.IterateRequest{KeyPrefix: []byte("b")}, func(any) error { return nil })
	wantDenied(t, "a stream of other keys", err, codes.PermissionDenied)
	if _, err := r.Invoke(ctx, "/x/Y", nil); err == nil {
		t.Error("a method that does not exist was called")
	}
	if err := r.Stream(ctx, "/x/Y", nil, nil); err == nil {
		t.Error("a stream that does not exist was opened")
	}
	counted := r.text("dkv_requests_total")
	for _, want := range []string{`{code="OK",op="Get"} 1`, `{code="ResourceExhausted",op="Get"} 1`, `{code="PermissionDenied",op="Get"} 1`, `{code="OK",op="Iterate"} 1`} {
		if !strings.Contains(counted, want) {
			t.Errorf("%s is missing in\n%s", want, counted)
		}
	}
}

// A call that was given up before its handler has the request is not begun: the client is not told
// what came of it in any case.
func TestCallsThatWereGivenUpAreNotBegun(t *testing.T) {
	r := newRig(t)
	r.service.get = func(context.Context, *serverpb.GetRequest) (*serverpb.GetResponse, error) {
		t.Error("it is begun")
		return &serverpb.GetResponse{}, nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := r.Invoke(ctx, serverpb.DKV_Get_FullMethodName, &serverpb.GetRequest{Key: []byte("k")})
	wantCode(t, err, codes.Canceled, "the call was given up before it was begun: context canceled (not applied)")
}
