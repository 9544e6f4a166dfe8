package master

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/master/mastertest"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/route"
	"github.com/dkvdb/dkv/internal/server/servertest"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/memory"
)

func TestFoundTellsMissingFromEmpty(t *testing.T) {
	r := newRig(t)
	r.MustPut("empty", "")
	r.MustPut("brief", "v", mastertest.Epoch+10)
	r.WantValue("empty", "")
	r.WantAbsent("missing")
	if got := r.MustGet("brief"); got.GetExpireTS() != mastertest.Epoch+10 || got.GetIndex() != 2 || got.GetAge() != 0 {
		t.Errorf("%v", got)
	}
	if got := r.MustGet("empty"); got.GetExpireTS() != 0 {
		t.Errorf("%v", got)
	}
}

func TestIndexes(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	if got := r.MustPut("a", "1"); got != 1 {
		t.Errorf("put: %d", got)
	}
	mp, err := r.MultiPut(ctx, &serverpb.MultiPutRequest{PutRequest: []*serverpb.PutRequest{{Key: []byte("b")}, {Key: []byte("c")}}})
	if err != nil || mp.GetIndex() != 2 {
		t.Errorf("multi-put: %v, %v", mp, err)
	}
	d, err := r.Delete(ctx, &serverpb.DeleteRequest{Key: []byte("a")})
	if err != nil || d.GetIndex() != 3 {
		t.Errorf("delete: %v, %v", d, err)
	}
	cas, err := r.CompareAndSet(ctx, &serverpb.CompareAndSetRequest{Key: []byte("a"), OldValue: []byte("x")})
	if err != nil || cas.GetIndex() != 4 || cas.GetUpdated() {
		t.Errorf("compare-and-set: %v, %v", cas, err)
	}
	inc, err := r.Increment(ctx, &serverpb.IncrementRequest{Key: []byte("n"), Delta: 1})
	if err != nil || inc.GetIndex() != 5 {
		t.Errorf("increment: %v, %v", inc, err)
	}
	mg, err := r.MultiGet(ctx, &serverpb.MultiGetRequest{Keys: [][]byte{[]byte("b")}})
	if err != nil || mg.GetIndex() != 5 {
		t.Errorf("multi-get: %v, %v", mg, err)
	}
}

