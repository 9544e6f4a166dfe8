package app

import (
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"
)

// opensAtOnce is how many vBuckets are opened, or closed, at a time. Each mostly waits
// for its fsyncs, which a file system does together for many.
const opensAtOnce = 32

// openEach opens every vBucket of a node, several at a time, in the order of their
// names. They are closed with the node, those of an open that fails among them. A ctx
// that ends is an error: a node that is told to stop need not open the rest first.
func openEach[T io.Closer](ctx context.Context, n *node, open func(i int, name string) (T, error)) ([]T, error) {
	names := vBucketNames(n.cfg)
	opened := make([]T, len(names))
	there := make([]bool, len(names))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(opensAtOnce)
	for i, name := range names {
		g.Go(func() error {
			err := context.Cause(ctx)
			if err == nil {
				opened[i], err = open(i, name)
				there[i] = err == nil
			}
			return err
		})
	}
	err := g.Wait() // the first error, not that of those which did not begin for it
	var closers []io.Closer
	for i := range opened {
		if there[i] {
			closers = append(closers, opened[i])
		}
	}
	n.onClose(func() error { return closeAll(closers) })
	if err != nil {
		return nil, fmt.Errorf("open storage: %w%s", err, advice(err))
	}
	return opened, nil
}

// closeAll closes all, several at a time.
func closeAll(all []io.Closer) error {
	errs := make([]error, len(all))
	var g errgroup.Group
	g.SetLimit(opensAtOnce)
	for i, c := range all {
		g.Go(func() error {
			errs[i] = c.Close()
			return nil
		})
	}
	_ = g.Wait() // its functions return no errors
	return errors.Join(errs...)
}
