package accesslog

import "context"

type contextKey struct{}

// NewContext returns a context whose calls to other servers of this process are part of the
// request that has a line: they add what they know to it, and have no line of their own.
func NewContext(ctx context.Context, n *Line) context.Context {
	return context.WithValue(ctx, contextKey{}, n)
}

// FromContext returns the line of the request that a context belongs to; nil if there is none.
func FromContext(ctx context.Context) *Line {
	n, _ := ctx.Value(contextKey{}).(*Line)
	return n
}