// TestMultiPutIsAtomic: of a multi-put that is refused, nothing is there.
func TestMultiPutIsAtomic(t *testing.T) {
	r := newRig(t)
	put := func(keys ...string) *serverpb.MultiPutRequest {
		req := &serverpb.MultiPutRequest{}
		for _, k := range keys {
			req.PutRequest = append(req.PutRequest, &serverpb.PutRequest{Key: []byte(k), Value: []byte("v" + k)})
		}
		return req
	}
	_, err := r.MultiPut(t.Context(), put("a", "b", ""))
	mastertest.WantStatus(t, err, codes.InvalidArgument, "put 3 of 3: key is empty")
	r.WantAbsent("a")
	// The last one of a key wins.
	req := put("a", "b", "a")
	req.PutRequest[2].Value = []byte("last")
	if _, err := r.MultiPut(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	r.WantValue("a", "last")
	changes, err := r.Replication.GetChanges(t.Context(), &serverpb.GetChangesRequest{})
	if err != nil || len(changes.GetChanges()) != 1 || changes.GetChanges()[0].GetNumberOfTrxns() != 3 {
		t.Errorf("changes %v, %v", changes, err)
	}
}

func TestLimits(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	long, big := []byte(strings.Repeat("k", 65)), make([]byte, 1025)
	key := []byte("k")
	const (
		empty   = "key is empty"
		tooLong = "key has 65 bytes, the limit is 64 (max-key-size)"
		tooBig  = `value of key "k" has 1025 bytes, the limit is 1024 (max-value-size)`
	)
	put := func(k, v []byte) error {
		_, err := r.Put(ctx, &serverpb.PutRequest{Key: k, Value: v})
		return err
	}
	del := func(k []byte) error { _, err := r.Delete(ctx, &serverpb.DeleteRequest{Key: k}); return err }
	get := func(k []byte) error { _, err := r.Get(ctx, &serverpb.GetRequest{Key: k}); return err }
	inc := func(k []byte) error { _, err := r.Increment(ctx, &serverpb.IncrementRequest{Key: k}); return err }
	mget := func(ks ...[]byte) error { _, err := r.MultiGet(ctx, &serverpb.MultiGetRequest{Keys: ks}); return err }
	cas := func(k, o, n []byte) error {
		_, err := r.CompareAndSet(ctx, &serverpb.CompareAndSetRequest{Key: k, OldValue: o, NewValue: n})
		return err
	}
	mput := func(values ...[]byte) error {
		req := &serverpb.MultiPutRequest{}
		for i, v := range values {
			req.PutRequest = append(req.PutRequest, &serverpb.PutRequest{Key: fmt.Append(nil, i), Value: v})
		}
		_, err := r.MultiPut(ctx, req)
		return err
	}
	full := big[:1024]
	for name, c := range map[string]struct {
		err  error
		want string // "" is success
	}{
		"put":                      {put(long[:64], full), ""},
		"put, no key":              {put(nil, key), empty},
		"put, long key":            {put(long, nil), tooLong},
		"put, big value":           {put(key, big), tooBig},
		"delete, no key":           {del(nil), empty},
		"delete, long key":         {del(long), tooLong},
		"get, no key":              {get(nil), empty},
		"get, long key":            {get(long), tooLong},
		"increment, no key":        {inc(nil), empty},
		"increment, long key":      {inc(long), tooLong},
		"multi-get of nothing":     {mget(), ""},
		"multi-get, no key":        {mget(key, nil), "key 2 of 2: " + empty},
		"multi-get, long key":      {mget(long), "key 1 of 1: " + tooLong},
		"cas, no key":              {cas(nil, nil, nil), empty},
		"cas, big new value":       {cas(key, nil, big), tooBig},
		"cas, big old value":       {cas(key, big, nil), "oldValue: " + tooBig},
		"multi-put of nothing":     {mput(), "the request has no puts"},
		"multi-put, big value":     {mput(nil, big), `put 2 of 2: value of key "1" has 1025 bytes, the limit is 1024 (max-value-size)`},
		"multi-put":                {mput(full, full, full, full[:1020]), ""},
		"multi-put, too much":      {mput(full, full, full, full), "the request has 4100 bytes of keys and values, the limit is 4096 (max-batch-size); split it"},
		"unknown level":            {second(r.Get(ctx, &serverpb.GetRequest{Key: key, ReadConsistency: 7})), "readConsistency 7 is unknown; use SEQUENTIAL (0) or LINEARIZABLE (1)"},
		"unknown level, multi-get": {second(r.MultiGet(ctx, &serverpb.MultiGetRequest{ReadConsistency: -1})), "readConsistency -1 is unknown; use SEQUENTIAL (0) or LINEARIZABLE (1)"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.want == "" {
				if c.err != nil {
					t.Error(c.err)
				}
				return
			}
			mastertest.WantStatus(t, c.err, codes.InvalidArgument, c.want)
		})
	}
}

func second[T any](_ T, err error) error { return err }

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
				mastertest.WantStatus(t, err, codes.InvalidArgument, c.want)
			}
		})
	}
	_, err := r.MultiPut(t.Context(), &serverpb.MultiPutRequest{PutRequest: []*serverpb.PutRequest{
		{Key: []byte("a")}, {Key: []byte("b"), RequestId: &serverpb.RequestID{ClientId: 1, Sequence: 1}},
	}})
	mastertest.WantStatus(t, err, codes.InvalidArgument, "put 2 of 2 has a requestId; it belongs to the whole request")
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
	mastertest.WantStatus(t, err, codes.FailedPrecondition, "request 1 of client 7 was acknowledged already, so that its result is forgotten; "+
		"this attempt was not applied, and what became of the first the client has been told; use a new sequence for another request (outcome unknown)")
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

