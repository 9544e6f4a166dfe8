package attack

import (
	"bytes"
	"context"
	"math/rand/v2"
	"time"

	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit/rawgrpc"
)

// methods are some of each service.
var methods = []string{
	serverpb.DKV_Put_FullMethodName, serverpb.DKV_MultiPut_FullMethodName, serverpb.DKV_Get_FullMethodName,
	serverpb.DKV_MultiGet_FullMethodName, serverpb.DKV_Iterate_FullMethodName, serverpb.DKV_CompareAndSet_FullMethodName,
	serverpb.DKVReplication_GetChanges_FullMethodName, serverpb.DKVReplication_StreamSnapshot_FullMethodName,
	serverpb.DKVReplication_AddReplica_FullMethodName, serverpb.DKVBackupRestore_Restore_FullMethodName,
	serverpb.DKVCluster_AddNode_FullMethodName, serverpb.DKVDiscovery_UpdateStatus_FullMethodName,
	serverpb.DKVNode_GetContentHash_FullMethodName, peerpb.Members_Meet_FullMethodName, peerpb.Members_Time_FullMethodName,
	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
}

var messages = []Attack{
	{"malformed-messages", every, flood(malformed)},
	{"wrong-lengths", wire, flood(func(_ *Enemy, c *rawgrpc.Client) bool {
		s, ok := c.Begin(methods[rand.IntN(len(methods))])
		sizes := []int{0, 1, 100, 1 << 20, 1<<31 - 1, 1<<32 - 1}
		return ok && c.Data(s, append(grpcHead(byte(rand.IntN(3)), sizes[rand.IntN(len(sizes))]), junk(50)...), rand.IntN(2) == 0, 64)
	})},
	{"compressed-messages", wire, flood(func(_ *Enemy, c *rawgrpc.Client) bool {
		s, ok := c.Begin(serverpb.DKV_Put_FullMethodName, hpack.HeaderField{Name: "grpc-encoding", Value: "gzip"})
		return ok && c.Data(s, append(grpcHead(1, 20), junk(20)...), true, 64)
	})},
	{"many-empty-puts", data, expand(serverpb.DKV_MultiPut_FullMethodName, 1)},
	{"many-empty-keys", data, expand(serverpb.DKV_MultiGet_FullMethodName, 1)},
	{"many-empty-rows", []Kind{Registry}, expand(serverpb.DKVDiscovery_UpdateStatus_FullMethodName, 100)},
	{"many-empty-starts", []Kind{Masters}, expand(peerpb.Members_Meet_FullMethodName, 5)},
	{"unread-small-window", data, func(ctx context.Context, e *Enemy) { e.unread(ctx, 0, true) }},
	{"unread-socket", data, func(ctx context.Context, e *Enemy) { e.unread(ctx, 1<<30, false) }},
	{"stalled-puts", data, stall(serverpb.DKV_Put_FullMethodName, 4<<20)},
	{"stalled-multiputs", data, stall(serverpb.DKV_MultiPut_FullMethodName, 15<<20)},
	{"dripping-puts", wire, func(ctx context.Context, e *Enemy) {
		e.often(ctx, 8, func(ctx context.Context, _ int) bool {
			c := e.raw(ctx, 1<<16, true)
			if c == nil {
				return false
			}
			defer c.Close()
			var all []uint32
			for range 500 {
				s, _ := c.Announce(serverpb.DKV_Put_FullMethodName, 1<<20, make([]byte, 1<<10), 1<<10)
				all = append(all, s)
			}
			go e.drained(ctx, c)
			for ok := true; ok && ctx.Err() == nil; sleep(ctx, 100*time.Millisecond) {
				for _, s := range all {
					ok = ok && c.Data(s, []byte{0}, false, 1)
				}
			}
			return false
		})
	}},
}

// malformed sends bytes that are no message.
func malformed(_ *Enemy, c *rawgrpc.Client) bool {
	body := junk(rand.IntN(300))
	switch rand.IntN(4) {
	case 0: // groups within groups
		body = make([]byte, 10_000)
		for i := range body {
			body[i] = 0x0b
		}
	case 1: // lengths beyond the end
		body = protowire.AppendTag(nil, 1, protowire.BytesType)
		body = protowire.AppendVarint(body, 1<<63)
	case 2: // unknown fields
		for i := range 200 {
			body = protowire.AppendTag(body, protowire.Number(1000+i), protowire.BytesType)
			body = protowire.AppendBytes(body, junk(10))
		}
	}
	s, ok := c.Begin(methods[rand.IntN(len(methods))])
	return ok && c.Data(s, append(grpcHead(0, len(body)), body...), true, 16<<10)
}

// expand sends the largest messages that are let in, all of whose elements are empty:
// decoded, they take a hundred times what they do on the wire.
func expand(method string, field protowire.Number) func(context.Context, *Enemy) {
	return func(ctx context.Context, e *Enemy) {
		// Made here, since the nodes are the same program and would hold it as well.
		element := protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), nil)
		const size = 15 << 20
		body := bytes.Repeat(element, size/len(element))
		head := grpcHead(0, len(body))
		e.often(ctx, 12, func(ctx context.Context, _ int) bool {
			c := e.raw(ctx, 1<<16, true)
			if c == nil {
				return false
			}
			defer c.Close()
			s, ok := c.Begin(method)
			if !ok || !push(c, s, head, body, true) {
				return false
			}
			select {
			case end := <-c.Ends:
				e.count(end.Code.String(), 1)
			case <-c.Gone:
				e.count("connection closed", 1)
			case <-ctx.Done():
			}
			return true
		})
	}
}

// push sends a large message once the node has seen its length and lets all of it
// come.
func push(c *rawgrpc.Client, stream uint32, head, body []byte, end bool) bool {
	return c.Data(stream, head, false, len(head)) && c.AwaitWindow(stream) && c.Data(stream, body, end, 16<<10)
}

// Large is the key of a value of a megabyte that exists before an attack.
var Large = []byte("hostile/large")

// unread asks for large values and takes none of them.
func (e *Enemy) unread(ctx context.Context, window uint32, reads bool) {
	e.often(ctx, 16, func(ctx context.Context, _ int) bool {
		c := e.raw(ctx, window, reads)
		if c == nil {
			return false
		}
		defer c.Close()
		for range 300 {
			if s, ok := c.Call(serverpb.DKV_Get_FullMethodName, &serverpb.GetRequest{Key: Large}); !ok {
				break
			} else if !reads {
				c.Reset(s)
			}
		}
		if reads {
			e.drained(ctx, c)
		} else {
			sleep(ctx, 3*time.Second)
		}
		return false
	})
}

// stall announces large requests and withholds their last bytes.
func stall(method string, size int) func(context.Context, *Enemy) {
	return func(ctx context.Context, e *Enemy) {
		body := make([]byte, size-1)
		e.often(ctx, 32, func(ctx context.Context, _ int) bool {
			c := e.raw(ctx, 1<<16, true)
			if c == nil {
				return false
			}
			defer c.Close()
			go e.drained(ctx, c)
			for ctx.Err() == nil {
				s, ok := c.Begin(method)
				if !ok || !push(c, s, grpcHead(0, size), body, false) {
					return false
				}
			}
			return false
		})
	}
}
