package server

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/access"
	"github.com/dkvdb/dkv/internal/access/accesstest"
	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/forward"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/internal/testkit/rawgrpc"
)

// line opens the stream of forwarded calls. It ends with the test.
func (r *rig) line(ctx context.Context) (*forward.Line, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := r.conn.NewStream(ctx, &peerpb.Forwarding_ServiceDesc.Streams[0], peerpb.Forwarding_Forward_FullMethodName, grpc.ForceCodecV2(forward.Codec))
	if err == nil {
		var l *forward.Line
		if l, err = forward.Open(stream); err == nil {
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_ = l.Run(func() {}, cancel) // the test ends it
			}()
			r.t.Cleanup(func() { cancel(); <-ended })
			return l, nil
		}
	}
	cancel()
	return nil, err
}

// forwards makes a Get over a line, for a caller.
func forwards(ctx context.Context, l *forward.Line, key string, caller ...string) (forward.Reply, error) {
	reply, err := l.Call(ctx, &forward.Call{
		Method: serverpb.DKV_Get_FullMethodName, Request: &serverpb.GetRequest{Key: []byte(key)}, Caller: caller, VBuckets: []string{"v1"},
	})
	if err != nil || reply.Status == nil {
		return reply, err
	}
	st := new(spb.Status)
	return reply, errors.Join(proto.Unmarshal(reply.Status, st), status.ErrorProto(st))
}

// TestForwardedCallsAreCheckedOneByOne: the stream is a node's, and each call in it another
// caller's, with that one's grants.
func TestForwardedCallsAreCheckedOneByOne(t *testing.T) {
	r, a := newGuarded(t)
	a.Grant("reader", grant(auth.Read, "a/"))
	if _, err := r.line(as(t, "reader")); status.Code(err) != codes.PermissionDenied {
		t.Errorf("the stream of one that is no node: %v", err)
	}
	l, err := r.line(as(t, accesstest.NodeToken))
	if err != nil {
		t.Fatal(err)
	}
	who := ""
	r.service.get = func(ctx context.Context, req *serverpb.GetRequest) (*serverpb.GetResponse, error) {
		who = auth.FromContext(ctx).Name
		md, _ := metadata.FromIncomingContext(ctx)
		if len(md.Get("dkv-forwarded")) != 1 || len(md.Get("dkv-vbucket")) != 1 || md.Get("dkv-vbucket")[0] != "v1" {
			t.Errorf("it is not marked: %v", md)
		}
		return &serverpb.GetResponse{Value: req.Key}, nil
	}
	if _, err := forwards(t.Context(), l, "a/1", "dkv-identity", "reader"); err != nil || who != "reader" {
		t.Errorf("it is %q's: %v", who, err)
	}
	who = ""
	_, err = forwards(t.Context(), l, "b", "dkv-identity", "reader")
	wantDenied(t, "another key", err, codes.PermissionDenied)
	_, err = forwards(t.Context(), l, "a/1", "dkv-identity", "stranger")
	wantDenied(t, "an unknown identity", err, codes.PermissionDenied)
	_, err = forwards(t.Context(), l, "a/1", "dkv-identity", "reader", "authorization", "Bearer "+accesstest.NodeToken, "dkv-identity", "reader")
	wantDenied(t, "two identities", err, codes.PermissionDenied)
	if who != "" {
		t.Error("a handler has served what is not granted")
	}
	if _, err := forwards(t.Context(), l, "b"); err != nil || who == "reader" {
		t.Errorf("the node's own call: %v", err)
	}
}

