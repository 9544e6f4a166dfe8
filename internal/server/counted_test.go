package server

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/tap"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/internal/testkit/rawgrpc"
)

// reflecting opens a stream of messages of the client's, whose handler takes none any more: its
// answers are not taken. It returns the server's end.
func (r *rig) reflecting(a *rawgrpc.Client) (stream uint32, of *conn) {
	r.t.Helper()
	stream, _ = a.Begin("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
	list := []byte{0, 0, 0, 0, 3, 7<<3&0x7f | 2, 1, '*'} // list_services
	testkit.Eventually(r.t, "its answers wait", func() bool {
		a.Data(stream, slices.Concat(list, list, list, list), false, 1<<10)
		for _, k := range r.calls.streams.all() {
			// On a busy host it may be slow to take them; then it is not kept from sending.
			if k.conn != nil && !k.receiving.Load() && k.stalled(time.Now()) > 300*time.Millisecond {
				of = k.conn
				return of.held() > 200
			}
		}
		return false
	})
	return stream, of
}

// held is how much the requests of the connection hold.
func (c *conn) held() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.received
}

// The messages of a client's stream count until they are read, and are no offence.
func TestUnreadMessagesOfAStreamCount(t *testing.T) {
	r := newRig(t, limitMemoryTo(16<<20))
	a := r.attack(0, true)
	s, c := r.reflecting(a)
	was := c.held()
	if !a.Data(s, make([]byte, 50<<10), false, 16<<10) {
		t.Fatal("the connection was closed")
	}
	testkit.Eventually(t, "they count", func() bool { return c.held() >= was+50<<10 })
	const frames = mostUntaken >> 14
	for range frames { // a fast client has a larger window
		c.data(frame{kind: frameData, stream: s, length: 16 << 10})
	}
	testkit.Eventually(t, "the stream has ended", func() bool { return r.calls.streams.size() == 0 })
	if r.hits(limitMemory) != 1 {
		t.Errorf("the limit was met %v times", r.hits(limitMemory))
	}
	r.others()
	a.Close()
	r.drained()
}

// A message of a client's stream that does not arrive holds memory no longer than a request does;
// a stream may be silent for as long as it likes.
func TestUnfinishedMessagesOfAStreamEnd(t *testing.T) {
	const method = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
	list := []byte{0, 0, 0, 0, 3, 7<<3 | 2, 1, '*'}
	half := append([]byte{0, 0, 1, 0, 0}, make([]byte, 40<<10)...)
	t.Run("in time", func(t *testing.T) {
		r := newRig(t, func(o *Options) { o.ReceiveTimeout = time.Second })
		a := r.attack(1<<16, true)
		s, _ := a.Begin(method)
		a.Data(s, list, false, 1<<10)
		select {
		case end := <-a.Ends:
			t.Fatalf("the silent stream ended with %+v", end)
		case <-time.After(1500 * time.Millisecond):
		}
		a.Data(s, half, false, 16<<10)
		if end := <-a.Ends; end.Code != codes.DeadlineExceeded {
			t.Errorf("ended with %+v", end)
		}
		r.drained()
	})
	t.Run("to make room", func(t *testing.T) {
		r := newRig(t, limitMemoryTo(2<<20))
		var all []*rawgrpc.Client
		for range 4 {
			a := r.attack(1<<16, true)
			all = append(all, a)
			for range 12 {
				s, _ := a.Begin(method)
				a.Data(s, append(slices.Clone(list), half...), false, 16<<10)
			}
		}
		testkit.Eventually(t, "memory is taken", func() bool { return r.calls.wire.held.Load() > 1800<<10 })
		// They are not stale before that, and others do not wait for it.
		testkit.Eventually(t, "another client is served", func() bool {
			_, err := r.Get(t.Context(), &serverpb.GetRequest{Key: make([]byte, 500<<10)})
			return err == nil
		})
		for _, a := range all {
			a.Close()
		}
		r.drained()
	})
}

// Calls that end before they have a handler do not gather until the next look.
func TestCallsWithoutAHandlerAreForgotten(t *testing.T) {
	r := newRig(t)
	c := &conn{calls: r.calls, byStream: make(map[uint32]*call)}
	begin := func(ctx context.Context) {
		c.stream += 2
		if _, err := r.calls.tap(peer.NewContext(ctx, &peer.Peer{Addr: addr{conn: c}}), new(tap.Info)); err != nil {
			t.Fatal(err)
		}
	}
	over, end := context.WithCancel(t.Context())
	end()
	for range 5 * streamsPerConnection {
		begin(over)
	}
	if n := len(c.byStream); n != 0 {
		t.Errorf("%d calls are known that were over when they came", n)
	}
	for range 5 * streamsPerConnection {
		ctx, end := context.WithCancel(t.Context())
		begin(ctx)
		end()
		if n := len(c.byStream); n > 2*streamsPerConnection {
			t.Fatalf("%d calls are known", n)
		}
	}
	if c.received != 0 {
		t.Errorf("%d bytes are counted", c.received)
	}
}

