package raft

import (
	"context"
	"time"

	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/periodic"
	"github.com/dkvdb/dkv/internal/replica"
)

// read calls f with a state that is as fresh as opts ask for.
func (r *Replica) read(ctx context.Context, opts kv.ReadOptions, f func(*fsm.Machine) error) (kv.ReadInfo, error) {
	if st := r.State(); st == replica.Removed {
		return kv.ReadInfo{}, replica.ErrRemoved
	}
	if err := r.state.Held(opts.MinIndex); err != nil {
		return kv.ReadInfo{}, err
	}
	opts.MinIndex = max(opts.MinIndex, r.floor.Load())
	if opts.Level == kv.Linearizable {
		if err := r.state.Refusal(); err != nil && r.State() == replica.Failed {
			return kv.ReadInfo{}, err
		}
		return r.state.Settle(ctx, func() (kv.ReadInfo, error) {
			info, err := r.readNewest(ctx, opts, f)
			if err == nil {
				err = r.state.Unsealed()
			}
			if err == nil {
				err = r.state.AwaitShown(ctx)
			}
			return info, err
		})
	}
	if err := r.state.AwaitIndex(ctx, opts.MinIndex); err != nil {
		return kv.ReadInfo{}, err
	}
	if r.empty.Load() && r.state.Machine().Identity().History == "" {
		return kv.ReadInfo{}, errNoState
	}
	age, err := r.fresh(ctx, opts.MaxAge)
	if err != nil {
		return kv.ReadInfo{}, err
	}
	info, err := r.state.With(ctx, f)
	if err == nil && info.Index < max(opts.MinIndex, r.floor.Load()) {
		return kv.ReadInfo{}, errEarlier // it was reopened in between
	}
	info.Age = age
	return info, err
}

// errNoState keeps a member that has nothing of its log yet from being read: it would answer
// that there are no keys, while the other members may have many.
var errNoState = kv.Errorf(kv.Unavailable, "this node has no data of its cluster yet; retry when it has caught up, or ask another node")

// filled ends that nothing can be read, once m has the state that the log has made, or a
// snapshot.
func (r *Replica) filled(m *fsm.Machine) {
	if r.empty.Load() && m.Identity().History != "" {
		r.empty.Store(false)
		r.state.SetUnreadable(nil)
	}
}

var errEarlier = kv.Errorf(kv.Unavailable, "the state is being brought up to where it was; retry, or ask another node")

// readNewest reads a state that contains every acknowledged write. Under the lease that is
// the local one; without a lease a majority is asked first. Both are checked again after
// the read, because the process may have been suspended in between.
func (r *Replica) readNewest(ctx context.Context, opts kv.ReadOptions, f func(*fsm.Machine) error) (kv.ReadInfo, error) {
	if held, ok := r.keeper.Take(); ok && opts.MinIndex <= r.state.Machine().Applied() {
		info, err := r.state.With(ctx, f)
		if err != nil || held.Valid() {
			return info, err
		}
	}
	// The read itself may wait for its turn and its reader, which has limits of its own.
	limited, cancel := r.bounded(ctx)
	defer cancel()
	trace := kv.TraceOf(ctx)
	for {
		begun := trace.Start()
		held, err := r.keeper.Confirm(limited)
		trace.Since(kv.LeaseWait, begun)
		if err != nil {
			return kv.ReadInfo{}, ownership(err)
		}
		if err := r.state.AwaitIndex(limited, opts.MinIndex); err != nil {
			return kv.ReadInfo{}, err
		}
		info, err := r.state.With(ctx, f)
		if err != nil || held.Valid() {
			return info, err
		}
	}
}

// fresh returns the age of the local state. If it is above the greatest that is wanted (0:
// any age), it asks a majority for the end of the log, and waits until that is applied.
func (r *Replica) fresh(ctx context.Context, wanted time.Duration) (time.Duration, error) {
	now := r.clock.Now()
	if age := r.Age(); wanted == 0 || age != replica.NeverFresh && age <= wanted {
		return age, nil
	}
	trace := kv.TraceOf(ctx)
	defer trace.Since(kv.IndexWait, trace.Start())
	place := kv.PlaceOf(ctx)
	if err := place.Park(); err != nil {
		return 0, err
	}
	defer place.Unpark()
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	if err := (group{r}).ReadIndex(ctx); err != nil {
		return 0, kv.Errorf(kv.Precondition, "the state here is older than %v, and cannot be brought up to date: %w", wanted, err)
	}
	r.confirmed(now)
	return r.clock.Now() - now, nil
}

// confirmed notes that the state was the newest at that reading of the clock.
func (r *Replica) confirmed(at time.Duration) {
	for {
		last := r.newest.Load()
		if int64(at) <= last || r.newest.CompareAndSwap(last, int64(at)) {
			return
		}
	}
}

// Age implements Replica. It is asked for with every message of a change stream, so it
// must not keep the lease alive. What is known of the state's age is not true of an earlier one
// that was found after a failure, until that is back where it was.
func (r *Replica) Age() time.Duration {
	if r.state.Machine().Applied() < r.floor.Load() {
		return replica.NeverFresh
	}
	if r.keeper.Held() {
		return 0
	}
	newest := max(time.Duration(r.newest.Load()), r.keeper.Confirmed())
	if newest == 0 {
		return replica.NeverFresh
	}
	return r.clock.Now() - newest
}

const freshInterval = time.Second

// addFreshness adds the task that keeps the age of the state low, so that readers that
// limit it do not have to wait. The owner does so too, unless its lease confirms the same:
// slaves count the age of their states from the owner's.
func (r *Replica) addFreshness(tasks *periodic.Tasks) {
	tasks.Every(max(r.raft.FreshEvery, freshInterval), func(ctx context.Context) bool {
		begun := r.clock.Now()
		if r.Owner().Self {
			r.heard.Store(int64(begun))
			if r.keeper.Held() {
				return false
			}
		}
		attempt, cancel := context.WithTimeout(ctx, freshInterval)
		defer cancel()
		if (group{r}).ReadIndex(attempt) == nil {
			r.confirmed(begun)
			r.heard.Store(int64(r.clock.Now()))
		}
		return false
	})
}
