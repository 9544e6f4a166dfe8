package server

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/access"
	"github.com/dkvdb/dkv/internal/conns"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/testkit"
)

// pairs makes Iterate send pairs of a kilobyte for as long as they are taken, and
// tell how to resume. ended has the errors that it returned with.
func (s *service) pairs() (ended chan error) {
	ended = make(chan error, 100)
	s.iterate = func(r *serverpb.IterateRequest, stream grpc.ServerStreamingServer[serverpb.IterateResponse]) (err error) {
		resp := &serverpb.IterateResponse{Value: bytes.Repeat([]byte("v"), 1<<10)}
		kv.PlaceOf(stream.Context()).Resumable(func() kv.Resume {
			return kv.Resume{kv.ResumeStartKey: base64.StdEncoding.EncodeToString(resp.Key)}
		})
		if string(r.KeyPrefix) == "short" {
			return stream.Send(resp)
		}
		for i := 0; err == nil; i++ {
			resp.Key = fmt.Appendf(nil, "%08d", i)
			err = stream.Send(resp)
		}
		ended <- err
		return err
	}
	return ended
}

// resumeOf is what an error tells of where to resume.
func resumeOf(t *testing.T, err error) map[string]string {
	t.Helper()
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == kv.ErrorDomain && info.GetReason() == kv.ReasonStalled {
			return info.GetMetadata()
		}
	}
	t.Fatalf("%v does not tell", err)
	return nil
}

