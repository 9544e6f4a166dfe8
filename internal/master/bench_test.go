package master

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/master/mastertest"
	"github.com/dkvdb/dkv/internal/replica/local"
	"github.com/dkvdb/dkv/internal/replica/state"
	"github.com/dkvdb/dkv/internal/route"
	"github.com/dkvdb/dkv/internal/server"
	"github.com/dkvdb/dkv/internal/server/servertest"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/memory"
)

// echo answers as the service does, and does nothing: the ceiling of the
// transport.
type echo struct {
	serverpb.UnimplementedDKVServer
	value []byte
}

func (e echo) Get(context.Context, *serverpb.GetRequest) (*serverpb.GetResponse, error) {
	return &serverpb.GetResponse{Status: &serverpb.Status{}, Value: e.value, Found: true, Index: 1}, nil
}

func (e echo) Put(context.Context, *serverpb.PutRequest) (*serverpb.PutResponse, error) {
	return &serverpb.PutResponse{Status: &serverpb.Status{}, Index: 1}, nil
}

const benchValue = 128

// serveEcho runs a bare gRPC server, and returns its address.
func serveEcho(b *testing.B) string {
	b.Helper()
	s := grpc.NewServer()
	serverpb.RegisterDKVServer(s, echo{value: make([]byte, benchValue)})
	return servertest.Serve(b, s, nil).Addr
}

// serveNode runs a node over memory as dkvsrv assembles it.
func serveNode(b *testing.B) string {
	b.Helper()
	log := slog.New(slog.DiscardHandler)
	local, err := local.Open(local.Options{Options: state.Options{
		VBucket: "default",
		Open:    func(string) (storage.Engine, error) { return memory.Open(memory.Options{}) },
		Log:     log,
	}})
	if err != nil {
		b.Fatal(err)
	}
	l, err := server.Listen("127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	keyspace := route.NewKeyspace(route.VBucket{Name: "default", Replica: local})
	s := server.New(server.Options{
		Listener: l,
		Register: func(s grpc.ServiceRegistrar) {
			serverpb.RegisterDKVServer(s, NewKV(keyspace, Limits{Key: 1 << 10, Value: 4 << 20, Batch: 8 << 20, Response: 16 << 20}, nil))
		},
		MaxMessageSize: 16 << 20,
		MaxInFlight:    10_000,
		MaxStreams:     1000,
		SlowThreshold:  100 * time.Millisecond,
		DrainTimeout:   time.Second,
		Metrics:        prometheus.NewRegistry(),
		Log:            log,
	})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- s.Run(ctx) }()
	go func() { done <- local.Run(ctx) }()
	b.Cleanup(func() {
		stop()
		for range 2 {
			if err := <-done; err != nil {
				b.Error(err)
			}
		}
		local.Close()
	})
	return l.Addr().String()
}

// BenchmarkGRPC measures calls over loopback, with the client in the same
// process. What counts is the ratio of a node's figures to echo's.
func BenchmarkGRPC(b *testing.B) {
	ctx := context.Background()
	key, value := []byte("key-000000000001"), make([]byte, benchValue)
	get := func(c serverpb.DKVClient) error {
		_, err := c.Get(ctx, &serverpb.GetRequest{Key: key, ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
		return err
	}
	put := func(c serverpb.DKVClient) error {
		_, err := c.Put(ctx, &serverpb.PutRequest{Key: key, Value: value})
		return err
	}
	for _, c := range []struct {
		name  string
		serve func(*testing.B) string
		call  func(serverpb.DKVClient) error
	}{
		{"get/echo", serveEcho, get},
		{"get/node", serveNode, get},
		{"put/echo", serveEcho, put},
		{"put/node", serveNode, put},
	} {
		for _, workers := range []int{2, 32, 256} {
			b.Run(fmt.Sprintf("%s/workers=%d", c.name, workers), func(b *testing.B) {
				conn, err := grpc.NewClient(c.serve(b), grpc.WithTransportCredentials(insecure.NewCredentials()))
				if err != nil {
					b.Fatal(err)
				}
				defer conn.Close()
				client := serverpb.NewDKVClient(conn)
				if err := put(client); err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				b.SetParallelism(workers / 2) // times GOMAXPROCS, which is 2 on the machine of record
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if err := c.call(client); err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		}
	}
}

// BenchmarkForward measures calls of the owner's node and of another one, which
// hands them on. What the hop adds is a request and a response more.
func BenchmarkForward(b *testing.B) {
	c := newCluster(b, 2, 1)
	value := string(make([]byte, benchValue))
	mastertest.MustPut(b, c.Nodes[1], "key-000000000001", value)
	put, get := mastertest.PutOf("key-000000000001", value), mastertest.Linearizable("key-000000000001")
	for _, call := range []struct {
		name string
		do   func(serverpb.DKVClient) error
	}{
		{"put", func(n serverpb.DKVClient) error { _, err := n.Put(context.Background(), put); return err }},
		{"get", func(n serverpb.DKVClient) error { _, err := n.Get(context.Background(), get); return err }},
	} {
		for _, workers := range []int{2, 64} {
			for node, name := range []string{"direct", "forwarded"} {
				b.Run(fmt.Sprintf("%s/workers=%d/%s", call.name, workers, name), func(b *testing.B) {
					b.ReportAllocs()
					b.SetParallelism(workers / 2)
					b.RunParallel(func(pb *testing.PB) {
						for pb.Next() {
							if err := call.do(c.Nodes[node]); err != nil {
								b.Error(err)
								return
							}
						}
					})
				})
			}
		}
	}
}