// A retry that comes when its result is not remembered any more is not applied
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
	mastertest.WantStatus(t, err, codes.FailedPrecondition, "request 1 of client 7 is not remembered any more: it is too late to tell whether an earlier attempt was applied, and this one was not; read what is there before writing again, with a new sequence (outcome unknown)")
	if got := mastertest.Reason(err); got != kv.ReasonTooLate {
		t.Errorf("reason %q, want %q", got, kv.ReasonTooLate)
	}
	if err := put("k", 1100); err != nil {
		t.Errorf("a retry of the last request: %v", err)
	}
}

func TestIncrement(t *testing.T) {
	r := newRig(t)
	inc := func(key string, delta int64, expireTS uint64) (int64, error) {
		resp, err := r.Increment(t.Context(), &serverpb.IncrementRequest{Key: []byte(key), Delta: delta, ExpireTS: expireTS})
		return resp.GetValue(), err
	}
	want := func(key string, delta int64, want int64) {
		t.Helper()
		if got, err := inc(key, delta, 0); err != nil || got != want {
			t.Errorf("%d, %v; want %d", got, err, want)
		}
	}
	want("n", 5, 5)
	want("n", -7, -2)
	want("n", 0, -2)
	if got := r.MustGet("n").GetValue(); string(got) != "\xff\xff\xff\xff\xff\xff\xff\xfe" {
		t.Errorf("stored as %x", got)
	}
	r.MustPut("empty", "")
	want("empty", 1, 1)
	r.MustPut("text", "seven b")
	_, err := inc("text", 1, 0)
	mastertest.WantStatus(t, err, codes.FailedPrecondition, `key "text" does not hold a counter, which is 8 bytes big endian (not applied)`)
	want("max", math.MaxInt64, math.MaxInt64)
	_, err = inc("max", 1, 0)
	mastertest.WantStatus(t, err, codes.FailedPrecondition, `counter "max" is 9223372036854775807; the sum would leave the range of int64 (not applied)`)
	// An expiry is kept, unless another is given.
	if _, err := inc("brief", 1, mastertest.Epoch+10); err != nil {
		t.Fatal(err)
	}
	want("brief", 1, 2)
	if got := r.MustGet("brief").GetExpireTS(); got != mastertest.Epoch+10 {
		t.Errorf("expires at %d", got)
	}
	r.Sleep(10)
	want("brief", 1, 1)
	if got := r.MustGet("brief").GetExpireTS(); got != 0 {
		t.Errorf("expires at %d", got)
	}
}

