package raft

import (
	"bytes"
	"context"
	"time"

	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/state"
)

const announceInterval = 500 * time.Millisecond

// announceLoop keeps this node's own record true.
func (r *Replica) announceLoop(ctx context.Context) {
	own := r.raft.Self.Record()
	newest := false
	state.Every(ctx, announceInterval, func() bool {
		if bytes.Equal(r.state.Machine().Members()[r.raft.Replica], own) || r.State() != replica.Serving {
			return false
		}
		err := error(nil)
		if !newest {
			// What stood in the log before this start must not be overwritten unseen.
			err = r.awaitNewest(ctx)
			newest = err == nil
		}
		if err == nil && r.judgeRecord() {
			err = r.SetMember(ctx, r.raft.Replica, r.raft.Self)
		}
		if err != nil && ctx.Err() == nil {
			r.opts.Log.Debug("this node is not announced yet", "error", err)
		}
		return false
	})
}

// awaitNewest waits until everything is applied here that was committed before.
func (r *Replica) awaitNewest(ctx context.Context) error {
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	return group{r}.ReadIndex(ctx)
}

// judgeRecord reports whether what the log says of this replica allows it to go on.
// If it does not, the replica is retired.
func (r *Replica) judgeRecord() bool {
	record := r.state.Machine().Members()[r.raft.Replica]
	if r.raft.Recorded == nil || record == nil {
		return true
	}
	m, err := replica.DecodeMember(record)
	if err != nil {
		return true // it is about to be replaced
	}
	if err := r.raft.Recorded(m); err != nil {
		r.opts.Log.Error("the replica stops for good", "vbucket", r.opts.VBucket, "error", err)
		r.Retire(err)
		return false
	}
	return true
}

// retireTimeout bounds how long Retire waits for what is under way.
const retireTimeout = 2 * time.Second

// Retire ends the replica's part in the log, for a reason that a restart does not
// mend: its disk is not the one that the other members have dealt with. When it
// returns, the replica acknowledges nothing and votes for no one any more. Reads of
// what it has go on, but for those that need the log.
func (r *Replica) Retire(reason error) {
	err := state.Retired(reason)
	if !r.retired.CompareAndSwap(nil, &err) {
		return
	}
	close(r.retiring)
	r.state.Become(replica.Failed, err, replica.Starting, replica.Serving, replica.Restoring, replica.Failed)
	r.state.Advance(r.state.Machine().Applied()) // wakes catchUp
	unloaded := r.unloaded.Load()
	r.stop()
	if unloaded == nil {
		return
	}
	select {
	case <-*unloaded:
	case <-time.After(retireTimeout):
		r.opts.Log.Warn("the replica is slow to stop", "vbucket", r.opts.VBucket)
	}
}
