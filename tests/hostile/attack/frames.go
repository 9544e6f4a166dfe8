package attack

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit/rawgrpc"
)

var frames = []Attack{
	{"rapid-reset", wire, flood(func(e *Enemy, c *rawgrpc.Client) bool {
		s, ok := c.Call(serverpb.DKV_Get_FullMethodName, &serverpb.GetRequest{Key: []byte("k"), ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
		return ok && c.Reset(s)
	})},
	{"ping-flood", wire, flood(func(_ *Enemy, c *rawgrpc.Client) bool {
		return c.Write(func(w *http2.Framer) error { return w.WritePing(false, [8]byte{1}) })
	})},
	{"settings-flood", wire, flood(func(_ *Enemy, c *rawgrpc.Client) bool {
		return c.Write(func(w *http2.Framer) error {
			return w.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: rand.Uint32N(1 << 16)})
		})
	})},
	{"window-update-flood", wire, flood(func(_ *Enemy, c *rawgrpc.Client) bool {
		return c.Write(func(w *http2.Framer) error { return w.WriteWindowUpdate(0, 1) })
	})},
	{"continuation-flood", wire, flood(continuations)},
	{"header-bomb", wire, flood(headerBomb)},
	{"empty-data-flood", wire, flood(func(_ *Enemy, c *rawgrpc.Client) bool {
		s, ok := c.Begin(serverpb.DKV_Get_FullMethodName)
		for i := 0; ok && i < 10_000; i++ {
			ok = c.Write(func(w *http2.Framer) error { return w.WriteData(s, false, nil) })
		}
		return ok
	})},
	{"padded-data-flood", wire, flood(func(_ *Enemy, c *rawgrpc.Client) bool {
		s, ok := c.Begin(serverpb.DKV_Get_FullMethodName)
		for i := 0; ok && i < 1000; i++ {
			ok = c.Write(func(w *http2.Framer) error { return w.WriteDataPadded(s, false, nil, make([]byte, 255)) })
		}
		return ok
	})},
	{"header-only-calls", every, flood(func(_ *Enemy, c *rawgrpc.Client) bool {
		_, ok := c.Begin(serverpb.DKV_Get_FullMethodName)
		return ok
	})},
	{"unknown-methods", wire, flood(func(_ *Enemy, c *rawgrpc.Client) bool {
		_, ok := c.Call("/"+junkText(2000)+"/x", &serverpb.GetRequest{})
		return ok
	})},
	{"large-metadata", wire, flood(func(_ *Enemy, c *rawgrpc.Client) bool {
		_, ok := c.Begin(serverpb.DKV_Get_FullMethodName, hpack.HeaderField{Name: "x-large", Value: strings.Repeat("y", 70<<10), Sensitive: true})
		return ok
	})},
	{"waiting-metadata", wire, func(ctx context.Context, e *Enemy) {
		e.often(ctx, 32, func(ctx context.Context, _ int) bool {
			c := e.raw(ctx, 1<<16, true)
			if c == nil {
				return false
			}
			defer c.Close()
			for ok := true; ok && ctx.Err() == nil; {
				for range 1000 {
					if _, ok = c.Begin(serverpb.DKV_Get_FullMethodName, hpack.HeaderField{Name: "x-large", Value: strings.Repeat("y", 70<<10), Sensitive: true}); !ok {
						break
					}
				}
				e.count("rounds", 1)
				sleep(ctx, time.Second)
			}
			return false
		})
	}},
	{"odd-timeouts", wire, flood(func(_ *Enemy, c *rawgrpc.Client) bool {
		odd := []string{"1n", "99999999H", "0n", "-1S", "1", "", "xS", "00000000000000001S"}
		s, ok := c.Begin(serverpb.DKV_Get_FullMethodName, hpack.HeaderField{Name: "grpc-timeout", Value: odd[rand.IntN(len(odd))]})
		return ok && c.Data(s, rawgrpc.Message(&serverpb.GetRequest{Key: []byte("k")}), true, 100)
	})},
	{"forged-frames", wire, flood(func(e *Enemy, c *rawgrpc.Client) bool {
		return c.Write(func(w *http2.Framer) error {
			kind := http2.FrameType(rand.IntN(12))
			return w.WriteRawFrame(kind, http2.Flags(rand.Uint32()), rand.Uint32N(8), junk(rand.IntN(200)))
		})
	})},
}

// flood does the same again and again on a few connections, each of which is opened
// again if the node closes it.
func flood(f func(*Enemy, *rawgrpc.Client) bool) func(context.Context, *Enemy) {
	return func(ctx context.Context, e *Enemy) {
		e.often(ctx, 4, func(ctx context.Context, _ int) bool {
			c := e.raw(ctx, 1<<16, true)
			if c == nil {
				return false
			}
			defer c.Close()
			counting, stop := context.WithCancel(ctx)
			defer stop()
			go e.drained(counting, c)
			for e.act(ctx) && f(e, c) {
				e.count("sent", 1)
			}
			return false
		})
	}
}

// continuations are headers that do not end.
func continuations(_ *Enemy, c *rawgrpc.Client) bool {
	return c.Write(func(w *http2.Framer) error {
		if err := w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}}); err != nil {
			return err
		}
		var block [4 << 10]byte
		for i := 0; i < len(block); i += 4 {
			copy(block[i:], "\x00\x01x\x00") // x, with an empty value
		}
		for {
			if err := w.WriteContinuation(1, false, block[:]); err != nil {
				return err
			}
		}
	})
}

// headerBomb puts a large header into the compression table, and then repeats it with one
// byte each.
func headerBomb(_ *Enemy, c *rawgrpc.Client) bool {
	more := []hpack.HeaderField{{Name: "x", Value: junkText(3900)}}
	for range 4000 {
		more = append(more, more[0])
	}
	_, ok := c.Begin(serverpb.DKV_Get_FullMethodName, more...)
	return ok
}

// grpcHead returns the prefix that gRPC has before a message.
func grpcHead(compressed byte, size int) []byte {
	head := make([]byte, 5)
	head[0] = compressed
	binary.BigEndian.PutUint32(head[1:], uint32(size))
	return head
}