func TestMultiGet(t *testing.T) {
	r := newRig(t)
	const n = 3*viewChunk + 7
	var keys [][]byte
	for i := range n {
		key := fmt.Sprintf("k%03d", i)
		if i%2 == 0 {
			r.MustPut(key, fmt.Sprint("v", i))
		}
		keys = append(keys, []byte(key))
	}
	for _, count := range []int{0, 1, viewChunk, viewChunk + 1, n} {
		resp, err := r.MultiGet(t.Context(), &serverpb.MultiGetRequest{Keys: keys[:count], ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
		if err != nil || resp.GetIndex() != (n+1)/2 {
			t.Fatalf("%d keys: index %d, %v", count, resp.GetIndex(), err)
		}
		if got := len(resp.GetKeyValues()); got != (count+1)/2 {
			t.Errorf("%d keys: %d pairs", count, got)
		}
		for i, p := range resp.GetKeyValues() {
			if string(p.GetKey()) != fmt.Sprintf("k%03d", 2*i) || string(p.GetValue()) != fmt.Sprint("v", 2*i) {
				t.Fatalf("pair %d is %v", i, p)
			}
		}
	}
}

// TestMultiGetIsLimited: a small request must not be able to ask for more than
// a message, or the memory, holds.
func TestMultiGetIsLimited(t *testing.T) {
	r := newRig(t)
	r.MustPut("k", strings.Repeat("v", 1024))
	for _, n := range []int{8, 100_000} {
		keys := make([][]byte, n)
		for i := range keys {
			keys[i] = []byte("k")
		}
		_, err := r.MultiGet(t.Context(), &serverpb.MultiGetRequest{Keys: keys})
		mastertest.WantStatus(t, err, codes.ResourceExhausted, "the pairs exceed 8192 bytes, the limit of a response (max-message-size); ask for fewer keys")
	}
	keys := [][]byte{[]byte("k"), []byte("k"), []byte("k"), []byte("k"), []byte("k"), []byte("k"), []byte("k")}
	if resp, err := r.MultiGet(t.Context(), &serverpb.MultiGetRequest{Keys: keys}); err != nil || len(resp.GetKeyValues()) != 7 {
		t.Errorf("%d pairs, %v", len(resp.GetKeyValues()), err)
	}
}

func TestMinIndex(t *testing.T) {
	r := newRig(t)
	r.MustPut("k", "1")
	waiting := make(chan error, 3)
	go func() { waiting <- second(r.Get(t.Context(), &serverpb.GetRequest{Key: []byte("k"), MinIndex: 2})) }()
	go func() { waiting <- second(r.MultiGet(t.Context(), &serverpb.MultiGetRequest{MinIndex: 2})) }()
	go func() {
		stream, err := r.Iterate(t.Context(), &serverpb.IterateRequest{MinIndex: 2})
		if err == nil {
			var m *serverpb.IterateResponse
			if m, err = stream.Recv(); err == nil && string(m.GetValue()) != "2" {
				err = fmt.Errorf("value %q", m.GetValue())
			}
		}
		waiting <- err
	}()
	r.MustPut("k", "2")
	for range 3 {
		if err := <-waiting; err != nil {
			t.Error(err)
		}
	}
}

// TestMinIndexDeadline: a read that waits in vain ends a little before its
// caller's deadline, so that the reason still arrives.
func TestMinIndexDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, err := replica.OpenLocal(replica.LocalOptions{StateOptions: replica.StateOptions{
			Open: func(string) (storage.Engine, error) { return memory.Open(memory.Options{}) },
			Log:  slog.New(slog.DiscardHandler),
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer local.Close()
		s := NewKV(route.NewKeyspace(route.VBucket{Name: "default", Replica: local}), limits, nil)
		for timeout, want := range map[time.Duration]time.Duration{
			time.Second:           950 * time.Millisecond,
			40 * time.Millisecond: 30 * time.Millisecond,
		} {
			for name, call := range map[string]func(context.Context) error{
				"get": func(ctx context.Context) error {
					return second(s.Get(ctx, &serverpb.GetRequest{Key: []byte("k"), MinIndex: 3}))
				},
				"multi-get": func(ctx context.Context) error {
					return second(s.MultiGet(ctx, &serverpb.MultiGetRequest{MinIndex: 3}))
				},
				"iterate": func(ctx context.Context) error {
					return s.Iterate(&serverpb.IterateRequest{MinIndex: 3}, contextStream{ctx: ctx})
				},
			} {
				ctx, cancel := context.WithTimeout(t.Context(), timeout)
				begin := time.Now()
				err := call(ctx)
				if kv.KindOf(err) != kv.Precondition || err.Error() != "index 3 is not applied here yet, only 0: context deadline exceeded" {
					t.Errorf("%s: error %v", name, err)
				}
				if took := time.Since(begin); took != want {
					t.Errorf("%s: it took %v of %v", name, took, timeout)
				}
				cancel()
			}
		}
	})
}

// old is a replica whose state does not become as new as is wanted.
type old struct{ replica.Replica }

func (o old) await(ctx context.Context, opts kv.ReadOptions) error {
	if opts.MaxAge == 0 {
		return nil
	}
	<-ctx.Done()
	return kv.Errorf(kv.Precondition, "the state is too old: %w", ctx.Err())
}

func (o old) Get(ctx context.Context, key []byte, opts kv.ReadOptions) (kv.Pair, bool, kv.ReadInfo, error) {
	if err := o.await(ctx, opts); err != nil {
		return kv.Pair{}, false, kv.ReadInfo{}, err
	}
	return o.Replica.Get(ctx, key, opts)
}

func (o old) MultiGet(ctx context.Context, keys [][]byte, opts kv.ReadOptions) ([]kv.Pair, kv.ReadInfo, error) {
	return nil, kv.ReadInfo{}, o.await(ctx, opts)
}

func (o old) View(ctx context.Context, opts kv.ReadOptions) (replica.View, kv.ReadInfo, error) {
	return nil, kv.ReadInfo{}, o.await(ctx, opts)
}

// A read that waits for a newer state in vain says so before its caller's deadline,
// and not that the deadline is over: clients then ask another node.
func TestMaxAgeDeadline(t *testing.T) {
	r := newRig(t)
	r.Keyspace.All()[0].Replica = old{r.Local}
	for name, call := range map[string]func(context.Context) error{
		"get": func(ctx context.Context) error {
			return second(r.Get(ctx, &serverpb.GetRequest{Key: []byte("k"), MaxAge: 1}))
		},
		"multi-get": func(ctx context.Context) error {
			return second(r.MultiGet(ctx, &serverpb.MultiGetRequest{Keys: [][]byte{[]byte("k")}, MaxAge: 1}))
		},
		"iterate": func(ctx context.Context) error {
			s, err := r.Iterate(ctx, &serverpb.IterateRequest{MaxAge: 1})
			if err == nil {
				_, err = s.Recv()
			}
			return err
		},
	} {
		mastertest.Timely(t, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			err := call(ctx)
			if st := status.Convert(err); st.Code() != codes.FailedPrecondition || st.Message() != "the state is too old: context deadline exceeded" {
				return fmt.Errorf("%s: %w", name, err)
			}
			if ctx.Err() != nil {
				return fmt.Errorf("%s: the answer came too late", name)
			}
			return nil
		})
	}
}

// Reads that wait for an index leave their places in flight to others.
func TestReadsThatWaitHoldUpNoOne(t *testing.T) {
	r := newRig(t)
	s := servertest.Start(t, servertest.Options{
		InFlight: 40,
		Register: func(s grpc.ServiceRegistrar) { serverpb.RegisterDKVServer(s, NewKV(r.Keyspace, limits, nil)) },
	})
	client := serverpb.NewDKVClient(servertest.Connect(t, s.Addr))
	ctx, cancel := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer cancel()
	refused := make(chan error, 100)
	for range 100 {
		waiting.Go(func() {
			_, err := client.Get(ctx, &serverpb.GetRequest{Key: []byte("k"), MinIndex: 1000})
			refused <- err
		})
	}
	for range 90 { // a quarter of 40 may wait
		if err := <-refused; status.Code(err) != codes.ResourceExhausted {
			t.Errorf("it ended with %v", err)
		}
	}
	if _, err := client.Put(t.Context(), &serverpb.PutRequest{Key: []byte("k")}); err != nil {
		t.Errorf("meanwhile: %v", err)
	}
	// An index that cannot come is refused at once, however many wait.
	_, err := client.Get(t.Context(), &serverpb.GetRequest{Key: []byte("k"), MinIndex: math.MaxUint64})
	mastertest.WantStatus(t, err, codes.FailedPrecondition,
		"index 18446744073709551615 is far ahead of what is applied here, 1; ask another node, or read without an index if it is one of another log")
}

// contextStream is a stream on which nothing is sent.
type contextStream struct {
	grpc.ServerStreamingServer[serverpb.IterateResponse]
	ctx context.Context
}

func (s contextStream) Context() context.Context { return s.ctx }

func TestMaxAge(t *testing.T) {
	r := newRig(t)
	r.MustPut("k", "v")
	for _, age := range []uint64{1, math.MaxUint64} { // the owner of a log is never behind
		if _, err := r.Get(t.Context(), &serverpb.GetRequest{Key: []byte("k"), MaxAge: age}); err != nil {
			t.Error(err)
		}
	}
	if millis(5) != 5*time.Millisecond || millis(math.MaxUint64) != math.MaxInt64 {
		t.Error("millis is wrong")
	}
}

// TestFailedStorage: the first error says that the outcome is unknown, those
// behind it that nothing was done; reads go on.
func TestFailedStorage(t *testing.T) {
	r := newRig(t)
	r.MustPut("k", "v")
	r.FailWrites(errors.New("input/output error"))
	put := &serverpb.PutRequest{Key: []byte("k"), Value: []byte("w")}
	_, err := r.Put(t.Context(), put)
	mastertest.WantStatus(t, err, codes.Internal,
		"storage failed: apply at index 2: memory engine: sync: input/output error (outcome unknown)")
	_, err = r.Put(t.Context(), put)
	mastertest.WantStatus(t, err, codes.Unavailable,
		"storage failed, only reads are served: apply at index 2: memory engine: sync: input/output error; repair it and restart, or restore a backup (not applied)")
	r.WantValue("k", "v")
	status, err := r.Ops.GetNodeStatus(t.Context(), &emptypb.Empty{})
	if err != nil || status.GetVBuckets()[0].GetState() != "failed" || !strings.Contains(status.GetVBuckets()[0].GetReason(), "input/output error") {
		t.Errorf("status %v, %v", status, err)
	}
	if region, err := r.Region.GetStatus(t.Context(), &emptypb.Empty{}); err != nil || region.GetStatus() != serverpb.RegionStatus_INACTIVE {
		t.Errorf("region %v, %v", region, err)
	}
}

func TestFullDisk(t *testing.T) {
	r := newRig(t)
	r.MustPut("k", "v")
	r.FailWrites(storage.ErrNoSpace)
	put := &serverpb.PutRequest{Key: []byte("k"), Value: []byte("w")}
	for _, outcome := range []string{"(outcome unknown)", "(not applied)"} {
		_, err := r.Put(t.Context(), put)
		if status.Code(err) != codes.ResourceExhausted || !strings.HasSuffix(err.Error(), outcome) {
			t.Errorf("error %v, want %s", err, outcome)
		}
	}
	r.WantValue("k", "v")
}

func TestCancelledWrite(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := r.Put(ctx, &serverpb.PutRequest{Key: []byte("k")})
	if status.Code(err) != codes.Canceled {
		t.Errorf("error %v", err)
	}
}

func TestCorruptionIsReported(t *testing.T) {
	r := newRig(t, func(o *replica.LocalOptions, _ *Limits) {
		open := o.Open
		o.Open = func(dir string) (storage.Engine, error) {
			e, err := open(dir)
			return corruptEngine{e}, err
		}
	})
	r.MustPut("good", "v")
	r.MustPut("bad", "v")
	r.WantValue("good", "v")
	_, err := r.Get(t.Context(), &serverpb.GetRequest{Key: []byte("bad")})
	mastertest.WantStatus(t, err, codes.DataLoss, "read: block 7: stored data is corrupt")
	_, err = r.MultiGet(t.Context(), &serverpb.MultiGetRequest{Keys: [][]byte{[]byte("good"), []byte("bad")}})
	mastertest.WantStatus(t, err, codes.DataLoss, "read: block 7: stored data is corrupt")
}

// corruptEngine fails to read the key "bad".
type corruptEngine struct{ storage.Engine }

func (e corruptEngine) Get(s storage.Space, key []byte) ([]byte, bool, error) {
	if s == storage.Data && string(key) == "bad" {
		return nil, false, fmt.Errorf("block 7: %w", storage.ErrCorrupt)
	}
	return e.Engine.Get(s, key)
}

func (e corruptEngine) MultiGet(s storage.Space, keys [][]byte) ([][]byte, error) {
	for _, key := range keys {
		if string(key) == "bad" {
			return nil, fmt.Errorf("block 7: %w", storage.ErrCorrupt)
		}
	}
	return e.Engine.MultiGet(s, keys)
}
