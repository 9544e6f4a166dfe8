package discovery

import (
	"context"
	"sync"

	"github.com/dkvdb/dkv/internal/kv"
)

// lastKnown is the rows in this node's copy of the store. They are read again only when
// the copy has changed: while no node owns the registry, many clients ask.
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
	// The owner logs damaged rows.
	if err := loadRows(ctx, store, kv.Sequential, out, func(error) {}); err != nil {
		return nil, err
	}
	k.index, k.table = index, out
	return out, nil
}