// TestForwardedCallsCountAsCalls: limits and metrics are those of calls of their own, and an
// end of one ends no other.
func TestForwardedCallsCountAsCalls(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxInFlight = 1; o.MaxMemory = 1 << 20 })
	l, err := r.line(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	begun, release := r.service.hold()
	done := make(chan error, 1)
	go func() {
		_, err := forwards(t.Context(), l, "a")
		done <- err
	}()
	<-begun
	_, err = forwards(t.Context(), l, "b")
	wantDenied(t, "one more", err, codes.ResourceExhausted)
	release()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, size := range []int{10, countedFrom, forward.MaxResponse / 2, 2 * forward.MaxResponse} {
		value := bytes.Repeat([]byte("v"), size)
		r.service.get = func(context.Context, *serverpb.GetRequest) (*serverpb.GetResponse, error) {
			return &serverpb.GetResponse{Value: value}, nil
		}
		reply, err := forwards(t.Context(), l, "k")
		got := new(serverpb.GetResponse)
		if err := errors.Join(err, proto.Unmarshal(reply.Response, got)); err != nil {
			t.Fatal(err)
		}
		if large := size > forward.MaxResponse; reply.TooLarge != large || !large && !bytes.Equal(got.GetValue(), value) {
			t.Errorf("a value of %d bytes: too large %v, %d bytes arrive", size, reply.TooLarge, len(got.GetValue()))
		}
	}
	// Last, since it may arrive all the same.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := forwards(ctx, l, "c"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	testkit.Eventually(t, "its memory is free", func() bool { return r.calls.wire.held.Load() == 0 && r.calls.inFlight.taken.Load() == 0 })
	if n := r.calls.methods[serverpb.DKV_Get_FullMethodName].byCode[codes.OK].Load(); n < 5 {
		t.Errorf("%d calls are counted", n)
	}
}

// TestDrainWaitsForForwardedCalls: what has arrived is answered, and the stream does not keep
// the server from stopping.
func TestDrainWaitsForForwardedCalls(t *testing.T) {
	r := newRig(t)
	l, err := r.line(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	begun, release := r.service.hold()
	done := make(chan error, 1)
	go func() {
		_, err := forwards(context.Background(), l, "a")
		done <- err
	}()
	<-begun
	r.stop()
	testkit.Eventually(t, "no further call is taken", func() bool {
		_, err := l.Call(t.Context(), &forward.Call{Method: "/none", Request: &serverpb.GetRequest{}})
		return errors.Is(err, forward.ErrNotTaken)
	})
	release()
	if err := <-done; err != nil {
		t.Error(err)
	}
	<-r.ran
}

// sendCalls sends calls over a stream as they are.
func sendCalls(t *testing.T, s grpc.ClientStream, all ...*peerpb.ForwardedCall) {
	t.Helper()
	if err := s.SendMsg(&peerpb.ForwardedCalls{Calls: all}); err != nil {
		t.Fatal(err)
	}
}

// bareStream opens a stream of forwarded calls that no line runs.
func (r *rig) bareStream(t *testing.T) grpc.ClientStream {
	t.Helper()
	s, err := r.conn.NewStream(t.Context(), &peerpb.Forwarding_ServiceDesc.Streams[0], peerpb.Forwarding_Forward_FullMethodName)
	if err == nil {
		err = s.RecvMsg(new(peerpb.ForwardedAnswers)) // its limits
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func someGet(t *testing.T, id uint64) *peerpb.ForwardedCall {
	t.Helper()
	request, err := proto.Marshal(&serverpb.GetRequest{Key: []byte("k")})
	if err != nil {
		t.Fatal(err)
	}
	return &peerpb.ForwardedCall{Id: id, Method: serverpb.DKV_Get_FullMethodName, Request: request}
}

// TestStrangeForwardedCallsEndTheirStream: each would hold memory for as long as the stream lasts.
func TestStrangeForwardedCallsEndTheirStream(t *testing.T) {
	r := newRig(t, func(*Options) {})
	begun, release := r.service.hold()
	defer release()
	twice := r.bareStream(t)
	sendCalls(t, twice, someGet(t, 7))
	<-begun
	sendCalls(t, twice, someGet(t, 7))
	large := r.bareStream(t)
	padded := someGet(t, 1)
	padded.Request = make([]byte, 900<<10)
	sendCalls(t, large, padded)
	release()
	for name, s := range map[string]grpc.ClientStream{"the same id": twice, "larger than it may be": large} {
		var err error
		for err == nil {
			err = s.RecvMsg(new(peerpb.ForwardedAnswers))
		}
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), name) {
			t.Errorf("a stream whose calls are %s: %v", name, err)
		}
	}
}

// TestForwardedCallsHoldTheirMessages: a call that waits keeps the whole message that it came with,
// which counts as the requests of other calls do.
func TestForwardedCallsHoldTheirMessages(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxMemory = 1 << 20 })
	begun, release := r.service.hold()
	defer release()
	s := r.bareStream(t)
	const padding = 400 << 10
	for id := range uint64(2) {
		message := &peerpb.ForwardedCalls{Calls: []*peerpb.ForwardedCall{someGet(t, 1+id)}}
		message.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, 100, protowire.BytesType), make([]byte, padding)))
		if err := s.SendMsg(message); err != nil {
			t.Fatal(err)
		}
		if id == 0 {
			<-begun
			testkit.Eventually(t, "it is counted", func() bool { return r.calls.wire.held.Load() >= padding })
		}
	}
	answers := new(peerpb.ForwardedAnswers)
	if err := s.RecvMsg(answers); err != nil {
		t.Fatal(err)
	}
	st := new(spb.Status)
	if a := answers.GetAnswers(); len(a) != 1 || a[0].GetId() != 2 || proto.Unmarshal(a[0].GetStatus(), st) != nil || codes.Code(st.GetCode()) != codes.ResourceExhausted {
		t.Fatalf("%v", answers)
	}
	release()
	testkit.Eventually(t, "it is counted no more", func() bool { return r.calls.wire.held.Load() == 0 })
}

