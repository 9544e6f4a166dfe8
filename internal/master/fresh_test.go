package master

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/master/mastertest"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/local"
	"github.com/dkvdb/dkv/internal/replica/state"
	"github.com/dkvdb/dkv/internal/route"
	"github.com/dkvdb/dkv/internal/server/servertest"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/memory"
	"github.com/dkvdb/dkv/internal/testkit"
)

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
		local, err := local.Open(local.Options{Options: state.Options{
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
		testkit.Timely(t, func() error {
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
