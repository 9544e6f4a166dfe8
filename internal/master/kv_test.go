package master

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/master/mastertest"
	"github.com/dkvdb/dkv/internal/replica/local"
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
	mastertest.WantStatus(t, err, codes.InvalidArgument, "put 3 of 3: key is empty (not applied)")
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
	never, tooMuch := make([]byte, longestKey+1), make([]byte, 4097)
	const (
		empty   = "key is empty"
		tooLong = "key has 65 bytes, the limit is 64 (max-key-size)"
		tooBig  = `value of key "k" has 1025 bytes, the limit is 1024 (max-value-size)`
		not     = " (not applied)" // of what would change something
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
		"put, no key":              {put(nil, key), empty + not},
		"put, long key":            {put(long, nil), tooLong + not},
		"put, big value":           {put(key, big), tooBig + not},
		"delete, no key":           {del(nil), empty + not},
		"delete, long key":         {del(long), ""},
		"delete, too long":         {del(never), "key has 1048577 bytes, the limit is 64 (max-key-size)" + not},
		"delete, too much":         {del(tooMuch), "the request has 4097 bytes of keys and values, the limit is 4096 (max-batch-size); split it" + not},
		"get, no key":              {get(nil), empty},
		"get, long key":            {get(long), ""},
		"get, too long":            {get(never), "key has 1048577 bytes, and no key has more than 1048576"},
		"increment, no key":        {inc(nil), empty + not},
		"increment, long key":      {inc(long), tooLong + not},
		"multi-get of nothing":     {mget(), ""},
		"multi-get, no key":        {mget(key, nil), "key 2 of 2: " + empty},
		"multi-get, long key":      {mget(long), ""},
		"multi-get, too long":      {mget(key, never), "key 2 of 2: key has 1048577 bytes, and no key has more than 1048576"},
		"cas, no key":              {cas(nil, nil, nil), empty + not},
		"cas, big new value":       {cas(key, nil, big), tooBig + not},
		"cas, big old value":       {cas(key, big, nil), ""},
		"cas, too big old value":   {cas(key, tooMuch, nil), "oldValue has 4097 bytes, the limit is 4096 (max-batch-size)" + not},
		"multi-put of nothing":     {mput(), ""},
		"multi-put, big value":     {mput(nil, big), `put 2 of 2: value of key "1" has 1025 bytes, the limit is 1024 (max-value-size)` + not},
		"multi-put":                {mput(full, full, full, full[:1020]), ""},
		"multi-put, too much":      {mput(full, full, full, full), "the request has 4100 bytes of keys and values, the limit is 4096 (max-batch-size); split it" + not},
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

// TestWhatLowerLimitsLeave: keys and values that were written when they might be longer are read,
// replaced by what may be written, and deleted.
func TestWhatLowerLimitsLeave(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	key, value := []byte(strings.Repeat("k", 64)), []byte(strings.Repeat("v", 1024))
	r.MustPut(string(key), string(value))
	r.MustPut("k", string(value))
	s := NewKV(r.Keyspace, Limits{Key: 8, Value: 100, Batch: 4096, Response: 8192}, nil)
	if got, err := s.Get(ctx, &serverpb.GetRequest{Key: key}); err != nil || string(got.GetValue()) != string(value) {
		t.Errorf("get: %v, %v", got, err)
	}
	if got, err := s.MultiGet(ctx, &serverpb.MultiGetRequest{Keys: [][]byte{key}}); err != nil || len(got.GetKeyValues()) != 1 {
		t.Errorf("multi-get: %v, %v", got, err)
	}
	if got, err := s.CompareAndSet(ctx, &serverpb.CompareAndSetRequest{Key: []byte("k"), OldValue: value, NewValue: []byte("small")}); err != nil || !got.GetUpdated() {
		t.Errorf("compare-and-set: %v, %v", got, err)
	}
	if _, err := s.Delete(ctx, &serverpb.DeleteRequest{Key: key}); err != nil {
		t.Errorf("delete: %v", err)
	}
	r.WantAbsent(string(key))
	r.WantValue("k", "small")
	if _, err := s.Put(ctx, &serverpb.PutRequest{Key: key}); kv.KindOf(err) != kv.Invalid {
		t.Errorf("put: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

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
	mastertest.WantStatus(t, err, codes.FailedPrecondition, `key "text" does not hold a counter, which is 8 bytes big endian; count under another key, or delete this one first (not applied)`)
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

// TestMultiGetOfLargeValues: those that are too large to be read at once are read in parts, at
// whatever level, with small ones before, between and behind them.
func TestMultiGetOfLargeValues(t *testing.T) {
	r := newRig(t, func(_ *local.Options, l *Limits) {
		*l = Limits{Key: 1 << 10, Value: 2 << 20, Batch: 3 << 20, Response: 32 << 20}
	})
	value := func(i int) string {
		if i%3 == 0 {
			return fmt.Sprint("small", i)
		}
		return strings.Repeat(string(rune('a'+i)), storage.MultiGetBytes/3)
	}
	var keys [][]byte
	for i := range 20 {
		r.MustPut(fmt.Sprint("k", i), value(i))
		keys = append(keys, fmt.Append(nil, "k", i), fmt.Append(nil, "absent", i))
	}
	for _, level := range []serverpb.ReadConsistency{serverpb.ReadConsistency_SEQUENTIAL, serverpb.ReadConsistency_LINEARIZABLE} {
		for _, more := range []int{0, viewChunk} {
			asked := slices.Concat(keys, slices.Repeat(keys[:1], more))
			resp, err := r.MultiGet(t.Context(), &serverpb.MultiGetRequest{Keys: asked, ReadConsistency: level}, grpc.MaxCallRecvMsgSize(64<<20))
			if err != nil || len(resp.GetKeyValues()) != 20+more {
				t.Fatalf("%v, %d keys: %d pairs, %v", level, len(asked), len(resp.GetKeyValues()), err)
			}
			for i, p := range resp.GetKeyValues()[:20] {
				if string(p.GetKey()) != fmt.Sprint("k", i) || string(p.GetValue()) != value(i) {
					t.Fatalf("%v: pair %d is of %q, with %d bytes", level, i, p.GetKey(), len(p.GetValue()))
				}
			}
		}
	}
}

// Large values are read about as often as they are returned, though no one knows how many of them may
// be read at once: what many small requests for them cost is what they get.
func TestMultiGetReadsLargeValuesOnce(t *testing.T) {
	const size = 1 << 20
	var read atomic.Int64
	r := newRig(t, func(o *local.Options, l *Limits) {
		*l = Limits{Key: 1 << 10, Value: 2 * size, Batch: 3 * size, Response: 20 * size}
		o.Open = func(string) (storage.Engine, error) {
			e, err := memory.Open(memory.Options{})
			return countingEngine{e, &read}, err
		}
	})
	r.MustPut("k", strings.Repeat("v", size))
	for _, n := range []int{16, 10_000} {
		read.Store(0)
		_, err := r.MultiGet(t.Context(), &serverpb.MultiGetRequest{Keys: slices.Repeat([][]byte{[]byte("k")}, n)}, grpc.MaxCallRecvMsgSize(64<<20))
		if limited := n > 16; limited != (status.Code(err) == codes.ResourceExhausted) || !limited && err != nil {
			t.Fatal(err)
		}
		if most := int64(20*size + 2*storage.MultiGetBytes); read.Load() > most {
			t.Errorf("for %d values of a MiB, of which 20 may be returned, %d MiB are read", n, read.Load()>>20)
		}
	}
}

// countingEngine counts the bytes of values that are read by MultiGet.
type countingEngine struct {
	storage.Engine
	read *atomic.Int64
}

func (e countingEngine) MultiGet(s storage.Space, keys [][]byte) ([][]byte, error) {
	values, err := e.Engine.MultiGet(s, keys)
	count(e.read, values)
	return values, err
}

func (e countingEngine) NewView() (storage.View, error) {
	v, err := e.Engine.NewView()
	return countingView{v, e.read}, err
}

type countingView struct {
	storage.View
	read *atomic.Int64
}

func (v countingView) MultiGet(s storage.Space, keys [][]byte) ([][]byte, error) {
	values, err := v.View.MultiGet(s, keys)
	count(v.read, values)
	return values, err
}

func count(read *atomic.Int64, values [][]byte) {
	for _, v := range values {
		read.Add(int64(len(v)))
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
