package server

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/internal/testkit/rawgrpc"
)

// others checks that the clients of other connections are served meanwhile.
func (r *rig) others() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), testkit.Patience)
	defer cancel()
	other := dial(r.t, r.opts.Listener.Addr())
	defer other.Close()
	for _, conn := range []grpc.ClientConnInterface{r.conn, other} {
		if _, err := serverpb.NewDKVClient(conn).Get(ctx, &serverpb.GetRequest{Key: []byte("k")}); err != nil {
			r.t.Errorf("another client: %v", err)
		}
	}
	if err := drainIterate(r.t, r); err != nil {
		r.t.Errorf("another client's stream: %v", err)
	}
}

// hits is how often a limit was met.
func (r *rig) hits(limit string) float64 {
	r.t.Helper()
	for _, m := range r.family("dkv_limit_hits_total") {
		if m.GetLabel()[0].GetValue() == limit {
			return m.GetCounter().GetValue()
		}
	}
	return 0
}

// peak watches how much memory messages hold until it is asked for the most.
func (r *rig) peak() (most func() int64) {
	stop, top := make(chan struct{}), make(chan int64)
	go func() {
		t := time.NewTicker(200 * time.Microsecond)
		defer t.Stop()
		var seen int64
		for {
			select {
			case <-t.C:
				seen = max(seen, r.calls.wire.held.Load())
			case <-stop:
				top <- seen
				return
			}
		}
	}()
	return func() int64 { close(stop); return <-top }
}

// drained waits until nothing is held any more.
func (r *rig) drained() {
	r.t.Helper()
	testkit.Eventually(r.t, "messages hold no memory", func() bool { return r.calls.wire.held.Load() == 0 && r.calls.wire.metadata.Load() == 0 })
}

func limitMemoryTo(bytes int64) func(*Options) { return func(o *Options) { o.MaxMemory = bytes } }

// A client that announces large requests and never ends them holds what the limit
// for a connection is, and no more.
func TestStalledRequestsAreBounded(t *testing.T) {
	r := newRig(t, limitMemoryTo(16<<20))
	peak := r.peak()
	a := r.attack(1<<16, true)
	for range 30 {
		if _, ok := a.Announce(serverpb.DKV_Get_FullMethodName, 1<<20, make([]byte, 1<<20-100), 16<<10); !ok {
			t.Fatal("the connection was closed")
		}
	}
	refused := <-a.Ends
	if refused.Code != codes.ResourceExhausted || !strings.Contains(refused.Message, "max-memory-in-flight") {
		t.Errorf("ended with %+v", refused)
	}
	r.others()
	if most := peak(); most > 9<<20 {
		t.Errorf("one connection held %d MiB", most>>20)
	}
	if r.hits(limitMemory) == 0 {
		t.Error("the metric does not tell")
	}
	a.Close()
	r.drained()
}

// Many connections together hold what the limit for all is; and a request that
// comes takes the place of one of which nothing has come for a while.
func TestStalledRequestsMakeRoom(t *testing.T) {
	r := newRig(t, limitMemoryTo(4<<20))
	peak := r.peak()
	var all []*rawgrpc.Client
	for i := range int64(4) {
		a := r.attack(1<<16, true)
		all = append(all, a)
		a.Announce(serverpb.DKV_Get_FullMethodName, 1<<20, make([]byte, 1<<20-(64<<10)), 16<<10)
		testkit.Eventually(t, "memory is taken", func() bool { return r.calls.wire.held.Load() > (i+1)*900<<10 })
	}
	// Not before those that stall are stale. Nothing else tells when that is.
	time.Sleep(stale)
	for range 4 {
		if _, err := r.Get(t.Context(), &serverpb.GetRequest{Key: make([]byte, 900<<10)}); err != nil {
			t.Errorf("a large request: %v", err)
		}
	}
	if most := peak(); most > 5<<20 {
		t.Errorf("%d MiB were held", most>>20)
	}
	for _, a := range all {
		a.Close()
	}
	r.drained()
}

// A message in frames of a byte takes far more memory than it has bytes.
func TestTinyFramesAreCounted(t *testing.T) {
	r := newRig(t, limitMemoryTo(2<<20))
	a := r.attack(1<<16, true)
	a.Announce(serverpb.DKV_Get_FullMethodName, 60<<10, make([]byte, 50<<10), 1)
	if refused := <-a.Ends; refused.Code != codes.ResourceExhausted {
		t.Errorf("ended with %+v", refused)
	}
	r.others()
	a.Close()
	r.drained()
}

