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

// transferRounds is how often each candidate is tried: one that is a little behind
// takes over at the second attempt. Requests wait meanwhile.
const transferRounds = 2

// transferPoll is how often a transfer, which only says that it was begun, is
// looked at.
const transferPoll = 10 * time.Millisecond

// TransferLeader makes another voting member the leader: the one with the given
// id, or any where that is 0. It returns when it leads.
func (r *Replica) TransferLeader(ctx context.Context, to uint64) error {
	if id, _ := r.leads(); id != r.raft.Replica {
		return errNotLeader
	}
	targets, err := r.successors(ctx, to)
	if err != nil {
		return err
	}
	return r.keeper.HandOver(ctx, func(ctx context.Context) error {
		// A candidate that has not applied the epoch's end yet ignores that it
		// shall lead, and that costs an election's time.
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

// successors lists who could lead in this replica's place.
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
		// One that is down would be waited for, with all requests held.
		slices.SortStableFunc(ids, func(a, b uint64) int { return cmp.Compare(order((*up)(a)), order((*up)(b))) })
	}
	switch {
	case len(ids) > 0:
		return ids, nil
	case to != 0:
		return nil, kv.Errorf(kv.Precondition, "replica %d is no voting member that could take over", to)
	}
	return nil, errNobodyElse
}

// order puts what is up first.
func order(up bool) int {
	if up {
		return 0
	}
	return 1
}

// Prefer tells which members can be reached, as far as is known: they are tried
// first when another one has to lead.
func (r *Replica) Prefer(up func(id uint64) bool) { r.up.Store(&up) }

// transferTimeout is how long one member is given to take over: an election's
// time, after which Dragonboat gives the transfer up.
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
		select { // an earlier attempt is not over
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
