package bench

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
)

// Bounds of one preloading request: keys, and bytes of keys and values, which
// stay below the batch limits of a server.
const (
	preloadKeys    = 256
	preloadBytes   = 1 << 20
	preloadWorkers = 16
)

// preload writes every key once, with the value that ofKey returns.
func preload(ctx context.Context, w *workload, target Target) error {
	cfg := w.cfg
	step := uint64(max(1, min(preloadKeys, preloadBytes/(cfg.KeySize+cfg.ValueSize+1))))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(preloadWorkers)
	for i, first := 0, uint64(0); first < cfg.Keys && groupCtx.Err() == nil; i, first = i+1, first+step {
		conn := target.Conns[i%len(target.Conns)]
		group.Go(func() error { return preloadRange(groupCtx, w, conn, first, min(first+step, cfg.Keys)) })
	}
	if err := group.Wait(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("cannot preload %s: %w", target.Name, readable(err))
	}
	return ctx.Err()
}

func preloadRange(ctx context.Context, w *workload, conn grpc.ClientConnInterface, first, end uint64) error {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
	defer cancel()
	req := &serverpb.MultiPutRequest{PutRequest: make([]*serverpb.PutRequest, 0, end-first), MaySplit: true}
	for n := first; n < end; n++ {
		key := make([]byte, w.cfg.KeySize)
		writeKey(key, w.prefix, n)
		req.PutRequest = append(req.PutRequest, &serverpb.PutRequest{Key: key, Value: w.values.ofKey(n)})
	}
	res, err := serverpb.NewDKVClient(conn).MultiPut(ctx, req)
	if err != nil {
		return err
	}
	return failed(res.GetStatus())
}
