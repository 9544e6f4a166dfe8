package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/kv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wire is a stream between two ends of a test.
type wire struct {
	ctx       context.Context
	there     chan []byte // closed by CloseSend
	back      chan []byte
	broken    chan struct{}
	breakOnce sync.Once
	served    chan struct{} // closed when Serve has returned
	messages  atomic.Int64  // that went back
}

func newWire(ctx context.Context) *wire {
	return &wire{ctx: ctx, there: make(chan []byte), back: make(chan []byte), broken: make(chan struct{}), served: make(chan struct{})}
}

func (w *wire) breaks() { w.breakOnce.Do(func() { close(w.broken) }) }

var errTorn = errors.New("torn")

func (w *wire) put(to chan []byte, m any) error {
	slice := m.(*Message).Marshal()
	defer slice.Free()
	select {
	case to <- slice.Materialize():
		return nil
	case <-w.broken:
		return errTorn
	}
}

func (w *wire) get(from chan []byte, m any, end <-chan struct{}) error {
	select {
	case data, open := <-from:
		if !open {
			return io.EOF
		}
		m.(*Message).Unmarshal(mem.BufferSlice{mem.SliceBuffer(data)})
		return nil
	case <-end:
		return io.EOF
	case <-w.broken:
		return errTorn
	}
}

// sending and receiving are its ends.
type sending struct{ *wire }

func (s sending) SendMsg(m any) error { return s.put(s.there, m) }
func (s sending) RecvMsg(m any) error { return s.get(s.back, m, s.served) }
func (s sending) CloseSend() error    { close(s.there); return nil }

type receiving struct{ *wire }

func (r receiving) Context() context.Context { return r.ctx }
func (r receiving) SendMsg(m any) error      { r.messages.Add(1); return r.put(r.back, m) }
func (r receiving) RecvMsg(m any) error      { return r.get(r.there, m, nil) }

// handler answers as a test says.
type handler func(ctx context.Context, method, request string) Answer

type callerKey struct{}

func (h handler) Origin(ctx context.Context, o Origin) context.Context {
	return context.WithValue(ctx, callerKey{}, strings.Join(append(o.Caller, o.VBuckets...), " "))
}

func (h handler) Serve(ctx context.Context, _, method, request []byte) Answer {
	m := new(wrapperspb.StringValue)
	if err := proto.Unmarshal(request, m); err != nil {
		return Answer{Status: &spb.Status{Code: 3, Message: err.Error()}}
	}
	return h(ctx, string(method), m.GetValue())
}

func (h handler) Quick(method []byte) bool { return strings.HasSuffix(string(method), "/Get") }
func (h handler) Enter(int) bool           { return true }
func (h handler) Leave()                   {}
func (h handler) Hold(int) *spb.Status     { return nil }
func (h handler) Release(int)              {}

// rig is a line with its other end.
type rig struct {
	*Line
	*wire
	t       *testing.T
	drained chan struct{}
	// ran and answered are what Run and Serve return.
	ran, answered chan error
	retired       chan struct{}
}

func newRig(t *testing.T, h handler) *rig { return newRigOf(t, h) }

func newRigOf(t *testing.T, h Handler) *rig {
	ctx, cancel := context.WithCancel(context.Background())
	r := &rig{wire: newWire(ctx), t: t, drained: make(chan struct{}), ran: make(chan error, 1), answered: make(chan error, 1), retired: make(chan struct{})}
	go func() {
		defer close(r.served)
		r.answered <- Serve(receiving{r.wire}, 1<<20, r.drained, h)
	}()
	var err error
	if r.Line, err = Open(sending{r.wire}); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.ran <- r.Run(func() { close(r.retired) }, func() {})
	}()
	t.Cleanup(func() {
		r.retire()
		<-ended
		r.breaks()
		cancel()
		<-r.served
	})
	return r
}

func request(text string) *Call {
	return &Call{Method: "/s/M", Request: wrapperspb.String(text), Caller: []string{"dkv-identity", "alice"}, VBuckets: []string{"v1"}}
}

