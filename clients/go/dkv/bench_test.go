package dkv

import (
	"context"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/server/servertest"
	"github.com/dkvdb/dkv/internal/testkit"
)

// echo is a server that does nothing, so that only the path to it is measured.
type echo struct {
	serverpb.UnimplementedDKVServer
	serverpb.UnimplementedDKVNodeServer
	addr string
}

func (e *echo) Get(_ context.Context, r *serverpb.GetRequest) (*serverpb.GetResponse, error) {
	return &serverpb.GetResponse{Value: r.Key, Found: true, Index: 1}, nil
}

func (e *echo) Put(context.Context, *serverpb.PutRequest) (*serverpb.PutResponse, error) {
	return &serverpb.PutResponse{Index: 1}, nil
}

func (e *echo) GetNodeStatus(context.Context, *emptypb.Empty) (*serverpb.NodeStatusResponse, error) {
	return &serverpb.NodeStatusResponse{Address: e.addr, Role: "none",
		VBuckets: []*serverpb.VBucketStatus{{VBucket: "default", State: "serving", IsLeader: true}}}, nil
}

func startEcho(b testing.TB) *echo {
	l := testkit.Listen(b)
	e := &echo{addr: l.Addr().String()}
	s := grpc.NewServer()
	serverpb.RegisterDKVServer(s, e)
	serverpb.RegisterDKVNodeServer(s, e)
	servertest.Serve(b, s, l)
	return e
}

func rawStub(b testing.TB, addr string) serverpb.DKVClient {
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithReadBufferSize(128<<10), grpc.WithWriteBufferSize(128<<10))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := conn.Close(); err != nil {
			b.Error(err)
		}
	})
	return serverpb.NewDKVClient(conn)
}

// BenchmarkCall compares a call through the client with one through a bare stub.
// All but "client, own limit" have a deadline from the caller.
func BenchmarkCall(b *testing.B) {
	e := startEcho(b)
	raw := rawStub(b, e.addr)
	c := ready(b, e.addr)
	plain := ready(b, e.addr, WithoutIdempotency())
	key, value := []byte("0123456789abcdef"), make([]byte, 128)
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	for _, one := range []struct {
		name string
		call func() error
	}{
		{"get/stub", func() error { _, err := raw.Get(ctx, &serverpb.GetRequest{Key: key}); return err }},
		{"get/client", func() error { _, err := c.Get(ctx, key); return err }},
		{"get/client sequential", func() error { _, err := c.Get(ctx, key, Sequential); return err }},
		{"get/client, own limit", func() error { _, err := c.Get(context.Background(), key); return err }},
		{"put/stub", func() error { _, err := raw.Put(ctx, &serverpb.PutRequest{Key: key, Value: value}); return err }},
		{"put/client", func() error { _, err := c.Put(ctx, key, value); return err }},
		{"put/client without ids", func() error { _, err := plain.Put(ctx, key, value); return err }},
		{"put/client, own limit", func() error { _, err := c.Put(context.Background(), key, value); return err }},
	} {
		b.Run(one.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := one.call(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkOverhead makes calls through the stub and the client in turn, so that noise
// affects both equally, and reports the median of each and the difference.
func BenchmarkOverhead(b *testing.B) {
	e := startEcho(b)
	raw := rawStub(b, e.addr)
	c := ready(b, e.addr)
	key, value := []byte("0123456789abcdef"), make([]byte, 128)
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	for _, one := range []struct {
		name         string
		stub, client func() error
	}{
		{"get", func() error { _, err := raw.Get(ctx, &serverpb.GetRequest{Key: key}); return err },
			func() error { _, err := c.Get(ctx, key); return err }},
		{"put", func() error { _, err := raw.Put(ctx, &serverpb.PutRequest{Key: key, Value: value}); return err },
			func() error { _, err := c.Put(ctx, key, value); return err }},
	} {
		b.Run(one.name, func(b *testing.B) {
			var took [2][]time.Duration
			for b.Loop() {
				for i, call := range []func() error{one.stub, one.client} {
					began := time.Now()
					if err := call(); err != nil {
						b.Fatal(err)
					}
					took[i] = append(took[i], time.Since(began))
				}
			}
			var median [2]time.Duration
			for i := range took {
				slices.Sort(took[i])
				median[i] = took[i][len(took[i])/2]
			}
			b.ReportMetric(float64(median[0]), "stub-ns")
			b.ReportMetric(float64(median[1]), "client-ns")
			b.ReportMetric(float64(median[1]-median[0]), "added-ns")
		})
	}
}

func BenchmarkSession(b *testing.B) {
	s := newSessions()
	b.ReportAllocs()
	for b.Loop() {
		var id serverpb.RequestID
		s.begin(&id).end(id.Sequence)
	}
}