// A client that ignores that its requests were refused loses its connection.
func TestStrayDataCostsTheConnection(t *testing.T) {
	// There is memory enough for all, so that the connection is closed for nothing else
	// first: its share alone is used up, and its request is refused in the middle.
	const limit, size = 64 << 20, 100 << 20
	r := newRig(t, limitMemoryTo(limit), func(o *Options) { o.MaxMessageSize = 256 << 20 })
	a := r.attack(1<<16, false) // and so nothing that is written ever gets out, once the socket is full
	r.service.get = func(context.Context, *serverpb.GetRequest) (*serverpb.GetResponse, error) {
		return &serverpb.GetResponse{Value: make([]byte, 8<<20)}, nil
	}
	a.Write(func(w *http2.Framer) error { return w.WriteWindowUpdate(0, 1<<30) })
	s, _ := a.Call(serverpb.DKV_Get_FullMethodName, &serverpb.GetRequest{})
	a.Write(func(w *http2.Framer) error { return w.WriteWindowUpdate(s, 1<<30) })
	testkit.Eventually(t, "the socket is full", func() bool {
		for _, c := range r.calls.conns() {
			if c.blocked(time.Now()) > 100*time.Millisecond {
				return true
			}
		}
		return false
	})
	for ok := true; ok; {
		_, ok = a.Announce(serverpb.DKV_Put_FullMethodName, size, make([]byte, size-1), 16<<10)
	}
	testkit.Eventually(t, "the limit was met", func() bool { return r.hits(limitStray) == 1 })
	r.service.get = nil
	r.others()
	r.drained()
}

// large makes Get answer with a megabyte.
func (s *service) large() (served *atomic.Int64) {
	served = new(atomic.Int64)
	value := bytes.Repeat([]byte("v"), 1<<20)
	s.get = func(_ context.Context, r *serverpb.GetRequest) (*serverpb.GetResponse, error) {
		if string(r.Key) == "k" {
			return &serverpb.GetResponse{}, nil
		}
		served.Add(1)
		return &serverpb.GetResponse{Value: value}, nil
	}
	return served
}

// A client that takes no responses is served until they come to the limit of its
// connection.
func TestUntakenResponsesAreBounded(t *testing.T) {
	r := newRig(t, limitMemoryTo(8<<20), func(o *Options) { o.MaxInFlight, o.ReceiveTimeout = 1000, 2*time.Second })
	served := r.service.large()
	peak := r.peak()
	a := r.attack(0, true)
	for range 100 {
		a.Call(serverpb.DKV_Get_FullMethodName, &serverpb.GetRequest{})
	}
	testkit.Eventually(t, "others wait for room", func() bool { return r.calls.waiting.count() > 80 })
	r.others()
	// Theirs are given back a moment after their answers have come.
	testkit.Eventually(t, "those that wait take no places in flight", func() bool {
		return r.gauge("dkv_requests_in_flight") == 0 && r.calls.waiting.count() > 80
	})
	if most, n := peak(), served.Load(); most > 5<<20 || n > 20 {
		t.Errorf("%d MiB were held, and %d responses made", most>>20, n)
	}
	refused := <-a.Ends
	if refused.Code != codes.ResourceExhausted || !strings.Contains(refused.Message, "which is the limit") {
		t.Errorf("ended with %+v", refused)
	}
	a.Close()
	r.drained()
}

// Responses of calls that were reset stay in memory while the socket takes nothing.
func TestResponsesOfResetCallsAreCounted(t *testing.T) {
	r := newRig(t, limitMemoryTo(32<<20))
	served := r.service.large()
	peak := r.peak()
	a := r.attack(1<<30, false)
	for range 60 {
		before := served.Load()
		s, ok := a.Call(serverpb.DKV_Get_FullMethodName, &serverpb.GetRequest{})
		if !ok {
			break
		}
		for wait := time.Now().Add(20 * time.Millisecond); served.Load() == before && time.Now().Before(wait); {
			time.Sleep(100 * time.Microsecond)
		}
		a.Reset(s)
	}
	r.others()
	if most := peak(); most > 12<<20 {
		t.Errorf("%d MiB were held", most>>20)
	}
	a.Close()
	r.drained()
}

