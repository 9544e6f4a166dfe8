package replica

import (
	"context"
	"time"

	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
)

// read calls f with a state that is as fresh as opts ask for.
func (r *Raft) read(ctx context.Context, opts kv.ReadOptions, f func(*fsm.Machine) error) (kv.ReadInfo, error) {
	if st := r.State(); st == Removed {
		return kv.ReadInfo{}, errRemoved
	}
	opts.MinIndex = max(opts.MinIndex, r.floor.Load())
	if opts.Level == kv.Linearizable {
		if err := r.refusal(); err != nil && r.State() == Failed {
			return kv.ReadInfo{}, err
		}
		return r.settled(ctx, func() (kv.ReadInfo, error) { return r.readNewest(ctx, opts, f) })
	}
	if err := r.awaitIndex(ctx, opts.MinIndex); err != nil {
		return kv.ReadInfo{}, err
	}
	age, err := r.fresh(ctx, opts.MaxAge)
	if err != nil {
		return kv.ReadInfo{}, err
	}
	info, err := r.with(ctx, f)
	info.Age = age
	return info, err
}

// readNewest reads what every acknowledged write is in. Under the lease that is
// the local state; without one a majority is asked first. Either is looked at
// again behind the read, because the process may have stood still in between.
func (r *Raft) readNewest(ctx context.Context, opts kv.ReadOptions, f func(*fsm.Machine) error) (kv.ReadInfo, error) {
	if held, ok := r.keeper.Take(); ok && opts.MinIndex <= r.machine.Load().Applied() {
		info, err := r.with(ctx, f)
		if err != nil || held.Valid() {
			return info, err
		}
	}
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	for {
		held, err := r.keeper.Confirm(ctx)
		if err != nil {
			return kv.ReadInfo{}, ownership(err)
		}
		if err := r.awaitIndex(ctx, opts.MinIndex); err != nil {
			return kv.ReadInfo{}, err
		}
		info, err := r.with(ctx, f)
		if err != nil || held.Valid() {
			return info, err
		}
	}
}

// fresh returns the age of the local state. Where it is above the greatest that
// is wanted (0: any will do), a majority is asked where the log ends, and the
// state awaited.
func (r *Raft) fresh(ctx context.Context, wanted time.Duration) (time.Duration, error) {
	now := r.clock.Now()
	if age := r.Age(); wanted == 0 || age != neverFresh && age <= wanted {
		return age, nil
	}
	place := kv.PlaceOf(ctx)
	if err := place.Park(); err != nil {
		return 0, err
	}
	defer place.Unpark()
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	if err := (raftGroup{r}).ReadIndex(ctx); err != nil {
		return 0, kv.Errorf(kv.Precondition, "the state here is older than %v, and cannot be brought up to date: %w", wanted, err)
	}
	r.confirmed(now)
	return r.clock.Now() - now, nil
}

// neverFresh is the age of a state that has not met the others since the start.
const neverFresh = 24 * time.Hour

// confirmed notes that the state was the newest at a time.
func (r *Raft) confirmed(at time.Duration) {
	for {
		last := r.newest.Load()
		if int64(at) <= last || r.newest.CompareAndSwap(last, int64(at)) {
			return
		}
	}
}

const freshInterval = time.Second

// freshLoop keeps the age of the state small, so that a reader who minds it does
// not have to wait. The owner asks as well, unless its lease says the same: the age
// of its state is what slaves count theirs from.
func (r *Raft) freshLoop(ctx context.Context) {
	every(ctx, max(r.raft.FreshEvery, freshInterval), func() bool {
		begun := r.clock.Now()
		if r.Owner().Self {
			r.heard.Store(int64(begun))
			if r.keeper.Held() {
				return false
			}
		}
		attempt, cancel := context.WithTimeout(ctx, freshInterval)
		defer cancel()
		if (raftGroup{r}).ReadIndex(attempt) == nil {
			r.confirmed(begun)
			r.heard.Store(int64(r.clock.Now()))
		}
		return false
	})
}

// Get implements Replica.
func (r *Raft) Get(ctx context.Context, key []byte, opts kv.ReadOptions) (pair kv.Pair, found bool, info kv.ReadInfo, err error) {
	var at kv.Index
	info, err = r.read(ctx, opts, func(m *fsm.Machine) (err error) {
		pair, found, at, err = r.get(m, key, opts.Level)
		return err
	})
	if err == nil {
		info.Index = at
	}
	return pair, found, info, err
}

// MultiGet implements Replica.
func (r *Raft) MultiGet(ctx context.Context, keys [][]byte, opts kv.ReadOptions) (pairs []kv.Pair, info kv.ReadInfo, err error) {
	var at kv.Index
	info, err = r.read(ctx, opts, func(m *fsm.Machine) (err error) {
		pairs, at, err = r.multiGet(m, keys, opts.Level)
		return err
	})
	if err == nil {
		info.Index = at
	}
	return pairs, info, err
}

// View implements Replica.
func (r *Raft) View(ctx context.Context, opts kv.ReadOptions) (View, kv.ReadInfo, error) {
	var v pinned
	info, err := r.read(ctx, opts, func(m *fsm.Machine) (err error) {
		if v.View != nil {
			v.Close() // of an attempt that came too late
		}
		v, err = r.pin(m, opts.Level)
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
