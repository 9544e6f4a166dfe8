package server

import (
	"context"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/certs"
)

// BenchmarkGetOverTLS measures what TLS adds to a get, without what is below the server: the
// same permissive server is called in the clear and over TLS, in turns that are too short for
// the machine to be another one between them. It counts the time of the processor, of client
// and server together, which other programs change little; overhead-% is what TLS adds.
func BenchmarkGetOverTLS(b *testing.B) {
	s := newSecureRig(b, certs.Permissive)
	const workers, turn = 32, 2000
	var clients [2]serverpb.DKVClient
	for i, with := range []credentials.TransportCredentials{insecure.NewCredentials(), credentials.NewTLS(s.client())} {
		conn, err := grpc.NewClient(s.addr(), grpc.WithTransportCredentials(with))
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		clients[i] = serverpb.NewDKVClient(conn)
	}
	request := &serverpb.GetRequest{Key: make([]byte, 16)}
	run := func(by serverpb.DKVClient, n int) time.Duration {
		begin := processorTime(b)
		var all sync.WaitGroup
		for range workers {
			all.Go(func() {
				for range n / workers {
					if _, err := by.Get(context.Background(), request); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
		return processorTime(b) - begin
	}
	for _, c := range clients {
		run(c, turn)
	}
	var took [2]time.Duration
	made := 0
	for b.Loop() {
		for i, c := range clients {
			took[i] += run(c, turn)
		}
		made += turn
	}
	clear, secure := float64(took[0].Nanoseconds())/float64(made), float64(took[1].Nanoseconds())/float64(made)
	b.ReportMetric(clear, "clear-cpu-ns/get")
	b.ReportMetric(secure, "TLS-cpu-ns/get")
	b.ReportMetric((secure/clear-1)*100, "overhead-%")
}

// processorTime returns what the process has used of the processors.
func processorTime(b *testing.B) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
