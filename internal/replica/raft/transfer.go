package raft

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/lni/dragonboat/v4"

	"github.com/dkvdb/dkv/internal/kv"
)

// transferRounds is how often each candidate is tried: one that lags a little takes over at
// the second attempt. Requests wait meanwhile.
const transferRounds = 2

// transferPoll is how often a transfer is checked: Dragonboat only says that it was begun.
const transferPoll = 10 * time.Millisecond

// TransferLeader makes another voting member the leader: the one with the given id, or any
// if that is 0. It returns when that one leads.
func (r *Replica) TransferLeader(ctx context.Context, to uint64) error {
	if id, _ := r.leads(); id != r.raft.Replica {
		return errNotLeader
	}
	targets, err := r.successors(ctx, to)
	if err != nil {
		return err
	}
	return r.keeper.HandOver(ctx, func(ctx context.Context) error {
		// A candidate that has not applied the epoch's end yet ignores the request to lead,
		// which costs the time of an election.
		select {
		case <-time.After(r.host.Timing().RTT / 2):
		case <-ctx.Done():
			return ctx.Err()
		}
		var errs []error
		for range transferRounds {
			errs = errs[:0]
			for _, target := range targets {
				err := r.transfer(ctx, target)
				if err == nil {
					return nil
				}
				if id, _ := r.leads(); id != r.raft.Replica && id != 0 {
					if to == 0 {
						return nil // another one is as good
					}
					return err
				}
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	})
}

// successors lists the members that could lead instead of this one.
func (r *Replica) successors(ctx context.Context, to uint64) ([]uint64, error) {
	members, err := r.Membership(ctx)
	if err != nil {
		return nil, err
	}
	var ids []uint64
	for _, p := range members.Peers {
		if p.Voting && p.ID != r.raft.Replica && (to == 0 || p.ID == to) {
			ids = append(ids, p.ID)
		}
	}
	if up := r.up.Load(); up != nil {
		// All requests would wait for one that is down.
		slices.SortStableFunc(ids, func(a, b uint64) int { return cmp.Compare(order((*up)(a)), order((*up)(b))) })
	}
	switch {
	case len(ids) > 0:
		return ids, nil
	case to != 0:
		return nil, kv.Errorf(kv.Precondition, "replica %d is no voting member that could take over", to)
	}
	return nil, errNoSuccessor
}

// order sorts members that are up first.
func order(up bool) int {
	if up {
		return 0
	}
	return 1
}

// Prefer sets what reports whether a member can be reached, as far as is known. Those are
// tried first when another member has to lead.
func (r *Replica) Prefer(up func(id uint64) bool) { r.up.Store(&up) }

// transferTimeout is how long one member has to take over: the time of an election, after
// which Dragonboat gives up the transfer.
func (r *Replica) transferTimeout() time.Duration {
	t := r.host.Timing()
	return time.Duration(t.Election+2) * t.RTT
}

func (r *Replica) transfer(ctx context.Context, to uint64) error {
	ctx, cancel := context.WithTimeout(ctx, r.transferTimeout())
	defer cancel()
	t := time.NewTicker(transferPoll)
	defer t.Stop()
	for {
		err := r.host.Use(func(nh *dragonboat.NodeHost) error { return nh.RequestLeaderTransfer(r.raft.Shard, to) })
		if err == nil {
			break
		}
		if !errors.Is(err, dragonboat.ErrSystemBusy) {
			return kv.Errorf(kv.Unavailable, "cannot hand over to replica %d: %w", to, err)
		}
		select { // an earlier attempt is still under way
		case <-t.C:
		case <-ctx.Done():
			return kv.Errorf(kv.Unavailable, "cannot hand over to replica %d: %w", to, err)
		}
	}
	for {
		switch id, _ := r.leads(); {
		case id == to:
			return nil
		case id != 0 && id != r.raft.Replica:
			return kv.Errorf(kv.Unavailable, "replica %d has taken over instead of %d", id, to)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return kv.Errorf(kv.Unavailable, "replica %d has not taken over in time; is it up?", to)
		}
	}
}
