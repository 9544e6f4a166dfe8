package discovery

import (
	"context"
	"sync"

	"github.com/dkvdb/dkv/internal/kv"
)

// lastKnown is the rows as this node's copy of the store has them, read again only
// when that has moved on: while nobody owns the registry, many ask.
type lastKnown struct {
	mu    sync.Mutex
	index kv.Index
	table *table
}

func (k *lastKnown) rows(ctx context.Context, store Store, t times, l Limits) (*table, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	index := store.Status().Applied
	if k.table != nil && k.index == index {
		return k.table, nil
	}
	out := newTable(t, l)
	// Damaged rows are the owner's to tell of.
	if err := loadRows(ctx, store, kv.Sequential, out, func(error) {}); err != nil {
		return nil, err
	}
	k.index, k.table = index, out
	return out, nil
}
