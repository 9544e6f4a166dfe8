package peer

import (
	"context"
	"errors"
	"io"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/server/servertest"
	"github.com/dkvdb/dkv/internal/testkit"
)

func TestStream(t *testing.T) {
	ended := make(chan error, 1)
	s := serve(t, &site{iterate: func(stream grpc.ServerStreamingServer[serverpb.IterateResponse]) error {
		for i := range 3 {
			if err := stream.Send(&serverpb.IterateResponse{Index: uint64(i + 1)}); err != nil {
				return err
			}
		}
		if len(metadata.ValueFromIncomingContext(stream.Context(), "stay")) > 0 {
			<-stream.Context().Done()
			ended <- stream.Context().Err()
		}
		return nil
	}})
	p := peerAt(t, newPool(t, Options{}), s.addr)
	for _, stay := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		if stay {
			ctx = metadata.AppendToOutgoingContext(ctx, "stay", "1")
		}
		stream, err := p.Stream(ctx, serverpb.DKV_Iterate_FullMethodName, &serverpb.IterateRequest{})
		if err != nil {
			t.Fatal(err)
		}
		var m serverpb.IterateResponse
		for i := range 3 {
			if err := stream.Recv(&m); err != nil || m.GetIndex() != uint64(i+1) {
				t.Errorf("%v, %v", &m, err)
			}
		}
		if !stay {
			if err := stream.Recv(&m); !errors.Is(err, io.EOF) {
				t.Errorf("at the end: %v", err)
			}
		}
		cancel()
		if stay {
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("at the peer: %v", err)
			}
		}
		testkit.Eventually(t, "the call is no longer counted", func() bool { return (*p.conns.Load())[0].calls.Load() == 0 })
	}
}

// TestMessageSize lets a response be as large as a server may send, and no larger.
func TestMessageSize(t *testing.T) {
	const limit = 1 << 20
	size := limit + overhead/2
	s := serve(t, &site{get: func(context.Context, *serverpb.GetRequest) (*serverpb.GetResponse, error) {
		return &serverpb.GetResponse{Value: make([]byte, size)}, nil
	}})
	p := peerAt(t, newPool(t, Options{MaxMessageSize: limit}), s.addr)
	if resp, err := get(t.Context(), p); err != nil || len(resp.GetValue()) != size {
		t.Errorf("%d bytes, %v", len(resp.GetValue()), err)
	}
	size = limit + overhead
	if _, err := get(t.Context(), p); kv.KindOf(err) != kv.Exhausted {
		t.Error(err)
	}
}

// changes is a change stream of one change.
type changes struct {
	serverpb.UnimplementedDKVReplicationServer
	change *serverpb.GetChangesResponse
}

func (c changes) GetChanges(context.Context, *serverpb.GetChangesRequest) (*serverpb.GetChangesResponse, error) {
	return c.change, nil
}

func (c changes) StreamChanges(_ *serverpb.StreamChangesRequest, s grpc.ServerStreamingServer[serverpb.GetChangesResponse]) error {
	return s.Send(c.change)
}

// TestLargeChanges takes a change however large it is: what follows could not come
// without it.
func TestLargeChanges(t *testing.T) {
	const limit = 1 << 10
	sent := &serverpb.GetChangesResponse{Changes: []*serverpb.ChangeRecord{{SerialisedForm: make([]byte, 2*overhead)}}}
	server := grpc.NewServer()
	serverpb.RegisterDKVReplicationServer(server, changes{change: sent})
	addr := servertest.Serve(t, server, nil).Addr
	p := peerAt(t, newPool(t, Options{MaxMessageSize: limit}), addr)
	var got serverpb.GetChangesResponse
	if err := p.Invoke(t.Context(), serverpb.DKVReplication_GetChanges_FullMethodName, &serverpb.GetChangesRequest{}, &got); err != nil || !proto.Equal(&got, sent) {
		t.Errorf("by a call: %v", err)
	}
	stream, err := p.Stream(t.Context(), serverpb.DKVReplication_StreamChanges_FullMethodName, &serverpb.StreamChangesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Recv(&got); err != nil || !proto.Equal(&got, sent) {
		t.Errorf("by a stream: %v", err)
	}
	if err := stream.Recv(&got); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}
