package master

import (
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/master/mastertest"
)

func TestRequestIDs(t *testing.T) {
	r := newRig(t)
	for name, c := range map[string]struct {
		id   *serverpb.RequestID
		want string
	}{
		"no client":      {&serverpb.RequestID{Sequence: 1}, "requestId has a sequence but no clientId"},
		"only acked":     {&serverpb.RequestID{Acked: 1}, "requestId has a sequence but no clientId"},
		"only repeat":    {&serverpb.RequestID{Repeat: true}, "requestId has a sequence but no clientId"},
		"no sequence":    {&serverpb.RequestID{ClientId: 1}, "requestId has no sequence; it counts from 1"},
		"acks itself":    {&serverpb.RequestID{ClientId: 1, Sequence: 2, Acked: 2}, "requestId acknowledges sequence 2, which is not before its own, 2"},
		"acks the later": {&serverpb.RequestID{ClientId: 1, Sequence: 2, Acked: 9}, "requestId acknowledges sequence 9, which is not before its own, 2"},
	} {
		t.Run(name, func(t *testing.T) {
			key := []byte("k")
			for _, err := range []error{
				second(r.Put(t.Context(), &serverpb.PutRequest{Key: key, RequestId: c.id})),
				second(r.MultiPut(t.Context(), &serverpb.MultiPutRequest{PutRequest: []*serverpb.PutRequest{{Key: key}}, RequestId: c.id})),
				second(r.Delete(t.Context(), &serverpb.DeleteRequest{Key: key, RequestId: c.id})),
				second(r.CompareAndSet(t.Context(), &serverpb.CompareAndSetRequest{Key: key, RequestId: c.id})),
				second(r.Increment(t.Context(), &serverpb.IncrementRequest{Key: key, RequestId: c.id})),
			} {
				mastertest.WantStatus(t, err, codes.InvalidArgument, c.want+" (not applied)")
			}
		})
	}
	_, err := r.MultiPut(t.Context(), &serverpb.MultiPutRequest{PutRequest: []*serverpb.PutRequest{
		{Key: []byte("a")}, {Key: []byte("b"), RequestId: &serverpb.RequestID{ClientId: 1, Sequence: 1}},
	}})
	mastertest.WantStatus(t, err, codes.InvalidArgument, "put 2 of 2 has a requestId; it belongs to the whole request (not applied)")
	const level = "the request asks for ack level 9, which this release does not know (not applied)"
	mastertest.WantStatus(t, second(r.Put(t.Context(), &serverpb.PutRequest{Key: []byte("k"), Ack: 9})), codes.InvalidArgument, level)
	mastertest.WantStatus(t, second(r.MultiPut(t.Context(), &serverpb.MultiPutRequest{PutRequest: []*serverpb.PutRequest{{Key: []byte("k")}}, Ack: 9})), codes.InvalidArgument, level)
}

// TestRetry repeats requests that carry an id: each is applied once, and
// answered alike.
func TestRetry(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	inc := func(seq, acked uint64) (*serverpb.IncrementResponse, error) {
		return r.Increment(ctx, &serverpb.IncrementRequest{
			Key: []byte("n"), Delta: 5, RequestId: &serverpb.RequestID{ClientId: 7, Sequence: seq, Acked: acked},
		})
	}
	for range 3 {
		resp, err := inc(1, 0)
		if err != nil || resp.GetValue() != 5 || resp.GetIndex() != 1 {
			t.Errorf("%v, %v", resp, err)
		}
	}
	if resp, err := inc(2, 1); err != nil || resp.GetValue() != 10 {
		t.Errorf("%v, %v", resp, err)
	}
	_, err := inc(1, 0) // a late duplicate
	// The first attempt was applied: an error that said otherwise would have it sent again
	// as a new request.
	mastertest.WantStatus(t, err, codes.FailedPrecondition, "request 1 of client 7 was acknowledged before, so its result is forgotten; "+
		"this attempt was not applied, and the client has had the result of the first one; use a new sequence for another request (outcome unknown)")
	if mastertest.Reason(err) != kv.ReasonUnknown {
		t.Errorf("the error's reason is %s", mastertest.Reason(err))
	}
	cas := func() *serverpb.CompareAndSetResponse {
		resp, err := r.CompareAndSet(ctx, &serverpb.CompareAndSetRequest{
			Key: []byte("c"), NewValue: []byte("v"), RequestId: &serverpb.RequestID{ClientId: 7, Sequence: 3},
		})
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	if first, again := cas(), cas(); !first.GetUpdated() || !again.GetUpdated() || first.GetIndex() != again.GetIndex() {
		t.Errorf("%v, then %v", first, again)
	}
}

// A retry that comes when its result is no longer remembered is not applied
// again, and what became of the first attempt is said to be unknown for good.
func TestRetryThatIsTooLate(t *testing.T) {
	r := newRig(t)
	put := func(key string, seq uint64) error {
		_, err := r.Put(t.Context(), &serverpb.PutRequest{Key: []byte(key), RequestId: &serverpb.RequestID{ClientId: 7, Sequence: seq}})
		return err
	}
	for seq := range uint64(1100) {
		if err := put("k", seq+1); err != nil {
			t.Fatal(err)
		}
	}
	err := put("k", 1)
	mastertest.WantStatus(t, err, codes.FailedPrecondition, "request 1 of client 7 is no longer remembered: an earlier attempt may have been applied, and this one was not; read the key before you write again, with a new sequence (outcome unknown)")
	if got := mastertest.Reason(err); got != kv.ReasonTooLate {
		t.Errorf("reason %q, want %q", got, kv.ReasonTooLate)
	}
	if err := put("k", 1100); err != nil {
		t.Errorf("a retry of the last request: %v", err)
	}
}
