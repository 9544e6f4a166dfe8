package record

import (
	"context"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/storage"
)

// Store is the replica that keeps the registry's log.
type Store interface {
	Propose(ctx context.Context, c *command.Command) (command.Result, error)
	View(ctx context.Context, opts kv.ReadOptions) (replica.View, kv.ReadInfo, error)
}

// LogOf returns the Log that a replica keeps.
func LogOf(s Store) Log { return storeLog{s} }

type storeLog struct{ store Store }

// Read implements Log.
func (l storeLog) Read(ctx context.Context, key []byte) ([]byte, error) {
	view, _, err := l.store.View(ctx, kv.ReadOptions{Level: kv.Linearizable})
	if err != nil {
		return nil, err
	}
	defer view.Close()
	pairs, err := view.MultiGet([][]byte{key})
	if err != nil || len(pairs) == 0 {
		return nil, err
	}
	return pairs[0].Value, nil
}

// Swap implements Log.
func (l storeLog) Swap(ctx context.Context, key, former, value []byte) (bool, error) {
	res, err := l.store.Propose(ctx, &command.Command{Kind: command.CompareAndSet, Expect: former, Mutations: []kv.Mutation{{Key: key, Value: value}}})
	switch {
	case err != nil:
		return false, err
	case res.Code == command.NotUpdated:
		return false, nil
	case res.Code != command.OK:
		return false, kv.Errorf(kv.Unavailable, "the registry's log does not accept changes at the moment: %v; retry later", res.Code)
	default:
		return true, nil
	}
}

// Each implements Log.
func (l storeLog) Each(ctx context.Context, use func(key, value []byte)) error {
	view, _, err := l.store.View(ctx, kv.ReadOptions{Level: kv.Linearizable})
	if err != nil {
		return err
	}
	defer view.Close()
	it := view.Iterate(storage.Prefix([]byte(Prefix)))
	defer it.Close()
	for it.Next() {
		p := it.Pair()
		use(p.Key, p.Value)
	}
	return it.Err()
}
