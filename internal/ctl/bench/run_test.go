package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/server/servertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testServer is a DKV server over a map that counts its requests.
type testServer struct {
	serverpb.UnimplementedDKVServer
	mu     sync.Mutex
	whole  int // MultiPuts that must not be split
	pairs  map[string]string
	counts map[string]uint64
	fail   func(method string) error
}

// count notes a request and returns the error it is to fail with.
func (s *testServer) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	name := info.FullMethod[strings.LastIndex(info.FullMethod, "/")+1:]
	s.mu.Lock()
	s.counts[name]++
	fail := s.fail
	s.mu.Unlock()
	if fail != nil {
		if err := fail(name); err != nil {
			return nil, err
		}
	}
	return handle(ctx, req)
}

func (s *testServer) total() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var n uint64
	for count := range maps.Values(s.counts) {
		n += count
	}
	return n
}

func (s *testServer) Put(_ context.Context, r *serverpb.PutRequest) (*serverpb.PutResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pairs[string(r.GetKey())] = string(r.GetValue())
	return &serverpb.PutResponse{}, nil
}

func (s *testServer) MultiPut(_ context.Context, r *serverpb.MultiPutRequest) (*serverpb.PutResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !r.GetMaySplit() {
		s.whole++
	}
	for _, p := range r.GetPutRequest() {
		s.pairs[string(p.GetKey())] = string(p.GetValue())
	}
	return &serverpb.PutResponse{}, nil
}

func (s *testServer) Get(_ context.Context, r *serverpb.GetRequest) (*serverpb.GetResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.pairs[string(r.GetKey())]
	return &serverpb.GetResponse{Value: []byte(v), Found: ok}, nil
}

func (s *testServer) MultiGet(_ context.Context, r *serverpb.MultiGetRequest) (*serverpb.MultiGetResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	res := &serverpb.MultiGetResponse{}
	for _, k := range r.GetKeys() {
		if v, ok := s.pairs[string(k)]; ok {
			res.KeyValues = append(res.KeyValues, &serverpb.KVPair{Key: k, Value: []byte(v)})
		}
	}
	return res, nil
}

func (s *testServer) CompareAndSet(_ context.Context, r *serverpb.CompareAndSetRequest) (*serverpb.CompareAndSetResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pairs[string(r.GetKey())] != string(r.GetOldValue()) {
		return &serverpb.CompareAndSetResponse{}, nil
	}
	s.pairs[string(r.GetKey())] = string(r.GetNewValue())
	return &serverpb.CompareAndSetResponse{Updated: true}, nil
}

func (s *testServer) Increment(_ context.Context, r *serverpb.IncrementRequest) (*serverpb.IncrementResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pairs[string(r.GetKey())] += "+"
	return &serverpb.IncrementResponse{Value: int64(len(s.pairs[string(r.GetKey())]))}, nil
}

func (s *testServer) Iterate(r *serverpb.IterateRequest, stream grpc.ServerStreamingServer[serverpb.IterateResponse]) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	res := &serverpb.IterateResponse{}
	for _, k := range slices.Sorted(maps.Keys(s.pairs)) {
		if k >= string(r.GetStartKey()) && strings.HasPrefix(k, string(r.GetKeyPrefix())) && uint64(len(res.Pairs)) < r.GetLimit() {
			res.Pairs = append(res.Pairs, &serverpb.KVPair{Key: []byte(k), Value: []byte(s.pairs[k])})
		}
	}
	return stream.Send(res)
}

// startServer serves in this process, and returns a target with two connections.
func startServer(t *testing.T) (*testServer, Target) {
	t.Helper()
	s := &testServer{pairs: make(map[string]string), counts: make(map[string]uint64)}
	server := grpc.NewServer(grpc.UnaryInterceptor(s.intercept))
	serverpb.RegisterDKVServer(server, s)
	l := bufconn.Listen(1 << 16)
	servertest.Serve(t, server, l)
	return s, Target{Name: "test", Conns: dialTwice(t, func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) })}
}