// An honest client that asks for much at once gets all of it, though not at once.
func TestManyLargeResponsesAreServed(t *testing.T) {
	r := newRig(t, limitMemoryTo(8<<20), func(o *Options) { o.MaxInFlight, o.ReceiveTimeout = 1000, time.Hour })
	r.service.large()
	var calls sync.WaitGroup
	const many = 50
	errs := make(chan error, many)
	for range many {
		calls.Go(func() {
			resp, err := r.Get(t.Context(), &serverpb.GetRequest{})
			if err == nil && len(resp.GetValue()) != 1<<20 {
				err = errors.New("the value is cut")
			}
			errs <- err
		})
	}
	calls.Wait()
	for range many {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	r.drained()
}

// Connections that take no responses are closed when their memory is needed.
func TestUntakenResponsesMakeRoom(t *testing.T) {
	r := newRig(t, limitMemoryTo(8<<20), func(o *Options) { o.MaxInFlight = 1000 })
	r.service.large()
	var all []*rawgrpc.Client
	for range 8 {
		a := r.attack(0, true)
		all = append(all, a)
		for range 2 {
			a.Call(serverpb.DKV_Get_FullMethodName, &serverpb.GetRequest{})
		}
	}
	testkit.Eventually(t, "memory is taken", func() bool { return r.calls.wire.held.Load() > 6<<20 })
	for range 8 {
		if resp, err := r.Get(t.Context(), &serverpb.GetRequest{}); err != nil || len(resp.GetValue()) != 1<<20 {
			t.Errorf("another client: %v", err)
		}
	}
	for _, a := range all {
		a.Close()
	}
	r.drained()
}

// Calls that are announced and do not come end by themselves, and before that when
// others need their places.
func TestAnnouncedCallsEnd(t *testing.T) {
	r := newRig(t, func(o *Options) { o.ReceiveTimeout = 50 * time.Millisecond })
	a := r.attack(1<<16, true)
	for _, method := range []string{serverpb.DKV_Get_FullMethodName, serverpb.DKV_Iterate_FullMethodName, healthpb.Health_Check_FullMethodName} {
		a.Begin(method)
		if end := <-a.Ends; end.Code != codes.DeadlineExceeded || !strings.Contains(end.Message, "did not arrive within 50ms") {
			t.Errorf("%s ended with %+v", method, end)
		}
	}
	if got := r.gauge("dkv_requests_in_flight") + r.gauge("dkv_streams"); got != 0 {
		t.Errorf("%v places are taken", got)
	}
	testkit.Eventually(t, "the metric counts the three", func() bool { return r.hits(limitReceive) == 3 })
}

// A byte now and then does not keep a request alive.
func TestDrippingRequestsEnd(t *testing.T) {
	r := newRig(t, func(o *Options) { o.ReceiveTimeout = 50 * time.Millisecond })
	a := r.attack(1<<16, true)
	s, _ := a.Announce(serverpb.DKV_Get_FullMethodName, 1<<16, nil, 1)
	for {
		select {
		case end := <-a.Ends:
			if end.Code != codes.DeadlineExceeded {
				t.Errorf("ended with %+v", end)
			}
			return
		case <-time.After(5 * time.Millisecond):
			a.Data(s, []byte{0}, false, 1)
		}
	}
}

func TestAnnouncedCallsMakeRoom(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxInFlight = 20 })
	a := r.attack(1<<16, true)
	for range 20 {
		a.Begin(serverpb.DKV_Get_FullMethodName)
	}
	testkit.Eventually(t, "all places are taken", func() bool { return r.calls.inFlight.taken.Load() == 20 })
	// Not before the calls are stale. Nothing else tells when that is.
	time.Sleep(stale)
	if _, err := serverpb.NewDKVClient(r.conn).Get(t.Context(), &serverpb.GetRequest{Key: []byte("k")}); err != nil {
		t.Errorf("the first of the others: %v", err)
	}
	r.others()
	if end := <-a.Ends; end.Code != codes.ResourceExhausted || !strings.Contains(end.Message, "others need its place") {
		t.Errorf("ended with %+v", end)
	}
}

// A connection has so many calls, whatever their kind.
func TestCallsOfAConnectionAreBounded(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxInFlight, o.MaxStreams = 5000, 5000 })
	a := r.attack(1<<16, true)
	for range 2 * streamsPerConnection {
		a.Call(healthpb.Health_Watch_FullMethodName, &healthpb.HealthCheckRequest{})
	}
	testkit.Eventually(t, "watches are open", func() bool { return r.gauge("dkv_health_watches") == streamsPerConnection })
	r.others()
}