// A client cannot send the rest of a message whose beginning fills the window until that is read.
func TestTheTimeOfAMessageBeginsWhenItIsAwaited(t *testing.T) {
	r := newRig(t)
	long := time.Now().Add(-time.Minute)
	k := &call{Context: t.Context(), calls: r.calls, more: true, shared: true, bytes: streamWindow, first: long, moved: long}
	c := &conn{calls: r.calls, byStream: map[uint32]*call{1: k}}
	k.conn = c
	c.ask(k, true)
	now := time.Now()
	if len(c.overdue(now, receiveTime)) != 0 || c.stalest(now).call != nil {
		t.Error("a stream is ended for the time in which its message was not read")
	}
	now = now.Add(2 * receiveTime)
	if len(c.overdue(now, receiveTime)) != 1 || c.stalest(now).call != k {
		t.Error("a message that does not arrive while it is awaited ends no stream")
	}
}

// Those that are read hold nothing.
func TestMessagesOfAStreamAreGivenBack(t *testing.T) {
	r := newRig(t, limitMemoryTo(16<<20))
	a := r.attack(1<<16, true)
	s, _ := a.Begin("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
	unknown := []byte{0, 0, 0, 0x20, 3, 0x22, 0x80, 0x40} // a symbol of 8 KiB
	for range 3 {
		a.Data(s, append(slices.Clone(unknown), make([]byte, 8<<10)...), false, 16<<10)
	}
	testkit.Eventually(t, "the stream is open", func() bool { return r.calls.streams.size() == 1 })
	r.drained()
	if r.hits(limitMemory) != 0 {
		t.Error("a limit was met")
	}
}

// Large headers are memory as messages are, from before the message on.
func TestHeadersCount(t *testing.T) {
	r := newRig(t, limitMemoryTo(4<<20), func(o *Options) { o.MaxInFlight = 1000 })
	peak := r.peak()
	var all []*rawgrpc.Client
	for range 3 {
		a := r.attack(1<<16, true)
		all = append(all, a)
		for range 60 {
			large := hpack.HeaderField{Name: "x-large", Value: strings.Repeat("y", 60<<10), Sensitive: true}
			if _, ok := a.Begin(serverpb.DKV_Get_FullMethodName, large); !ok {
				t.Fatal("the connection was closed")
			}
		}
		end := <-a.Ends
		if end.Code != codes.ResourceExhausted || !strings.Contains(end.Message, "max-memory-in-flight") {
			t.Errorf("ended with %+v", end)
		}
	}
	r.others()
	if most := peak(); most < 2<<20 || most > 5<<20 {
		t.Errorf("%d MiB were held", most>>20)
	}
	for _, a := range all {
		a.Close()
	}
	r.drained()
	if _, err := r.Get(context.Background(), &serverpb.GetRequest{Key: []byte("k")}); err != nil {
		t.Error(err)
	}
}

// Metadata takes what it has in memory, not on the wire: a byte there may stand for kilobytes at each reference.
func TestMetadataOfTheTableCounts(t *testing.T) {
	r := newRig(t, limitMemoryTo(16<<20))
	for _, key := range []string{"x-bin", "grpc-accept-encoding"} {
		a := r.attack(1<<16, true)
		entry := hpack.HeaderField{Name: key, Value: strings.Repeat("A", 2000)}
		a.Begin(serverpb.DKV_Get_FullMethodName, entry) // it is in the table from now on
		a.Begin(serverpb.DKV_Get_FullMethodName, slices.Repeat([]hpack.HeaderField{entry}, 30)...)
		testkit.Eventually(t, key+" counts", func() bool { return r.calls.wire.held.Load() > 40<<10 })
		a.Close()
		r.drained()
	}
}

// The metadata of a stream counts for as long as that lasts, and makes room for messages of others.
func TestMetadataOfStreamsCounts(t *testing.T) {
	r := newRig(t, limitMemoryTo(2<<20))
	const size = 60 << 10
	watch := func(a *rawgrpc.Client) uint32 {
		s, _ := a.Begin(healthpb.Health_Watch_FullMethodName, hpack.HeaderField{Name: "x-large", Value: strings.Repeat("y", size), Sensitive: true})
		a.Data(s, rawgrpc.Message(&healthpb.HealthCheckRequest{}), true, 16<<10)
		return s
	}
	a := r.attack(1<<16, true)
	s := watch(a)
	testkit.Eventually(t, "the stream is served", func() bool {
		all := r.calls.watching.all()
		return len(all) == 1 && !all[0].receiving.Load()
	})
	if n := r.calls.wire.held.Load(); n < size {
		t.Errorf("%d bytes are held", n)
	}
	a.Reset(s)
	r.drained()
	all := []*rawgrpc.Client{a, r.attack(1<<16, true), r.attack(1<<16, true)}
	for _, a := range all {
		for range 16 {
			watch(a)
		}
	}
	testkit.Eventually(t, "memory is taken", func() bool { return r.calls.wire.held.Load() > 1900<<10 })
	// They do not make room before they are a second old, and others do not wait for that.
	testkit.Eventually(t, "another client is served", func() bool {
		_, err := r.Get(t.Context(), &serverpb.GetRequest{Key: make([]byte, 300<<10)})
		return err == nil
	})
	testkit.Eventually(t, "a stream has made room", func() bool {
		return slices.ContainsFunc(all, func(a *rawgrpc.Client) bool {
			select {
			case end := <-a.Ends:
				return end.Code == codes.Aborted && strings.Contains(end.Message, "metadata of this stream")
			default:
				return false
			}
		})
	})
	for _, a := range all {
		a.Close()
	}
	r.drained()
}

// Streams with a usual token are not ended because others fill the memory, unless all of them take much.
func TestMetadataOfAFewStreamsMakesNoRoom(t *testing.T) {
	r := newRig(t, limitMemoryTo(2<<20))
	a := r.attack(1<<16, true)
	var all []uint32
	watch := func(n int) {
		t.Helper()
		for range n {
			s, _ := a.Begin(healthpb.Health_Watch_FullMethodName, hpack.HeaderField{Name: "authorization", Value: strings.Repeat("y", 5<<10), Sensitive: true})
			a.Data(s, rawgrpc.Message(&healthpb.HealthCheckRequest{}), true, 16<<10)
			all = append(all, s)
		}
		testkit.Eventually(t, "they are open", func() bool { return r.calls.watching.size() == len(all) })
		if n := r.calls.wire.held.Load(); n < int64(len(all)*5<<10) {
			t.Errorf("%d bytes are held", n)
		}
	}
	// stalest is what makes room a minute later.
	stalest := func() holder { return r.calls.watching.all()[0].conn.stalest(time.Now().Add(time.Minute)) }
	watch(10)
	if h := stalest(); h.call != nil {
		t.Errorf("a stream whose metadata takes %d bytes is ended, all take %d", h.bytes, r.calls.wire.metadata.Load())
	}
	watch(50)
	if h := stalest(); h.call == nil || !h.stream || h.bytes < 5<<10 {
		t.Errorf("%d bytes of metadata make no room", r.calls.wire.metadata.Load())
	}
	for _, s := range all[10:] {
		a.Reset(s)
	}
	testkit.Eventually(t, "none is ended any more", func() bool { return stalest().call == nil })
	a.Close()
	r.drained()
}

// What an iteration holds beside a message counts while that waits for its reader, however small
// the message is.
func TestWhatStreamsHoldCounts(t *testing.T) {
	r := newRig(t, limitMemoryTo(16<<20))
	r.service.iterate = func(_ *serverpb.IterateRequest, stream grpc.ServerStreamingServer[serverpb.IterateResponse]) error {
		kv.PlaceOf(stream.Context()).Holds(2 << 20)
		for {
			if err := stream.Send(&serverpb.IterateResponse{Key: make([]byte, 100)}); err != nil {
				return err
			}
		}
	}
	a := r.attack(0, true)
	for range 2 {
		a.Call(serverpb.DKV_Iterate_FullMethodName, &serverpb.IterateRequest{})
	}
	testkit.Eventually(t, "both wait", func() bool {
		return len(r.calls.streams.all()) == 2 && !slices.ContainsFunc(r.calls.streams.all(), func(k *call) bool { return k.stalled(time.Now()) < 50*time.Millisecond })
	})
	if held := r.calls.wire.held.Load(); held < 4<<20 {
		t.Errorf("%d KiB are held", held>>10)
	}
	a.Close()
	r.drained()
}