// forwarding begins a stream of forwarded calls, of which a first one is served.
func (r *rig) forwarding(t *testing.T) (c *rawgrpc.Client, stream uint32) {
	t.Helper()
	c = r.attack(1<<20, true)
	s, ok := c.Begin(peerpb.Forwarding_Forward_FullMethodName)
	first := rawgrpc.Message(&peerpb.ForwardedCalls{Calls: []*peerpb.ForwardedCall{someGet(t, 1)}})
	if !ok || !c.Data(s, first, false, len(first)) {
		t.Fatal("it cannot be sent")
	}
	testkit.Eventually(t, "a first call is served", func() bool {
		return r.calls.methods[serverpb.DKV_Get_FullMethodName].byCode[codes.OK].Load() > 0
	})
	return c, s
}

// TestHalvesOfForwardedCallsCount: what has arrived of a message counts before the rest of it has.
func TestHalvesOfForwardedCallsCount(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxMemory = 4 << 20; o.MaxMessageSize = 16 << 20 })
	c, s := r.forwarding(t)
	head := []byte{0, 0, 0xf0, 0, 0}
	if !c.Data(s, head, false, len(head)) || !c.AwaitWindow(s) {
		t.Fatal("it cannot be sent")
	}
	c.Data(s, make([]byte, 6<<20), false, 16<<10)
	if end := <-c.Ends; end.Code != codes.ResourceExhausted {
		t.Errorf("%v", end)
	}
	testkit.Eventually(t, "nothing is left", func() bool { return r.calls.wire.held.Load() == 0 })
}

// TestStalledRequestsEndBeforeStreamsOfForwardedCalls: the calls of such a stream would have an
// unknown outcome.
func TestStalledRequestsEndBeforeStreamsOfForwardedCalls(t *testing.T) {
	for name, own := range map[string]bool{"of other connections": false, "of its own": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, limitMemoryTo(8<<20), func(o *Options) { o.MaxMessageSize = 16 << 20 })
			c, s := r.forwarding(t)
			stalled := []*rawgrpc.Client{c}
			if !own {
				stalled = []*rawgrpc.Client{r.attack(1<<16, true), r.attack(1<<16, true)}
			}
			const part, sent = 3 << 20, 5 << 19 // so that what is left tells which one has ended
			for i, a := range stalled {
				a.Announce(serverpb.DKV_Get_FullMethodName, part+1, make([]byte, part), 16<<10)
				testkit.Eventually(t, "memory is taken", func() bool { return r.calls.wire.held.Load() > int64(i+1)*part })
			}
			// Not before they are stale. Nothing else tells when that is.
			time.Sleep(stale)
			head := []byte{0, 0, 0xf0, 0, 0}
			if !c.Data(s, head, false, len(head)) || !c.AwaitWindow(s) || !c.Data(s, make([]byte, sent), false, 16<<10) {
				t.Fatal("it cannot be sent")
			}
			left := int64(len(stalled)-1) * part
			testkit.Eventually(t, "a stalled one has ended and the stream has not", func() bool {
				n := r.calls.wire.held.Load() - left
				return n > sent && n < part
			})
		})
	}
}

