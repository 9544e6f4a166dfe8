package app

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/app/node"
	"github.com/dkvdb/dkv/internal/statsd"
)

// run serves until ctx ends, then stops from the outside in: gRPC drains while
// everything below it still works, then the replicas stop, then HTTP, which answers
// questions about the others until the end. reload runs beside it.
func (a *app) run(ctx context.Context, reload func(context.Context) error) error {
	// below outlives ctx, so that requests that are being drained still find a replica.
	below, cancelBelow := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancelBelow(nil)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return reload(gctx) })
	g.Go(func() error { return a.http.Run(below) })
	if addr := a.node.Config.Ops.StatsdAddr; addr != "" {
		metrics := statsd.New(statsd.Options{Addr: addr, Gatherer: a.metrics, Log: a.node.Log})
		g.Go(func() error { metrics.Run(below); return nil })
	}
	for _, run := range a.node.Beside() {
		g.Go(func() error { return run(below) })
	}
	if guard := a.node.Guard; guard != nil {
		g.Go(func() error { guard.Run(below, a.node.LogRoom(guard)); return nil })
	}
	g.Go(func() (err error) {
		defer func() { cancelBelow(err) }()
		if !a.opened.Load() {
			if err := a.open(gctx); err != nil {
				if ctx.Err() != nil {
					return nil // it was told to stop before there was anything to stop
				}
				return err
			}
			a.onOpened()
		}
		return a.serve(gctx, below)
	})
	return g.Wait()
}

// serve runs what open has made, until ctx ends.
func (a *app) serve(ctx, below context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	replicas, stopReplicas := context.WithCancel(below)
	defer stopReplicas()
	g.Go(func() error {
		defer stopReplicas()
		return a.grpc.Run(gctx)
	})
	cluster := a.role.Cluster()
	if err := cluster.Confirm(gctx); err != nil { // gRPC runs, so that the others can ask as well
		g.Go(func() error { return err })
		return g.Wait()
	}
	g.Go(func() error { return cluster.Run(gctx) })
	for _, v := range a.role.VBuckets() {
		g.Go(func() error { return v.Run(replicas) })
	}
	g.Go(func() error { return a.role.Run(gctx, replicas, a.services) })
	g.Go(func() error { return a.rows.Run(gctx) })
	g.Go(func() error { return a.succession.Run(gctx) })
	g.Go(func() error { a.present(gctx); return nil })
	return g.Wait()
}

// present shows the node's condition to those that do not ask for it, until ctx ends. As
// soon as all replicas serve, clients are sent here; from then on gRPC's health checks are
// kept up to date, and the registry hears at once of a change of this node's part.
func (a *app) present(ctx context.Context) {
	for _, v := range a.role.VBuckets() {
		select {
		case <-v.Served():
		case <-ctx.Done():
			return
		}
	}
	a.onStarted()
	serving := false
	var announced []serverpb.RegionStatus
	a.node.Watch(ctx, func() time.Duration {
		r := a.readiness()
		if !serving && !r.Readable() {
			return node.LookInterval // a new slave has nothing to read before its first snapshot
		}
		a.grpc.SetServing(r.ShouldAccept())
		if !serving {
			serving = true
			a.node.Log.Info("serving", "grpc", a.node.Info.Address, "http", a.node.Info.HTTPAddress)
			a.logExposure()
		}
		r.Accepts = a.grpc.Serving()
		if parts := r.Parts(); !slices.Equal(parts, announced) {
			announced = parts
			a.rows.Announce()
		}
		return node.LookInterval
	})
}
