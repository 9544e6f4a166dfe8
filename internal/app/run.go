package app

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dkvdb/dkv/api/serverpb"
)

// run serves until ctx ends, then stops from the outside in: gRPC drains while
// everything below it still works, then the replicas stop, then HTTP, which answers
// questions about the others until the end. reload runs beside it.
func (a *app) run(ctx context.Context, reload func(context.Context) error) error {
	// below outlives ctx, so that requests that are being drained still find a replica.
	below, stopBelow := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBelow()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return reload(gctx) })
	g.Go(func() error { return a.http.Run(below) })
	if guard := a.node.Guard; guard != nil {
		g.Go(func() error { guard.Run(below); return nil })
	}
	g.Go(func() error {
		defer stopBelow()
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
	g.Go(func() error { a.announceChanges(gctx); return nil })
	g.Go(func() error { a.present(gctx); return nil })
	return g.Wait()
}

// present has clients sent here as soon as all replicas serve, and keeps what gRPC's
// health checks are told up to date from then on, until ctx ends.
func (a *app) present(ctx context.Context) {
	for _, v := range a.role.VBuckets() {
		select {
		case <-v.Served():
		case <-ctx.Done():
			return
		}
	}
	if !a.awaitReadable(ctx) {
		return
	}
	a.accept()
	a.node.Log.Info("serving", "grpc", a.node.Info.Address, "http", a.node.Info.HTTPAddress)
	a.warnOfExposure()
	t := time.NewTicker(healthInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			a.accept()
		}
	}
}

// accept has clients sent here if they should be.
func (a *app) accept() {
	r := a.readiness()
	a.grpc.SetServing(r.ShouldAccept())
}

const healthInterval = 100 * time.Millisecond

// awaitReadable waits until there is something to read, which on a new slave takes
// as long as its first snapshot; false means that ctx has ended.
func (a *app) awaitReadable(ctx context.Context) bool {
	t := time.NewTicker(healthInterval)
	defer t.Stop()
	for {
		if r := a.readiness(); r.Readable() {
			return true
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return false
		}
	}
}

// announceChanges has a change of this node's part announced without waiting for the next
// heartbeat, until ctx ends.
func (a *app) announceChanges(ctx context.Context) {
	t := time.NewTicker(healthInterval)
	defer t.Stop()
	var announced []serverpb.RegionStatus
	for {
		r := a.readiness()
		if now := r.Parts(); !slices.Equal(now, announced) {
			announced = now
			a.rows.Announce()
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}