// A reader that takes nothing loses its stream, and is told where to resume: at the
// first pair that it has not got.
func TestStalledStreamEnds(t *testing.T) {
	r := newRig(t, func(o *Options) { o.StallTimeout = 100 * time.Millisecond })
	handler := r.service.pairs()
	stream, err := r.Iterate(t.Context(), &serverpb.IterateRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-handler; status.Code(err) != codes.Aborted {
		t.Errorf("the handler's error is %v", err)
	}
	testkit.Eventually(t, "the stream is closed", func() bool { return r.gauge("dkv_streams") == 0 })
	n := 0
	for ; err == nil; n++ {
		_, err = stream.Recv()
	}
	wantCode(t, err, codes.Aborted,
		"nothing of the stream was taken for 100ms (stream-stall-timeout); the details of this error tell where to resume it")
	want := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%08d", n-1)) // one Recv has failed
	if got := resumeOf(t, err)[kv.ResumeStartKey]; got != want || n < 10 {
		t.Errorf("after %d pairs it goes on at %q, want %q", n-1, got, want)
	}
	if got := r.hits(limitStalled); got != 1 {
		t.Errorf("the metric tells of %v", got)
	}
}

// A reader that is slow keeps its stream.
func TestSlowReaderKeepsItsStream(t *testing.T) {
	const stall, pause = 2 * time.Second, 20 * time.Millisecond // far apart: both ends share the machine with other tests
	r := newRig(t, func(o *Options) { o.StallTimeout = stall })
	r.service.pairs()
	stream, err := r.Iterate(t.Context(), &serverpb.IterateRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 * stall / 2 / pause {
		for range 20 {
			if _, err := stream.Recv(); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(pause) // is what makes it slow
	}
}

// slowConn takes what arrives at a rate of 4 MiB a second.
type slowConn struct{ net.Conn }

func (c slowConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	time.Sleep(time.Duration(n) * time.Second / (4 << 20))
	return n, err
}

// TestLargeMessageOnASlowLine takes longer than a reader may take nothing. It arrives, and so does the next one.
func TestLargeMessageOnASlowLine(t *testing.T) {
	const stall = time.Second
	r := newRig(t, func(o *Options) { o.StallTimeout, o.MaxMessageSize = stall, 16<<20 })
	const messages, size = 2, 12 << 20 // 3 s
	r.service.iterate = func(_ *serverpb.IterateRequest, stream grpc.ServerStreamingServer[serverpb.IterateResponse]) (err error) {
		for i := 0; i < messages && err == nil; i++ {
			err = stream.Send(&serverpb.IterateResponse{Value: make([]byte, size)})
		}
		return err
	}
	conn, err := grpc.NewClient("passthrough:///"+r.conn.Target(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(size+1024)),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
			if err != nil {
				return nil, err
			}
			return slowConn{c}, c.(*net.TCPConn).SetReadBuffer(64 << 10)
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stream, err := serverpb.NewDKVClient(conn).Iterate(t.Context(), &serverpb.IterateRequest{})
	began := time.Now()
	for i := 0; i < messages && err == nil; i++ {
		_, err = stream.Recv()
	}
	if err != nil {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
	if took := time.Since(began); took < 2*stall {
		t.Errorf("the line is not slow: %s", took)
	}
}

// With all places for streams taken, one whose reader has stalled makes room.
func TestStalledStreamMakesRoom(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxStreams = 3 })
	handler := r.service.pairs()
	others := make([]grpc.ServerStreamingClient[serverpb.IterateResponse], 3)
	for i := range others {
		conn := dial(t, r.opts.Listener.Addr())
		defer conn.Close()
		var err error
		if others[i], err = serverpb.NewDKVClient(conn).Iterate(t.Context(), &serverpb.IterateRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	short := func() error {
		stream, err := r.Iterate(t.Context(), &serverpb.IterateRequest{KeyPrefix: []byte("short")})
		for err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	testkit.Eventually(t, "all are open", func() bool { return r.gauge("dkv_streams") == 3 })
	if err := short(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("before one has stalled for long: %v", err)
	}
	testkit.Eventually(t, "another one is served", func() bool { return errors.Is(short(), io.EOF) })
	if err := <-handler; status.Code(err) != codes.Aborted {
		t.Errorf("the handler's error is %v", err)
	}
	if err := short(); !errors.Is(err, io.EOF) {
		t.Errorf("the next one: %v", err)
	}
}

// A connection that has most of the streams makes room for another one's, even if
// all of them are read.
func TestBusiestConnectionMakesRoom(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxStreams = 10 })
	a := r.attack(1<<16, true)
	hold := make(chan struct{})
	defer close(hold)
	r.service.iterate = func(req *serverpb.IterateRequest, stream grpc.ServerStreamingServer[serverpb.IterateResponse]) error {
		if len(req.KeyPrefix) > 0 {
			return stream.Send(&serverpb.IterateResponse{})
		}
		select {
		case <-hold:
		case <-stream.Context().Done():
		}
		return stream.Context().Err()
	}
	for range 12 {
		a.Call(serverpb.DKV_Iterate_FullMethodName, &serverpb.IterateRequest{})
	}
	for range 2 {
		if end := <-a.Ends; end.Code != codes.ResourceExhausted {
			t.Errorf("ended with %+v", end)
		}
	}
	for range 3 {
		stream, err := r.Iterate(t.Context(), &serverpb.IterateRequest{KeyPrefix: []byte("p")})
		if err == nil {
			_, err = stream.Recv()
		}
		if err != nil {
			t.Errorf("another client: %v", err)
		}
	}
	if end := <-a.Ends; end.Code != codes.Aborted || !strings.Contains(end.Message, "made room for another client") {
		t.Errorf("ended with %+v", end)
	}
}

// A connection whose socket takes nothing at all is closed, and what it held is free.
func TestUnreadConnectionIsClosed(t *testing.T) {
	r := newRig(t, func(o *Options) { o.StallTimeout = 200 * time.Millisecond }, limitMemoryTo(64<<20))
	r.service.large()
	a := r.attack(1<<30, false)
	for range 30 {
		a.Call(serverpb.DKV_Get_FullMethodName, &serverpb.GetRequest{})
	}
	testkit.Eventually(t, "it is closed", func() bool { return r.hits(limitStalled) > 0 })
	r.drained()
	r.others()
	if log := strings.Join(r.log.Lines(), ""); !strings.Contains(log, `msg="a connection is closed"`) || !strings.Contains(log, "stream-stall-timeout") {
		t.Errorf("logged %s", log)
	}
}

// A flood on a full set has it searched for stalled streams now and then, not with
// each call; a client that has none still gets a place at once.
func TestFullSetIsSearchedNowAndThen(t *testing.T) {
	busy, other := &conn{client: kv.Client{Conn: 1}}, &conn{client: kv.Client{Conn: 2}}
	begun := time.Now()
	s := newStreamSet("", limitStreams, 3)
	var open []*call
	for range 3 {
		k := &call{conn: busy, begun: begun}
		open = append(open, k)
		if _, added := s.add(k, begun); !added {
			t.Fatal("there is room")
		}
	}
	flood := func(after time.Duration) (*call, bool) { return s.add(&call{conn: busy}, begun.Add(after)) }
	if _, added := flood(0); added {
		t.Fatal("a place was made of nothing")
	}
	open[1].sending = begun.Add(-time.Minute)
	if _, added := flood(lookPause / 2); added {
		t.Error("all streams were looked at again at once")
	}
	if instead, added := s.add(&call{conn: other}, begun.Add(lookPause/2)); !added || instead == nil {
		t.Error("another client has no place")
	}
	if _, open := s.of[open[1]]; !open {
		return // it was the one that made room
	}
	if instead, added := flood(lookPause); !added || instead != open[1] {
		t.Error("the stalled stream makes no room")
	}
}

// A host whose connections have a stream each takes no place of a host that has a few streams by one
// connection, once it has more than that one.
func TestHostWithManyConnectionsKeepsNoOneOut(t *testing.T) {
	const most = 12
	s := newStreamSet("", limitStreams, most)
	now := time.Now()
	var number uint64
	connection := func(host string) *conn {
		number++
		return &conn{client: kv.Client{Host: netip.MustParseAddr(host), Conn: number}}
	}
	few := connection("192.0.2.1")
	var kept []*call
	add := func(k *call) *call {
		now = now.Add(time.Second)
		instead, _ := s.add(k, now)
		return instead
	}
	for range 4 {
		k := &call{conn: few, begun: now}
		kept = append(kept, k)
		add(k)
	}
	for range 3 * most {
		add(&call{conn: connection("192.0.2.2"), begun: now})
	}
	for i, k := range kept {
		if _, open := s.of[k]; !open {
			t.Errorf("stream %d of the other host was ended", i)
		}
	}
	if instead := add(&call{conn: few, begun: now}); instead == nil || instead.conn == few {
		t.Error("the host with few streams gets no other one")
	}
	for _, k := range s.all() {
		s.remove(k)
	}
	if len(s.of)+len(s.byClient)+len(s.byHost) != 0 {
		t.Errorf("%d streams of %d connections and %d hosts are left", len(s.of), len(s.byClient), len(s.byHost))
	}
}

// A client whose streams come by a node that forwards keeps no other one of that node out, and ends
// none of its streams; nor if the node has left the cluster meanwhile.
func TestStreamsOfANodesClientsAreApart(t *testing.T) {
	member := true
	guard := access.NewGuard(access.Options{Exposure: access.Exposed, Member: func(netip.Addr) bool { return member }})
	node := &conn{calls: &calls{opts: Options{Access: guard}}, socket: socket{Conn: new(conns.Conn)}, client: kv.Client{Host: netip.MustParseAddr("192.0.2.1"), Conn: 1}}
	const most = 12
	s := newStreamSet("", limitStreams, most)
	now := time.Now()
	add := func(client string) (k, instead *call, added bool) {
		now = now.Add(time.Second)
		k = &call{conn: node, begun: now, header: metadata.Pairs("dkv-forwarded", "1", kv.ClientKey, client)}
		instead, added = s.add(k, now)
		return k, instead, added
	}
	for range most {
		add("192.0.2.2/1")
	}
	kept, instead, added := add("192.0.2.3/1")
	if !added || instead == nil {
		t.Error("another client has no place")
	}
	if _, instead, _ := add("192.0.2.4/1"); instead == nil || instead == kept {
		t.Error("a third one ended the stream of the second")
	}
	member = false
	for _, k := range s.all() {
		s.remove(k)
	}
	if len(s.of)+len(s.byClient)+len(s.byHost) != 0 {
		t.Errorf("%d streams of %d connections and %d hosts are left", len(s.of), len(s.byClient), len(s.byHost))
	}
}

// A stream whose message waits for memory that others hold is not stalled, unless its own
// connection takes nothing.
func TestWaitingForOthersIsNotStalling(t *testing.T) {
	const limit, size = 8 << 20, 1 << 20
	r := newRig(t, limitMemoryTo(limit))
	value := make([]byte, size)
	begun, proceed := make(chan *call, 1), make(chan struct{})
	r.service.iterate = func(_ *serverpb.IterateRequest, s grpc.ServerStreamingServer[serverpb.IterateResponse]) error {
		begun <- callOf(s.Context())
		<-proceed
		return s.Send(&serverpb.IterateResponse{Value: value})
	}
	ended := make(chan error, 1)
	go func() { ended <- drainIterate(t, r) }()
	k := <-begun
	r.calls.wire.held.Add(limit) // by others
	close(proceed)
	testkit.Eventually(t, "the stream waits", func() bool { return r.calls.streamsWaiting.Load() > 0 })
	waits := func() time.Time {
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.sending
	}
	first := waits()
	testkit.Eventually(t, "the time that it waits does not count", func() bool { return waits().After(first) })
	testkit.Eventually(t, "it counts as stalled", func() bool {
		k.conn.mu.Lock()
		defer k.conn.mu.Unlock()
		k.conn.slow = slowLooks // until the next look
		return k.stalled(time.Now()) > 3*memoryPause
	})
	r.calls.wire.held.Add(-limit)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A stream that was seen to stall, and whose reader has taken the message since, goes on:
// it would end without a word on where to resume it.
func TestStreamThatGoesOnIsNotEnded(t *testing.T) {
	k := &call{}
	if err := k.beginSend(); err != nil {
		t.Fatal(err)
	}
	seen := time.Now().Add(time.Minute)
	if k.stalled(seen) < time.Second {
		t.Fatal("it does not stall")
	}
	if err := k.endSend(); err != nil || k.endStalled(seen, time.Second) || k.endedBy(nil) != nil {
		t.Errorf("it is ended: %v, %v", err, k.endedBy(nil))
	}
	if err := k.beginSend(); err != nil || !k.endStalled(seen, time.Second) || resumeOf(t, k.endedBy(nil)) != nil {
		t.Errorf("a stream that stalls is not ended: %v", err)
	}
}

// Streams whose readers take nothing hold messages, and what those were made of, up to
// the limit, and those that wait for room as much; the others are ended, to be resumed.
func TestMessagesOfStalledStreamsAreBounded(t *testing.T) {
	const limit, size = 16 << 20, 1 << 20
	r := newRig(t, limitMemoryTo(limit))
	value := make([]byte, size)
	r.service.iterate = func(req *serverpb.IterateRequest, s grpc.ServerStreamingServer[serverpb.IterateResponse]) error {
		if len(req.GetKeyPrefix()) == 0 {
			return s.Send(&serverpb.IterateResponse{}) // another client's
		}
		for {
			if err := s.Send(&serverpb.IterateResponse{Value: value}); err != nil {
				return err
			}
		}
	}
	a := r.attack(0, true)
	for range 80 {
		a.Call(serverpb.DKV_Iterate_FullMethodName, &serverpb.IterateRequest{KeyPrefix: []byte("x")})
	}
	end := <-a.Ends
	if end.Code != codes.Aborted || !strings.Contains(end.Message, "where to resume") {
		t.Errorf("ended with %+v", end)
	}
	r.others()
	if waiting := r.calls.streamsWaiting.Load(); waiting > limit {
		t.Errorf("%d MiB wait, more than %d", waiting>>20, limit>>20)
	}
	a.Close()
	r.drained()
	testkit.Eventually(t, "nothing waits", func() bool { return r.calls.streamsWaiting.Load() == 0 })
}
