package attack

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit/rawgrpc"
)

// Without authentication any client that is let in may pass for a node that forwards calls.
var forwarded = []Attack{
	{"forwarded-unread", wire, forwards(0, 64, func(n uint64) []byte {
		return calls(n, 4096, func(id uint64) *peerpb.ForwardedCall { return get(id, "honest/000000", 0) })
	})},
	{"forwarded-same-ids", wire, forwards(1<<30, 1, func(n uint64) []byte {
		return calls(n, 2000, func(uint64) *peerpb.ForwardedCall { return get(7, "honest/000000", 0) })
	})},
	{"forwarded-origins", wire, forwards(1<<30, 16, func(n uint64) []byte {
		c := get(n, "honest/000000", 0)
		c.Origin = &peerpb.ForwardedOrigin{VBuckets: []string{fmt.Sprint(n), junkText(200 << 10)}}
		return calls(n, 1, func(uint64) *peerpb.ForwardedCall { return c })
	})},
	{"forwarded-padded", wire, forwards(1<<30, 16, func(n uint64) []byte {
		// A small call that waits, in a message of a size that honest ones have.
		padding := protowire.AppendBytes(protowire.AppendTag(nil, 100, protowire.BytesType), make([]byte, 240<<10))
		return append(calls(n, 1, func(id uint64) *peerpb.ForwardedCall { return get(id, "k", 1<<40) }), padding...)
	})},
	{"forwarded-halves", wire, func(ctx context.Context, e *Enemy) {
		body := make([]byte, 15<<20)
		e.often(ctx, 16, func(ctx context.Context, _ int) bool {
			c := e.raw(ctx, 1<<30, true)
			if c == nil {
				return false
			}
			defer c.Close()
			go e.drained(ctx, c)
			for ctx.Err() == nil {
				s, ok := c.Begin(peerpb.Forwarding_Forward_FullMethodName)
				if !ok || !push(c, s, grpcHead(0, len(body)+1), body, false) {
					return false
				}
				e.count("half a message", 1)
			}
			return false
		})
	}},
}

// forwards opens streams of forwarded calls, some on each of a few connections, and sends messages on
// each in turn. window is how much of the answers the node may send.
func forwards(window uint32, streams int, message func(n uint64) []byte) func(context.Context, *Enemy) {
	return func(ctx context.Context, e *Enemy) {
		e.often(ctx, 16, func(ctx context.Context, _ int) bool {
			c := e.raw(ctx, window, true)
			if c == nil {
				return false
			}
			defer c.Close()
			go e.drained(ctx, c)
			var open []uint32
			for n := uint64(1); ctx.Err() == nil; n++ {
				if len(open) < streams {
					s, ok := c.Begin(peerpb.Forwarding_Forward_FullMethodName)
					if !ok {
						return false
					}
					open = append(open, s)
				}
				body := message(n)
				s := open[int(n)%len(open)]
				if !c.Data(s, append(grpcHead(0, len(body)), body...), false, 16<<10) || !e.act(ctx) {
					return false
				}
				e.count("messages", 1)
				if n%uint64(streams) == 0 {
					c.AwaitWindow(s)
				}
			}
			return false
		})
	}
}

// calls is a message of n forwarded calls, whose ids follow from that of the message.
func calls(message uint64, n int, each func(id uint64) *peerpb.ForwardedCall) []byte {
	var out peerpb.ForwardedCalls
	for i := range n {
		out.Calls = append(out.Calls, each(message*4096+uint64(i)))
	}
	return encode(&out)
}

// get is a forwarded read, which waits for an index.
func get(id uint64, key string, index uint64) *peerpb.ForwardedCall {
	return &peerpb.ForwardedCall{
		Id: id, Method: serverpb.DKV_Get_FullMethodName, TimeoutMicros: 60_000_000,
		Request: encode(&serverpb.GetRequest{Key: []byte(key), MinIndex: index, ReadConsistency: serverpb.ReadConsistency_SEQUENTIAL}),
	}
}

func encode(m proto.Message) []byte { return rawgrpc.Message(m)[5:] }
