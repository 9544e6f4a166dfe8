package auth

import "context"

// ContextKey is the key under which a context carries the identity of its call. A server
// whose calls are contexts answers it without a context of its own.
type ContextKey struct{}

// FromContext returns the identity on whose behalf something is done; nil is this node
// itself, or any caller of a node that distinguishes none.
func FromContext(ctx context.Context) *Identity {
	id, _ := ctx.Value(ContextKey{}).(*Identity)
	return id
}

// NewContext returns a context with an identity.
func NewContext(ctx context.Context, id *Identity) context.Context {
	if id == nil {
		return ctx
	}
	return context.WithValue(ctx, ContextKey{}, id)
}
