package attack

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit/rawgrpc"
)

// logs are nodes to which slaves confirm.
var logs = []Kind{RocksDB, Badger, Masters}

// confirms are attacks by slaves that are none, or that lie.
var confirms = []Attack{
	{"false-confirmations", logs, func(ctx context.Context, e *Enemy) {
		standby := peerpb.NewStandbyClient(e.client(ctx))
		e.calls(ctx, 64, func(ctx context.Context, kv serverpb.DKVClient) error {
			put, err := kv.Put(ctx, &serverpb.PutRequest{Key: []byte("hostile/confirmed")})
			if err != nil {
				return err
			}
			histories := []string{put.GetHistory(), put.GetHistory(), put.GetHistory(), "x", "", junkText(128), junkText(129), "\x00"}
			stream, err := standby.Confirm(ctx)
			if err != nil {
				return err
			}
			c := confirmation(rand.IntN(100), []string{"default", "default", "default", "0", "99999", "", "\x00"}[rand.IntN(7)])
			for range 1000 {
				c.History = histories[rand.IntN(len(histories))]
				ends := []uint64{0, 1, 1000, rand.Uint64N(100_000), 1 << 48, math.MaxUint64 - 1, math.MaxUint64}
				c.Received, c.Applied, c.Synced = ends[rand.IntN(len(ends))], ends[rand.IntN(len(ends))], ends[rand.IntN(len(ends))]
				if err := stream.Send(c); err == io.EOF {
					_, err = stream.Recv()
					return err
				}
			}
			return stream.CloseSend()
		})
	}},
	{"many-disks", logs, stalledConfirms(func(n int) *peerpb.Confirmation { return confirmation(n, "default") })},
	{"one-disk", logs, stalledConfirms(func(int) *peerpb.Confirmation { return confirmation(0, "default") })},
}

// confirmation is one of a disk.
func confirmation(disk int, vBucket string) *peerpb.Confirmation {
	return &peerpb.Confirmation{
		Disk: fmt.Sprintf("hostile-%d", disk), Start: 1 + rand.Uint64N(3), Address: fmt.Sprintf("127.66.6.6:%d", 1+disk), Dc: "x", Durable: true,
		VBucket: vBucket,
	}
}

// stalledConfirms opens as many streams of confirmations as there is room for, on a few connections, and
// takes nothing of what the node wants.
func stalledConfirms(of func(n int) *peerpb.Confirmation) func(context.Context, *Enemy) {
	return func(ctx context.Context, e *Enemy) {
		e.often(ctx, 8, func(ctx context.Context, worker int) bool {
			c := e.raw(ctx, 0, true)
			if c == nil {
				return false
			}
			defer c.Close()
			for n := range 900 {
				s, ok := c.Begin(peerpb.Standby_Confirm_FullMethodName)
				if !ok || !c.Data(s, rawgrpc.Message(of(worker*1000+n)), false, 16<<10) || !e.act(ctx) {
					break
				}
			}
			e.drained(ctx, c)
			return false
		})
	}
}