func dialTwice(t *testing.T, dial func(context.Context, string) (net.Conn, error)) []grpc.ClientConnInterface {
	t.Helper()
	var conns []grpc.ClientConnInterface
	for range 2 {
		conn, err := grpc.NewClient("passthrough:///test", grpc.WithContextDialer(dial), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conns = append(conns, conn)
	}
	return conns
}

// small is a load that takes a moment.
func small(op Operation) Config {
	cfg := DefaultConfig()
	cfg.Operation, cfg.Count, cfg.Duration, cfg.Warmup = op, 300, 0, 0
	cfg.Workers, cfg.Keys, cfg.Preload = 4, 500, op.Reads()
	return cfg
}

func TestCountsAreThoseTheServerSaw(t *testing.T) {
	tests := []struct {
		op      Operation
		methods []string
		items   uint64
	}{
		{Put, []string{"Put"}, 300},
		{Get, []string{"Get"}, 300},
		{Mixed, []string{"Get", "Put"}, 300},
		{MultiPut, []string{"MultiPut"}, 3000},
		{CAS, []string{"CompareAndSet"}, 300},
		{Incr, []string{"Increment"}, 300},
	}
	for _, tt := range tests {
		t.Run(string(tt.op), func(t *testing.T) {
			server, target := startServer(t)
			result, err := Run(t.Context(), small(tt.op), target, Progress{})
			if err != nil {
				t.Fatal(err)
			}
			var seen uint64
			for _, m := range tt.methods {
				seen += server.counts[m]
			}
			if result.Operations != 300 || seen != 300 {
				t.Errorf("the result counts %d operations, the server %d; want 300", result.Operations, seen)
			}
			if result.Failed != 0 || result.Unmatched != 0 || result.Items != tt.items {
				t.Errorf("%d failed, %d unmatched, %d items; want 0, 0, %d", result.Failed, result.Unmatched, result.Items, tt.items)
			}
			if result.Latency.P50 <= 0 || result.Latency.Max < result.Latency.P99 || result.Throughput <= 0 {
				t.Errorf("latency %v at %v/s", result.Latency, result.Throughput)
			}
		})
	}
}

func TestMixedSplitsItsClasses(t *testing.T) {
	server, target := startServer(t)
	cfg := small(Mixed)
	cfg.ReadRatio = 0.9
	result, err := Run(t.Context(), cfg, target, Progress{})
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Classes) != 2 || result.Classes[0].Operations != server.counts["Get"] || result.Classes[1].Operations != server.counts["Put"] {
		t.Fatalf("classes are %+v, the server saw %v", result.Classes, server.counts)
	}
	if gets := result.Classes[0].Operations; gets < 230 || gets > 295 {
		t.Errorf("%d gets of 300, want about 270", gets)
	}
}

func TestMultiGetAndIterateFindThePreloadedKeys(t *testing.T) {
	_, target := startServer(t)
	result, err := Run(t.Context(), small(MultiGet), target, Progress{})
	if err != nil || result.Unmatched != 0 || result.Items < 2900 {
		t.Fatalf("multiget: %+v, %v", result, err)
	}
	cfg := small(Iterate)
	cfg.Scan = 7
	result, err = Run(t.Context(), cfg, target, Progress{})
	if err != nil || result.Operations != 300 || result.Items < 2000 || result.Items > 2100 {
		t.Fatalf("iterate: %+v, %v", result, err)
	}
}

func TestMissingKeysAreNotTakenForAnswers(t *testing.T) {
	server, target := startServer(t)
	cfg := small(Get)
	cfg.Preload = false
	result, err := Run(t.Context(), cfg, target, Progress{})
	if err != nil || result.Unmatched != 300 || result.Items != 0 {
		t.Errorf("gets of nothing: %+v, %v", result, err)
	}
	cas := small(CAS)
	cas.Preload = false
	if result, err = Run(t.Context(), cas, target, Progress{}); err != nil || result.Unmatched != 300 {
		t.Errorf("CASes of nothing: %+v, %v", result, err)
	}
	if len(server.pairs) != 0 {
		t.Errorf("%d keys were written", len(server.pairs))
	}
}

func TestPreloadWritesEveryKeyOnce(t *testing.T) {
	server, target := startServer(t)
	cfg := small(Get)
	cfg.Keys = 1000
	if _, err := Run(t.Context(), cfg, target, Progress{}); err != nil {
		t.Fatal(err)
	}
	v := newValues(cfg.ValueSize, cfg.Seed)
	for n := range cfg.Keys {
		key := make([]byte, cfg.KeySize)
		writeKey(key, cfg.Prefix, n)
		if server.pairs[string(key)] != string(v.ofKey(n)) {
			t.Fatalf("key %s holds another value than was to be preloaded", key)
		}
	}
	if len(server.pairs) != 1000 {
		t.Errorf("%d keys, want 1000", len(server.pairs))
	}
	// A database of several vBuckets rejects those.
	if server.whole > 0 {
		t.Errorf("%d requests need all their keys in one vBucket", server.whole)
	}
}

func TestWarmupIsNotMeasured(t *testing.T) {
	server, target := startServer(t)
	cfg := small(Put)
	cfg.Warmup = 20 * time.Millisecond
	result, err := Run(t.Context(), cfg, target, Progress{})
	if err != nil {
		t.Fatal(err)
	}
	if result.Operations != 300 || server.counts["Put"] <= 300 {
		t.Errorf("%d operations measured of %d, want 300 of more", result.Operations, server.counts["Put"])
	}
}

