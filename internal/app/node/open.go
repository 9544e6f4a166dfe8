package node

import (
	"context"
	"errors"
	"io"

	"golang.org/x/sync/errgroup"
)

// opensAtOnce is how many vBuckets are opened, or closed, at a time. Each mostly waits
// for its fsyncs, which a file system does together for many.
const opensAtOnce = 32

// OpenEach opens every vBucket of a node, several at a time, and returns them in hash
// order. The node closes them, after an error those that did open. If ctx ends, that is
// an error: a node that is told to stop need not open the rest first.
func OpenEach[T io.Closer](ctx context.Context, n *Node, open func(i int, name string) (T, error)) ([]T, error) {
	names := n.Layout.VBuckets
	all := make([]T, len(names))
	opened := make([]bool, len(names))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(opensAtOnce)
	for i, name := range names {
		g.Go(func() error {
			err := context.Cause(ctx)
			if err == nil {
				all[i], err = open(i, name)
				opened[i] = err == nil
			}
			return err
		})
	}
	err := g.Wait() // the first error, not that of those which did not begin because of it
	var closers []io.Closer
	for i := range all {
		if opened[i] {
			closers = append(closers, all[i])
		}
	}
	n.OnClose(func() error { return closeAll(closers) })
	if err != nil {
		return nil, OpenError(err)
	}
	return all, nil
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
