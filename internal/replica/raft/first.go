package raft

import (
	"context"
	"slices"
	"time"

	"github.com/dkvdb/dkv/internal/sleep"
)

// firstTerm is the term in which a new log begins. It has no leader.
const firstTerm = 1

// elect begins the first election of a new log once a majority of the members can be reached,
// since there is no leader for which they would have to wait for an election's time. Later
// elections, and this one if nothing comes of it, are Raft's.
func (r *Replica) elect(ctx context.Context) {
	if !r.unled.Load() || r.raft.NonVoting || !r.awaitMajority(ctx) {
		return
	}
	// A member opens its port a little before it takes part in its logs.
	pause := campaignPause + r.turnOfFirst()*campaignGrace
	if !sleep.For(ctx, time.Duration(pause)*r.host.Timing().RTT) || r.led.Load() != nil {
		return
	}
	r.opts.Log.Info("the log is new and has no leader; this member stands for election", "vbucket", r.opts.VBucket)
	r.host.Campaign(r.raft.Shard, r.raft.Replica, r.raft.Replica, firstTerm)
}

// awaitMajority reports whether the ports of a majority are open before Raft holds an election
// by itself.
func (r *Replica) awaitMajority(ctx context.Context) bool {
	t := r.host.Timing()
	for range t.Election {
		open := 1
		for id, address := range r.raft.Members {
			if id != r.raft.Replica && r.host.Listens(ctx, address) {
				open++
			}
		}
		if r.led.Load() != nil {
			return false
		}
		if open > len(r.raft.Members)/2 {
			return true
		}
		if !sleep.For(ctx, t.RTT) {
			return false
		}
	}
	return false
}

// turnOfFirst returns how many other members begin the first election of a new log before
// this one. Members take turns, so that they do not split the votes; another one begins in
// each log, so that each leads some of them.
func (r *Replica) turnOfFirst() int {
	var ids []uint64
	for id := range r.raft.Members {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	first := int((r.raft.Shard - 1) % uint64(len(ids)))
	return (slices.Index(ids, r.raft.Replica) - first + len(ids)) % len(ids)
}