func TestInterruptedRunTellsWhatItMeasured(t *testing.T) {
	server, target := startServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	server.fail = func(string) error {
		if server.total() == 100 {
			cancel()
		}
		return nil
	}
	cfg := small(Put)
	cfg.Count, cfg.Duration = 0, time.Hour
	result, err := Run(ctx, cfg, target, Progress{})
	if !errors.Is(err, context.Canceled) || result == nil || result.Operations < 90 || result.Failed != 0 {
		t.Errorf("result %+v, error %v", result, err)
	}
}

func TestProgressTellsOfTheRun(t *testing.T) {
	server, target := startServer(t)
	var out bytes.Buffer
	written := make(chan struct{})
	server.fail = func(string) error {
		if server.total() == 50 {
			<-written // hold the run until a line is there
		}
		return nil
	}
	var once sync.Once
	progress := Progress{Out: writerFunc(func(p []byte) (int, error) {
		once.Do(func() { close(written) })
		return out.Write(p)
	}), Interval: 5 * time.Millisecond}
	if _, err := Run(t.Context(), small(Put), target, progress); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), " done  0 errors\n") {
		t.Errorf("progress is %q", out.String())
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestValidateSaysWhatIsWrong(t *testing.T) {
	tests := []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.Workers = 0 }, "workers"},
		{func(c *Config) { c.Duration, c.Count = 0, 0 }, "duration or a count"},
		{func(c *Config) { c.Keys = 0 }, "keyCount"},
		{func(c *Config) { c.Zipf = 1 }, "zipf"},
		{func(c *Config) { c.KeySize = 5 }, "keySize"},
		{func(c *Config) { c.Operation, c.KeySize = Incr, 6 }, "keySize"},
		{func(c *Config) { c.Ledger = &Ledger{}; c.Operation = Get }, "put"},
		{func(c *Config) { c.Ledger = &Ledger{}; c.Operation = Put; c.KeySize = 28 }, "keySize"},
		{func(c *Config) { c.Ledger = &Ledger{}; c.Operation = Put; c.KeySize = 40; c.Prefix = "a b" }, "spaces"},
	}
	for _, tt := range tests {
		cfg := DefaultConfig()
		tt.change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("error %v, want one about %s", err, tt.want)
		}
	}
	if cfg := DefaultConfig(); cfg.Validate() != nil {
		t.Errorf("the default is refused: %v", cfg.Validate())
	}
}

func TestParseOperation(t *testing.T) {
	for _, op := range Operations() {
		if got, err := ParseOperation(strings.ToUpper(string(op))); err != nil || got != op {
			t.Errorf("%s is parsed as %q, %v", op, got, err)
		}
	}
	if got, err := ParseOperation("multi"); err != nil || got != MultiPut {
		t.Errorf("multi is parsed as %q, %v", got, err)
	}
	if _, err := ParseOperation("putt"); err == nil || !strings.Contains(err.Error(), "mixed") {
		t.Errorf("error %v does not list the operations", err)
	}
}

// nullConn answers every request with nothing.
type nullConn struct{ grpc.ClientConnInterface }

func (nullConn) Invoke(context.Context, string, any, any, ...grpc.CallOption) error { return nil }

// The load generator shares the machine with the server that it measures.
func TestOperationsDoNotAllocate(t *testing.T) {
	for _, op := range []Operation{Put, Get, Mixed, MultiPut, MultiGet, CAS, Incr, Echo} {
		cfg := small(op)
		cfg.Zipf = 0.9
		w := &worker{plan: &plan{}, op: newWorkload(&cfg).operation(nullConn{}, 0), rec: newRecorder(2, false),
			limit: newOpLimit(t.Context(), time.Minute)}
		now := time.Now()
		if n := testing.AllocsPerRun(1000, func() { now = w.one(t.Context(), now, now) }); n != 0 {
			t.Errorf("%s allocates %v times an operation", op, n)
		}
		w.limit.close()
	}
}

func BenchmarkOperation(b *testing.B) {
	for _, op := range []Operation{Put, Get, Mixed} {
		b.Run(string(op), func(b *testing.B) {
			cfg := small(op)
			w := &worker{plan: &plan{}, op: newWorkload(&cfg).operation(nullConn{}, 0), rec: newRecorder(2, false),
				limit: newOpLimit(b.Context(), time.Minute)}
			defer w.limit.close()
			b.ReportAllocs()
			now := time.Now()
			for b.Loop() {
				now = w.one(b.Context(), now, now)
			}
		})
	}
}

func ExampleLatency_String() {
	fmt.Println(Latency{Min: 80, Mean: 950.4, P50: 900, P90: 1200, P95: 1500, P99: 12345, P999: 999999, Max: 2.5e6})
	// Output: min 80µs  mean 950µs  p50 900µs  p90 1.20ms  p95 1.50ms  p99 12.35ms  p99.9 1000.00ms  max 2.5s
}