func text(t *testing.T, reply Reply) string {
	t.Helper()
	m := new(wrapperspb.StringValue)
	if err := proto.Unmarshal(reply.Response, m); err != nil {
		t.Fatal(err)
	}
	return m.GetValue()
}

// TestEachCallerGetsItsAnswer: many calls at the same time, answered in any order, from the
// caller that each has named.
func TestEachCallerGetsItsAnswer(t *testing.T) {
	r := newRig(t, func(ctx context.Context, method, request string) Answer {
		return Answer{Response: wrapperspb.String(fmt.Sprint(method, " ", request, " for ", ctx.Value(callerKey{})))}
	})
	var all sync.WaitGroup
	for i := range 500 {
		all.Go(func() {
			c := request(fmt.Sprint("request ", i))
			c.VBuckets = []string{fmt.Sprint("v", i%300)} // more than are kept
			reply, err := r.Call(t.Context(), c)
			if err != nil {
				t.Error(err)
				return
			}
			if got, want := text(t, reply), fmt.Sprintf("/s/M request %d for dkv-identity alice v%d", i, i%300); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
	all.Wait()
}

// TestAnswersOfAllKinds: a response that is encoded already, a status, and one that is too
// large for the stream.
func TestAnswersOfAllKinds(t *testing.T) {
	encoded, err := proto.Marshal(wrapperspb.String("encoded"))
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, func(_ context.Context, _, request string) Answer {
		switch request {
		case "encoded":
			return Answer{Encoded: mem.BufferSlice{mem.SliceBuffer(encoded[:3]), mem.SliceBuffer(encoded[3:])}}
		case "large":
			return Answer{TooLarge: true}
		case "broken":
			return Answer{Response: wrapperspb.String("\xff")} // cannot be encoded
		}
		return Answer{Status: &spb.Status{Code: 5, Message: "no " + request}}
	})
	if reply, err := r.Call(t.Context(), request("encoded")); err != nil || text(t, reply) != "encoded" {
		t.Errorf("%+v, %v", reply, err)
	}
	if reply, err := r.Call(t.Context(), request("large")); err != nil || !reply.TooLarge || reply.Status != nil {
		t.Errorf("%+v, %v", reply, err)
	}
	for name, want := range map[string]*spb.Status{
		"key":    {Code: 5, Message: "no key"},
		"broken": {Code: codeInternal, Message: "encoding the response: string field contains invalid UTF-8"},
	} {
		reply, err := r.Call(t.Context(), request(name))
		st := new(spb.Status)
		if err := errors.Join(err, proto.Unmarshal(reply.Status, st)); err != nil || st.Code != want.Code || !strings.HasSuffix(st.Message, want.Message) {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
}

// TestTheEndOfAWaitReachesTheServer: the deadline is sent with the call, and a caller that
// leaves ends what is done for it. Its answer goes to no other call.
func TestTheEndOfAWaitReachesTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun, ended := make(chan time.Time, 1), make(chan struct{}, 1)
		r := newRig(t, func(ctx context.Context, _, request string) Answer {
			if request == "wait" {
				deadline, _ := ctx.Deadline()
				begun <- deadline
				<-ctx.Done()
				ended <- struct{}{}
			}
			return Answer{Response: wrapperspb.String(request)}
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		left := make(chan error)
		go func() {
			_, err := r.Call(ctx, request("wait"))
			left <- err
		}()
		if d := time.Until(<-begun); d <= 59*time.Second || d > time.Minute {
			t.Errorf("the server has %v for it", d)
		}
		cancel()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		<-ended
		moved := request("wait")
		moved.Moved = func() bool { return true }
		go func() { <-begun }()
		if _, err := r.Call(t.Context(), moved); !errors.Is(err, ErrMoved) {
			t.Error(err)
		}
		<-ended
		if reply, err := r.Call(t.Context(), request("next")); err != nil || text(t, reply) != "next" {
			t.Errorf("%+v, %v", reply, err)
		}
		r.retire()
		<-r.ran
	})
}

// TestDrainingServerAnswersWhatItWasSent: the sender takes no further calls, and every call
// that it has taken is answered.
func TestDrainingServerAnswersWhatItWasSent(t *testing.T) {
	gate, begun := make(chan struct{}), make(chan struct{})
	r := newRig(t, func(_ context.Context, _, request string) Answer {
		close(begun)
		<-gate
		return Answer{Response: wrapperspb.String(request)}
	})
	done := make(chan error, 1)
	go func() {
		_, err := r.Call(t.Context(), request("last"))
		done <- err
	}()
	<-begun
	close(r.drained)
	<-r.retired
	if _, err := r.Call(t.Context(), request("late")); !errors.Is(err, ErrNotTaken) {
		t.Errorf("a later call: %v", err)
	}
	close(gate)
	if err := <-done; err != nil {
		t.Errorf("the call before: %v", err)
	}
	if err := errors.Join(<-r.ran, <-r.answered); err != nil {
		t.Error(err)
	}
}

// TestBrokenStreamLeavesNoOneWaiting: what was sent has an unknown outcome, and nothing more
// is taken.
func TestBrokenStreamLeavesNoOneWaiting(t *testing.T) {
	begun := make(chan struct{})
	r := newRig(t, func(ctx context.Context, _, _ string) Answer {
		close(begun)
		<-ctx.Done()
		return Answer{Status: &spb.Status{Code: 1}}
	})
	done := make(chan error, 1)
	go func() {
		_, err := r.Call(context.Background(), request("k"))
		done <- err
	}()
	<-begun
	r.breaks()
	if err := <-done; !errors.Is(err, ErrBroken) {
		t.Error(err)
	}
	<-r.retired
	if _, err := r.Call(t.Context(), request("late")); !errors.Is(err, ErrNotTaken) {
		t.Errorf("a later call: %v", err)
	}
	if err := <-r.ran; !errors.Is(err, errTorn) {
		t.Error(err)
	}
	r.Line.out.mu.Lock()
	defer r.Line.out.mu.Unlock()
	if len(r.Line.waiting) > 0 {
		t.Errorf("%d calls wait", len(r.Line.waiting))
	}
}

// TestCallsThatAreTooLateAreNotSent, and say so: then nothing can have come of them.
func TestCallsThatAreTooLateAreNotSent(t *testing.T) {
	var served atomic.Int64
	r := newRig(t, func(context.Context, string, string) Answer {
		served.Add(1)
		return Answer{Response: wrapperspb.String("")}
	})
	expired, end := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer end()
	cancelled, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("the caller is gone")
	cancel(gone)
	for why, ctx := range map[error]context.Context{context.DeadlineExceeded: expired, gone: cancelled} {
		if _, err := r.Call(ctx, request("late")); !errors.Is(err, ErrUnsent) || !errors.Is(err, why) {
			t.Errorf("%v: %v", why, err)
		}
	}
	if _, err := r.Call(t.Context(), request("in time")); err != nil || served.Load() != 1 {
		t.Errorf("%d calls were served, %v", served.Load(), err)
	}
}

// TestLargeRequestsAreNotTaken: they would hold up the others.
func TestLargeRequestsAreNotTaken(t *testing.T) {
	r := newRig(t, func(context.Context, string, string) Answer { return Answer{Response: wrapperspb.String("")} })
	if _, err := r.Call(t.Context(), request(strings.Repeat("x", maxRequest+1))); !errors.Is(err, ErrNotTaken) {
		t.Error(err)
	}
	if _, err := r.Call(t.Context(), request(strings.Repeat("x", maxRequest-10))); err != nil {
		t.Error(err)
	}
}

// full is a handler that lets no call in while others, of which the stream knows nothing, are there.
type full struct {
	handler
	others atomic.Int64
}

func (f *full) Enter(int) bool { return f.others.Load() == 0 }

// TestCallsEnterOnceThoseOfOtherStreamsEnd: that of its own stream which is under way may take long.
func TestCallsEnterOnceThoseOfOtherStreamsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		long := make(chan struct{})
		f := &full{handler: func(_ context.Context, _, request string) Answer {
			if request == "long" {
				<-long
			}
			return Answer{Response: wrapperspb.String(request)}
		}}
		r := newRigOf(t, f)
		answers := make(chan error, 2)
		call := func(key string) { _, err := r.Call(t.Context(), request(key)); answers <- err }
		go call("long")
		synctest.Wait() // it is served
		f.others.Store(1)
		go call("short")
		synctest.Wait() // it waits
		f.others.Store(0)
		select {
		case err := <-answers:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(time.Minute):
			t.Error("the call is not served")
		}
		close(long)
		if err := <-answers; err != nil {
			t.Error(err)
		}
	})
}

