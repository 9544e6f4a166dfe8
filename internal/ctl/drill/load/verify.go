package load

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/dkvdb/dkv/clients/go/dkv"
	"github.com/dkvdb/dkv/internal/ctl/drill/history"
)

// atOnce is how many keys are read back or removed at a time.
const atOnce = 32

// Acknowledged returns, for each key, the newest version whose write was acknowledged.
func (l *Load) Acknowledged() map[string]uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	newest := make(map[string]uint64)
	for _, o := range l.ops {
		if o.Kind == history.Put && o.OK() {
			newest[o.Key] = max(newest[o.Key], o.Version)
		}
	}
	return newest
}

// ReadBack reads all keys of acknowledged writes, and returns those that are lost: absent, or
// older than what was acknowledged. done counts the keys that were read.
func (l *Load) ReadBack(ctx context.Context, done *atomic.Uint64) (lost []string, err error) {
	newest := l.Acknowledged()
	found := make(chan string, len(newest))
	err = l.each(ctx, slices.Sorted(maps.Keys(newest)), done, func(ctx context.Context, key string) error {
		version, err := get(ctx, l.masters, key, dkv.Linearizable)
		if err != nil {
			return fmt.Errorf("the keys of the drill cannot be read back: %w", err)
		}
		if version < newest[key] {
			found <- key + " has version " + strconv.FormatUint(version, 10) + ", and " + strconv.FormatUint(newest[key], 10) + " was acknowledged"
		}
		return nil
	})
	close(found)
	for text := range found {
		lost = append(lost, text)
	}
	slices.Sort(lost)
	return lost, err
}

// Keys returns all keys that may exist.
func (l *Load) Keys() []string {
	newest := l.Acknowledged()
	l.mu.Lock()
	defer l.mu.Unlock()
	keys := append(slices.Collect(maps.Keys(newest)), l.doubtful...)
	slices.Sort(keys)
	return slices.Compact(keys)
}

// Remove removes all keys. What it cannot remove expires.
func (l *Load) Remove(ctx context.Context, done *atomic.Uint64) error {
	return l.each(ctx, l.Keys(), done, func(ctx context.Context, key string) error {
		if _, err := l.masters.Delete(ctx, []byte(key)); err != nil {
			return fmt.Errorf("the keys of the drill below %s cannot be removed, and expire in %s: %w", l.Prefix, expiry, err)
		}
		return nil
	})
}

// each calls f for all keys, several at a time, until one fails.
func (l *Load) each(ctx context.Context, keys []string, done *atomic.Uint64, f func(ctx context.Context, key string) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for _, key := range keys {
		g.Go(func() error {
			defer done.Add(1)
			return f(ctx, key)
		})
	}
	return g.Wait()
}
