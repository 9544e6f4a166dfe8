package replication

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/master/mastertest"
)

// BenchmarkStreamChanges streams a long changelog to one receiver: what a slave that
// was away gets, at most.
func BenchmarkStreamChanges(b *testing.B) {
	const n = 20_000
	r := newRig(b)
	value := bytes.Repeat([]byte("v"), 100)
	for i := range n {
		put := []kv.Mutation{{Key: fmt.Appendf(nil, "key-%08d", i), Value: value}}
		if _, err := r.Local.Propose(b.Context(), &command.Command{Kind: command.Write, Mutations: put}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		ctx, stop := context.WithCancel(b.Context())
		s, err := r.Replication.StreamChanges(ctx, &serverpb.StreamChangesRequest{})
		if err != nil {
			b.Fatal(err)
		}
		for got := 0; got < n; {
			m, err := s.Recv()
			if err != nil {
				b.Fatal(err)
			}
			got += len(m.GetChanges())
		}
		stop()
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "changes/s")
}

// BenchmarkStreamLatency measures from the acknowledgement of a put to its arrival at
// a receiver that is up to date.
func BenchmarkStreamLatency(b *testing.B) {
	r := newRig(b)
	s, err := r.Replication.StreamChanges(b.Context(), &serverpb.StreamChangesRequest{})
	if err != nil {
		b.Fatal(err)
	}
	var waited time.Duration
	for b.Loop() {
		resp, err := r.Put(b.Context(), mastertest.PutOf("key", "value"))
		if err != nil {
			b.Fatal(err)
		}
		begin := time.Now()
		for got := uint64(0); got < resp.GetIndex(); {
			m, err := s.Recv()
			if err != nil {
				b.Fatal(err)
			}
			got = m.GetMasterChangeNumber()
		}
		waited += time.Since(begin)
	}
	b.ReportMetric(float64(waited.Microseconds())/float64(b.N), "us-behind")
}

// BenchmarkStreamSnapshot sends a state of 64 MiB.
func BenchmarkStreamSnapshot(b *testing.B) {
	r := newRig(b)
	const total, size = 64 << 20, 1000
	var batch []kv.Mutation
	for i := range total / size {
		batch = append(batch, kv.Mutation{Key: fmt.Appendf(nil, "key-%08d", i), Value: make([]byte, size)})
		if len(batch) == 1000 || i == total/size-1 {
			if _, err := r.Local.Propose(b.Context(), &command.Command{Kind: command.Write, Mutations: batch}); err != nil {
				b.Fatal(err)
			}
			batch = nil
		}
	}
	b.SetBytes(total)
	b.ReportAllocs()
	for b.Loop() {
		s, err := r.Replication.StreamSnapshot(b.Context(), &serverpb.StreamSnapshotRequest{})
		if err != nil {
			b.Fatal(err)
		}
		for {
			c, err := s.Recv()
			if err != nil {
				b.Fatal(err)
			}
			if len(c.GetPosition()) == 0 {
				break
			}
		}
	}
}
