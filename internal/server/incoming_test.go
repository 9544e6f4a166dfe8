package server

import (
	"bytes"
	"context"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	pb "google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/testkit"
)

func emptyPuts(n int) *serverpb.MultiPutRequest {
	out := &serverpb.MultiPutRequest{}
	for range n {
		out.PutRequest = append(out.PutRequest, &serverpb.PutRequest{})
	}
	return out
}

// A request whose elements are empty takes a hundred times as much memory as it has
// bytes, and is refused before it is decoded if that is too much.
func TestElementsOfRequestsAreCounted(t *testing.T) {
	r := newRig(t, limitMemoryTo(16<<20))
	_, err := r.MultiPut(t.Context(), emptyPuts(100_000)) // 200 kB
	if st := status.Convert(err); st.Code() != codes.InvalidArgument || !strings.Contains(st.Message(), "would take 24 MiB of memory, the limit is 8 MiB") {
		t.Errorf("too many: %v", err)
	}
	if r.hits(limitMemory) != 1 {
		t.Error("the metric does not tell")
	}
	if _, err := r.MultiPut(t.Context(), emptyPuts(30_000)); status.Code(err) != codes.Unimplemented {
		t.Errorf("as many as there is room for: %v", err)
	}
	// What others hold is waited for, a little.
	const all = 8 << 20
	if !r.calls.decoded.TryAcquire(all) {
		t.Fatal("not all is given back")
	}
	_, err = r.MultiPut(t.Context(), emptyPuts(1000))
	if st := status.Convert(err); st.Code() != codes.ResourceExhausted || !strings.Contains(st.Message(), "max-memory-in-flight") {
		t.Errorf("while others hold it: %v", err)
	}
	r.others()
	r.calls.decoded.Release(all)
	if _, err := r.MultiPut(t.Context(), emptyPuts(1000)); status.Code(err) != codes.Unimplemented {
		t.Errorf("afterwards: %v", err)
	}
	if !r.calls.decoded.TryAcquire(all) {
		t.Error("not all is given back in the end")
	}
}

func TestExpansion(t *testing.T) {
	encoded := func(m pb.Message) []byte {
		t.Helper()
		raw, err := pb.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	for name, c := range map[string]struct {
		message pb.Message
		raw     []byte
		want    int64
	}{
		"messages":  {&serverpb.MultiPutRequest{}, encoded(emptyPuts(7)), 7 * messageElement},
		"bytes":     {&serverpb.MultiGetRequest{}, encoded(&serverpb.MultiGetRequest{Keys: [][]byte{nil, {1}, {2}}, MinIndex: 3}), 3 * bytesElement},
		"no list":   {&serverpb.PutRequest{}, encoded(&serverpb.PutRequest{Key: []byte("k"), RequestId: &serverpb.RequestID{ClientId: 1}}), 0},
		"unknown":   {&serverpb.PutRequest{}, bytes.Repeat([]byte{0xf2, 0x7f, 0}, 10), 0},
		"malformed": {&serverpb.MultiPutRequest{}, append(encoded(emptyPuts(2)), 0x0a, 0xff), 2 * messageElement},
	} {
		if got := expansion(c.message.ProtoReflect().Descriptor(), c.raw, math.MaxInt64); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// Of a message that is refused for its elements few are looked at: that takes less time
// than it takes to send them. Those at its end do not count then.
func TestExpansionIsNotCountedToTheEnd(t *testing.T) {
	raw, err := pb.Marshal(emptyPuts(1000))
	if err != nil {
		t.Fatal(err)
	}
	raw = append(raw, bytes.Repeat([]byte{0xff}, len(raw))...) // is no field
	const most = 10 * messageElement
	if got, want := expansion((&serverpb.MultiPutRequest{}).ProtoReflect().Descriptor(), raw, most), int64(2000*messageElement); got != want {
		t.Errorf("%d, want %d", got, want)
	}
}

// What cannot be decoded is the client's mistake, and not the server's. Of an
// administrative call it is no audited one: nothing was asked for.
func TestUndecodableRequests(t *testing.T) {
	r := newRig(t)
	a := r.attack(1<<16, true)
	for _, method := range []string{serverpb.DKV_Put_FullMethodName, serverpb.DKV_Iterate_FullMethodName, serverpb.DKVNode_PauseWrites_FullMethodName} {
		for range 2 * linesAtOnce {
			s, _ := a.Begin(method)
			a.Data(s, []byte{0, 0, 0, 0, 2, 0x0a, 0xff}, true, 100)
			if end := <-a.Ends; end.Code != codes.InvalidArgument || !strings.Contains(end.Message, "that can be decoded") {
				t.Fatalf("%s ended with %+v", method, end)
			}
		}
	}
	s, _ := a.Begin(serverpb.DKV_Iterate_FullMethodName)
	a.Data(s, nil, true, 100)
	if end := <-a.Ends; end.Code == codes.OK { // gRPC decides what
		t.Errorf("a stream without a request ended with %+v", end)
	}
	if n := len(r.audit.Lines()); n != 0 {
		t.Errorf("%d lines in the audit log", n)
	}
	told := 0
	for _, line := range r.log.Lines() {
		if strings.Contains(line, "administrative call that was not made") {
			told++
		}
		if strings.Contains(line, "level=ERROR") {
			t.Errorf("logged as an error of the server: %s", line)
		}
	}
	if told == 0 || told > linesAtOnce+20 {
		t.Errorf("the log tells of %d calls", told)
	}
}

// Requests of many elements are decoded a few at a time: the others wait their turn, and those with
// few elements do not wait. One that is given up is not decoded.
func TestLargeRequestsAreDecodedInTurn(t *testing.T) {
	r := newRig(t, limitMemoryTo(64<<20))
	gate := r.calls.decoding
	places := max(runtime.GOMAXPROCS(0)/2, 1)
	for range places {
		if err := gate.Enter(t.Context(), kv.Client{}); err != nil {
			t.Fatal(err)
		}
	}
	send := func(ctx context.Context, puts int) <-chan error {
		done := make(chan error, 1)
		go func() {
			_, err := r.MultiPut(ctx, emptyPuts(puts))
			done <- err
		}()
		return done
	}
	if err := <-send(t.Context(), 100); status.Code(err) != codes.Unimplemented {
		t.Errorf("a small one: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	large, givenUp := send(t.Context(), 10_000), send(ctx, 10_000)
	testkit.Eventually(t, "both are there", func() bool { return r.gauge("dkv_requests_in_flight") == 2 })
	select {
	case err := <-large:
		t.Errorf("it did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	cancel()
	if err := <-givenUp; status.Code(err) != codes.Canceled {
		t.Errorf("one that is given up: %v", err)
	}
	for range places {
		gate.Leave()
	}
	if err := <-large; status.Code(err) != codes.Unimplemented {
		t.Errorf("when it is its turn: %v", err)
	}
	r.drained()
}