// One client's watches of the health leave room for another's.
func TestHealthWatchesAreBounded(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxStreams = 10 })
	a := r.attack(1<<16, true)
	for range 20 {
		a.Call(healthpb.Health_Watch_FullMethodName, &healthpb.HealthCheckRequest{})
	}
	for range 10 {
		if end := <-a.Ends; end.Code != codes.ResourceExhausted {
			t.Errorf("ended with %+v", end)
		}
	}
	watch, err := healthpb.NewHealthClient(r.conn).Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Errorf("another client's: %v", err)
	}
	r.others()
}

// A client that begins calls only to give them up loses its connection; one whose
// calls are given up at their deadlines, now and then all of them, does not.
func TestFloodOfResetsCostsTheConnection(t *testing.T) {
	r := newRig(t)
	calm := r.attack(1<<16, true)
	for range streamsPerConnection {
		s, _ := calm.Begin(serverpb.DKV_Get_FullMethodName)
		calm.Reset(s)
	}
	s, _ := calm.Call(serverpb.DKV_Get_FullMethodName, &serverpb.GetRequest{})
	for {
		end := <-calm.Ends
		if end.Stream == s {
			break // is served still
		}
	}
	flood := r.attack(1<<16, true)
	for ok := true; ok; {
		s, _ := flood.Begin(serverpb.DKV_Get_FullMethodName)
		ok = flood.Reset(s)
	}
	testkit.Eventually(t, "the limit was met", func() bool { return r.hits(limitResets) == 1 })
	r.others()
}

// Headers are bounded, also those that are compressed.
func TestHeadersAreBounded(t *testing.T) {
	r := newRig(t)
	a := r.attack(1<<16, true)
	for range 20 {
		a.Begin(serverpb.DKV_Get_FullMethodName, hpack.HeaderField{Name: "x", Value: strings.Repeat("y", 1<<20)})
	}
	r.others()
	if got := r.gauge("dkv_requests_in_flight"); got != 0 {
		t.Errorf("%v calls have begun", got)
	}
}

// A request whose last byte comes just when it is given up is either served or
// refused, and never both.
func TestRefusedRequestsHaveNoEffect(t *testing.T) {
	r := newRig(t, func(o *Options) { o.ReceiveTimeout = 4 * time.Millisecond })
	var served sync.Map
	r.service.get = func(_ context.Context, req *serverpb.GetRequest) (*serverpb.GetResponse, error) {
		served.Store(string(req.Key), true)
		return &serverpb.GetResponse{}, nil
	}
	a := r.attack(1<<16, true)
	body := rawgrpc.Message(&serverpb.GetRequest{Key: []byte("0000")})
	ok := 0
	for i := range 300 {
		s, _ := a.Begin(serverpb.DKV_Get_FullMethodName)
		a.Data(s, body[:5], false, 5)
		time.Sleep(time.Duration(i%12) * time.Millisecond / 2)
		key := []byte{byte('a' + i/26%26), byte('a' + i%26), byte('0' + i/100), byte('0' + i%10)}
		a.Data(s, append(bytes.Clone(body[5:len(body)-4]), key...), true, 100)
		end := <-a.Ends
		_, was := served.Load(string(key))
		if was != (end.Code == codes.OK) {
			t.Fatalf("served: %v, and the client was told %+v", was, end)
		}
		if was {
			ok++
		}
	}
	t.Logf("%d of 300 were served", ok)
}

// What is not a method gets an answer, and holds nothing.
func TestUnknownMethods(t *testing.T) {
	r := newRig(t)
	err := r.conn.Invoke(t.Context(), "/dkv.serverpb.DKV/"+strings.Repeat("x", 4000), &serverpb.GetRequest{}, &serverpb.GetResponse{})
	if st := status.Convert(err); st.Code() != codes.Unimplemented || len(st.Message()) > 200 || !strings.HasPrefix(st.Message(), "unknown method x") || !strings.HasSuffix(st.Message(), "x for service dkv.serverpb.DKV") {
		t.Errorf("error %v", err)
	}
	err = r.conn.Invoke(t.Context(), "/nothing.Here/Get", &serverpb.GetRequest{}, &serverpb.GetResponse{})
	wantCode(t, err, codes.Unimplemented, "unknown service nothing.Here")
	if got := r.gauge("dkv_streams"); got != 0 {
		t.Errorf("%v streams", got)
	}
}