// TestStreamsOfForwardedCallsShareRoom: one that fills up leaves the others theirs.
func TestStreamsOfForwardedCallsShareRoom(t *testing.T) {
	c := newCalls(Options{MaxInFlight: 1000}, nil)
	c.shared.streams.Store(2)
	f := &forwarded{calls: c}
	busy := 0
	for busy < forward.AtOnce && f.Enter(busy) {
		busy++
	}
	if busy != 1250/2 {
		t.Errorf("a stream has %d calls under way", busy)
	}
	other := 0
	for other < busy && f.Enter(other) {
		other++
	}
	if other != busy {
		t.Errorf("another one has %d", other)
	}
	f.Leave()
	c.shared.streams.Store(100)
	if !f.Enter(leastShared-1) || f.Enter(leastShared) {
		t.Error("one of many has not what each may have")
	}
}

// TestFewStreamsOfForwardedCallsForAConnection: a node needs one.
func TestFewStreamsOfForwardedCallsForAConnection(t *testing.T) {
	r := newRig(t, func(*Options) {})
	var all []grpc.ClientStream
	for range maxShared {
		all = append(all, r.bareStream(t))
	}
	if _, err := r.line(t.Context()); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one more: %v", err)
	}
	if err := all[0].CloseSend(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "one has ended", func() bool { _, err := r.line(t.Context()); return err == nil })
}

// TestClientsOfANodeAreToldApart: those whose calls a node forwards take turns as those do who
// call this node, and only a node may say whose calls they are.
func TestClientsOfANodeAreToldApart(t *testing.T) {
	for _, member := range []bool{true, false} {
		r := newRig(t, from("192.0.2.1"), func(o *Options) {
			o.Access = access.NewGuard(access.Options{Exposure: access.Exposed, Member: func(netip.Addr) bool { return member }})
		})
		l, err := r.line(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got kv.Client
		r.service.get = func(ctx context.Context, req *serverpb.GetRequest) (*serverpb.GetResponse, error) {
			got = kv.PlaceOf(ctx).Client()
			return &serverpb.GetResponse{}, nil
		}
		shared := func(c kv.Client) kv.Client {
			request := &forward.Call{Method: serverpb.DKV_Get_FullMethodName, Request: &serverpb.GetRequest{Key: []byte("k")}, Client: c}
			if reply, err := l.Call(t.Context(), request); err != nil || reply.Status != nil {
				t.Fatal(reply, err)
			}
			return got
		}
		alone := func(md ...string) kv.Client {
			if _, err := r.Get(metadata.AppendToOutgoingContext(t.Context(), md...), &serverpb.GetRequest{Key: []byte("k")}); err != nil {
				t.Fatal(err)
			}
			return got
		}
		one := kv.Client{Host: netip.MustParseAddr("192.0.2.7"), Conn: 3}
		another, local := one, kv.Client{Host: netip.MustParseAddr("127.0.0.1"), Conn: 3}
		another.Conn++
		node := shared(kv.Client{})
		if !member {
			if c := shared(one); c != node {
				t.Errorf("one that is no node calls for %v", c)
			}
			continue
		}
		if node.Host != netip.MustParseAddr("192.0.2.1") || alone("dkv-forwarded", "1", kv.ClientKey, "nonsense").Host != node.Host {
			t.Errorf("calls of the node are %v's", node)
		}
		a, b := shared(one), shared(another)
		if a.Host != one.Host || b.Host != one.Host || a == b || a.Conn == one.Conn || a != shared(one) || a != alone("dkv-forwarded", "1", kv.ClientKey, "192.0.2.7/3") {
			t.Errorf("two connections of a host are %v and %v", a, b)
		}
		if c := shared(local); c.Host != node.Host || c == node || c == a {
			t.Errorf("one on the node's own host is %v", c)
		}
		if c := alone(kv.ClientKey, "192.0.2.7/3"); c.Host != node.Host {
			t.Errorf("a call that is not forwarded is %v's", c)
		}
	}
}
