package replication

import (
	"context"
	"errors"
	"hash/crc32"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/fsm/chunks"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/memory"
	"github.com/dkvdb/dkv/internal/testkit"
)

// transfer is a snapshot on its way.
type transfer struct {
	t      *testing.T
	engine storage.Engine
	load   *chunks.Loader
	about  *serverpb.SnapshotChunk // the first chunk, without data
	at     *serverpb.StreamSnapshotRequest
	chunks int
	done   bool
}

func newTransfer(t *testing.T) *transfer {
	t.Helper()
	e, err := memory.Open(memory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &transfer{t: t, engine: e, load: chunks.NewLoader(e), at: &serverpb.StreamSnapshotRequest{}}
}

// receive reads up to most chunks of a new stream, which resumes where the transfer is, and then
// cuts the stream off.
func (x *transfer) receive(c serverpb.DKVReplicationClient, most int) error {
	x.t.Helper()
	ctx, cut := context.WithTimeout(context.Background(), 30*time.Second)
	defer cut()
	s, err := c.StreamSnapshot(ctx, x.at)
	if err != nil {
		x.t.Fatal(err)
	}
	for n := range most {
		chunk, err := s.Recv()
		switch {
		case errors.Is(err, io.EOF):
			if !x.done {
				x.t.Fatal("the stream ends before the last chunk")
			}
			return nil
		case err != nil:
			return err
		}
		x.take(chunk, n == 0)
	}
	return nil
}

func (x *transfer) take(c *serverpb.SnapshotChunk, first bool) {
	x.t.Helper()
	if x.done {
		x.t.Fatal("a chunk behind the last")
	}
	if sum := crc32.Checksum(c.GetData(), crc32.MakeTable(crc32.Castagnoli)); sum != c.GetChecksum() {
		x.t.Fatalf("checksum %x, want %x", c.GetChecksum(), sum)
	}
	if len(c.GetData()) > 1<<20 {
		x.t.Errorf("a chunk of %d bytes", len(c.GetData()))
	}
	if first {
		about := proto.CloneOf(c)
		about.Data, about.Checksum, about.Position = nil, 0, nil
		if x.about == nil {
			x.about = about
		}
		if !proto.Equal(about, x.about) {
			x.t.Fatalf("the stream is resumed with %v, it was %v", about, x.about)
		}
	}
	if err := x.load.Add(c.GetData()); err != nil {
		x.t.Fatal(err)
	}
	x.chunks++
	x.at.SnapshotId, x.at.Position, x.done = c.GetSnapshotId(), c.GetPosition(), len(c.GetPosition()) == 0
}

// hash finishes the load and returns the fingerprint of what came.
func (x *transfer) hash() fsm.ContentHash {
	x.t.Helper()
	if !x.done {
		x.t.Fatal("the transfer is not complete")
	}
	if err := x.load.Finish(); err != nil {
		x.t.Fatal(err)
	}
	m, err := fsm.New(x.engine)
	if err != nil {
		x.t.Fatal(err)
	}
	defer m.Close()
	v, err := m.View()
	if err != nil {
		x.t.Fatal(err)
	}
	defer v.Close()
	if id := v.Identity(); v.Index() != x.about.GetChangeNumber() || id.History != x.about.GetHistoryId() || id.Cluster != x.about.GetClusterId() {
		x.t.Errorf("%+v at %d, announced as %v", id, v.Index(), x.about)
	}
	h, err := v.Hash(context.Background())
	if err != nil {
		x.t.Fatal(err)
	}
	return h
}

// open begins a snapshot and takes its first chunk.
func (x *transfer) open(c serverpb.DKVReplicationClient) grpc.ServerStreamingClient[serverpb.SnapshotChunk] {
	x.t.Helper()
	s, err := c.StreamSnapshot(testkit.Within(x.t, time.Minute), x.at)
	if err != nil {
		x.t.Fatal(err)
	}
	chunk, err := s.Recv()
	if err != nil {
		x.t.Fatal(err)
	}
	x.take(chunk, true)
	return s
}

// drain takes what is on the line, and returns what the stream ends with.
func (x *transfer) drain(s grpc.ServerStreamingClient[serverpb.SnapshotChunk]) error {
	x.t.Helper()
	for {
		chunk, err := s.Recv()
		if err != nil {
			return err
		}
		x.take(chunk, false)
	}
}