// TestIdleLineEnds: a connection that is not used may be closed.
func TestIdleLineEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(context.Context, string, string) Answer { return Answer{Response: wrapperspb.String("")} })
		if _, err := r.Call(t.Context(), request("k")); err != nil {
			t.Error(err)
		}
		begin := time.Now()
		if err := errors.Join(<-r.ran, <-r.answered); err != nil || time.Since(begin) > 2*idle {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
	})
}

// TestMessagesAreProtobuf: by api/peer.proto, with fields of a later release.
func TestMessagesAreProtobuf(t *testing.T) {
	forwarded := request("k")
	forwarded.Client = kv.Client{Host: netip.MustParseAddr("192.0.2.1"), Conn: 9}
	b, err := appendCall(nil, 7, forwarded, 1500*time.Microsecond)
	if err != nil {
		t.Fatal(err)
	}
	request, _ := proto.Marshal(wrapperspb.String("k"))
	calls := new(peerpb.ForwardedCalls)
	if err := proto.Unmarshal(appendCancel(b, 6), calls); err != nil {
		t.Fatal(err)
	}
	want := &peerpb.ForwardedCalls{Calls: []*peerpb.ForwardedCall{
		{Id: 7, Origin: &peerpb.ForwardedOrigin{Caller: []string{"dkv-identity", "alice"}, VBuckets: []string{"v1"}}, Method: "/s/M", TimeoutMicros: 1500, Request: request, Client: "192.0.2.1/9"},
		{Id: 6, Cancel: true},
	}}
	if !proto.Equal(calls, want) {
		t.Errorf("%v", calls)
	}
	raw, _ := proto.Marshal(want.Calls[0])
	raw = appendNumber(raw, 99, 1)
	if c, err := parseCall(raw); err != nil || c.id != 7 || string(c.method) != "/s/M" || string(c.request) != string(request) || c.timeout != 1500*time.Microsecond || c.cancel || string(c.client) != "192.0.2.1/9" {
		t.Errorf("%+v, %v", c, err)
	}
	st := &spb.Status{Code: 5, Message: "none"}
	if b, err = appendAnswer(nil, 8, &Answer{Status: st}); err != nil {
		t.Fatal(err)
	}
	answers := new(peerpb.ForwardedAnswers)
	if err := proto.Unmarshal(appendNumber(b, fieldClosing, 1), answers); err != nil || !answers.Closing || len(answers.Answers) != 1 {
		t.Fatalf("%v, %v", answers, err)
	}
	got := new(spb.Status)
	if err := proto.Unmarshal(answers.Answers[0].Status, got); err != nil || !proto.Equal(got, st) || answers.Answers[0].Id != 8 {
		t.Errorf("%v, %v", got, err)
	}
}

// FuzzMessages: nothing that arrives ends the process.
func FuzzMessages(f *testing.F) {
	b, _ := appendCall(nil, 7, request("k"), time.Second)
	f.Add(b)
	b, _ = appendAnswer(nil, 8, &Answer{TooLarge: true})
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = parseCall(b)
		_, _ = parseAnswer(b)
		_, _ = parseOrigin(b)
	})
}
