package server

import (
	"runtime"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	pb "google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/internal/forward"
)

// countedFrom is the size from which a response is counted until it has left.
// Smaller ones are bounded by the number of streams of a connection.
const countedFrom = 4 << 10

// outgoing is an encoded message.
type outgoing struct{ data mem.BufferSlice }

// codec is protobuf's codec, except that it passes on messages that are already encoded.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(proto.Name)} }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	switch out := v.(type) {
	case *outgoing:
		data := out.data
		out.data = nil
		return data, nil
	case *forward.Message:
		return out.Marshal(), nil
	}
	return c.CodecV2.Marshal(v)
}

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	switch in := v.(type) {
	case *incoming:
		return in.decode(data)
	case *streamedMessage:
		return in.decode(data)
	case *forward.Message:
		in.Unmarshal(data)
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}

// encode encodes a message of a known size. What was taken of conn for it is released with
// the last reference to it.
func encode(m pb.Message, size int, c *conn) (mem.BufferSlice, error) {
	pool := buffers
	buf := pool.Get(size)
	if _, err := (pb.MarshalOptions{UseCachedSize: true}).MarshalAppend((*buf)[:0], m); err != nil {
		pool.Put(buf)
		c.give(int64(size))
		return nil, err
	}
	return mem.BufferSlice{mem.NewBuffer(buf, newCounted(pool, c, int64(size)))}, nil
}

// counted is the buffer pool of one buffer. With the buffer it releases what was taken of
// the connection for it.
type counted struct {
	mem.BufferPool
	share   *share
	cleanup runtime.Cleanup
}

// share is what a buffer holds of its connection's room.
type share struct {
	conn *conn
	n    atomic.Int64
}

func (s *share) give() {
	if n := s.n.Swap(0); n > 0 {
		s.conn.give(n)
	}
}

func newCounted(pool mem.BufferPool, c *conn, n int64) *counted {
	out := &counted{BufferPool: pool, share: &share{conn: c}}
	out.share.n.Store(n)
	// gRPC drops some messages of reset streams without returning their buffers.
	out.cleanup = runtime.AddCleanup(out, (*share).give, out.share)
	return out
}

// Put implements mem.BufferPool.
func (c *counted) Put(buf *[]byte) {
	c.cleanup.Stop()
	c.share.give()
	c.BufferPool.Put(buf)
}

// countedSize returns the size of a response that has to be counted; 0 for others.
func (k *call) countedSize(resp any) (pb.Message, int64) {
	m, ok := resp.(pb.Message)
	if !ok || k.conn == nil {
		return nil, 0
	}
	size := pb.Size(m)
	if size < countedFrom {
		return nil, 0
	}
	return m, int64(size)
}

// encoded encodes a response for which room was taken, for gRPC.
func (k *call) encoded(m pb.Message, size int64) (*outgoing, error) {
	data, err := encode(m, int(size), k.conn)
	if err != nil {
		return nil, statusOf(codes.Internal, "encoding the response: %v", err)
	}
	k.out.data = data
	return &k.out, nil
}
