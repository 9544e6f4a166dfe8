package state

import (
	"context"
	"time"

	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
)

// Read calls f with a state that is as new as the options ask for, and returns how new it
// is. It calls f again if an attempt came too late.
type Read = func(ctx context.Context, opts kv.ReadOptions, f func(*fsm.Machine) error) (kv.ReadInfo, error)

// Shared is the part of a replica that is the same whatever keeps its log: the requests
// that its state alone answers. The replica decides when the state is new enough to be
// read.
type Shared struct {
	state *Store
	when  Read
}

// Shared returns the part of a replica that answers from the state, when that may be read.
func (c *Store) Shared(when Read) Shared { return Shared{state: c, when: when} }

// Sealed returns the promotion that has sealed the log; "" for none.
func (s Shared) Sealed() string { return s.state.Machine().Sealed() }

// SealedAt is Sealed with the index of the seal.
func (s Shared) SealedAt() (promotion string, at kv.Index) { return s.state.Machine().SealedAt() }

// LastDigest is the digest of the newest change; see fsm.Machine.LastDigest. It does not wait
// behind other reads: a promotion asks for those of all vBuckets.
func (s Shared) LastDigest() (uint64, error) { return s.state.Machine().LastDigest() }

// Get implements Replica.
func (s Shared) Get(ctx context.Context, key []byte, opts kv.ReadOptions) (pair kv.Pair, found bool, info kv.ReadInfo, err error) {
	var at kv.Index
	info, err = s.when(ctx, opts, func(m *fsm.Machine) (err error) {
		pair, found, at, err = s.state.get(m, key, opts.Level)
		return err
	})
	if err == nil {
		info.Index = at
	}
	return pair, found, info, err
}

// MultiGet implements Replica.
func (s Shared) MultiGet(ctx context.Context, keys [][]byte, opts kv.ReadOptions) (pairs []kv.Pair, info kv.ReadInfo, err error) {
	var at kv.Index
	info, err = s.when(ctx, opts, func(m *fsm.Machine) (err error) {
		pairs, at, err = s.state.multiGet(m, keys, opts.Level)
		return err
	})
	if err == nil {
		info.Index = at
	}
	return pairs, info, err
}

// View implements Replica.
func (s Shared) View(ctx context.Context, opts kv.ReadOptions) (replica.View, kv.ReadInfo, error) {
	var v pinned
	info, err := s.when(ctx, opts, func(m *fsm.Machine) (err error) {
		if v.View != nil {
			v.Close() // of an attempt that came too late
		}
		v, err = s.state.pin(m, opts.Level)
		return err
	})
	if err != nil {
		if v.View != nil {
			v.Close()
		}
		return nil, kv.ReadInfo{}, err
	}
	info.Index = v.Index()
	return v, info, nil
}

// Changes implements Replica.
func (s Shared) Changes(ctx context.Context, from kv.Index, limit, maxBytes int) (fsm.Changes, error) {
	return s.state.Changes(ctx, from, limit, maxBytes)
}

// AwaitApplied implements Replica.
func (s Shared) AwaitApplied(ctx context.Context, index kv.Index) error {
	return s.state.AwaitApplied(ctx, index)
}

// Slaves implements Replica.
func (s Shared) Slaves(ctx context.Context) ([]fsm.ListedSlave, error) { return s.state.Slaves(ctx) }

// Cluster implements Replica.
func (s Shared) Cluster() string { return s.state.Cluster() }

// Backup implements Replica.
func (s Shared) Backup(ctx context.Context, dir string) error { return s.state.Backup(ctx, dir) }

// Now implements Replica.
func (s Shared) Now() time.Time { return s.state.Now() }

// Applied is that of Status, and cheap enough for every request.
func (s Shared) Applied() kv.Index { return s.state.Applied() }

// State is that of Status. It costs one atomic load.
func (s Shared) State() replica.State { return s.state.State() }

// Served is closed once Run serves.
func (s Shared) Served() <-chan struct{} { return s.state.Served() }

// Readable reports whether reads are served. Unlike Status it costs next to nothing.
func (s Shared) Readable() bool { return s.state.Readable() }

// WhenHeldUp has f called, now and then, while reads keep the replica from reopening its
// storage, and so from writing. f ends long reads that can begin again; it does not wait
// for their end.
func (s Shared) WhenHeldUp(f func()) { s.state.WhenHeldUp(f) }
