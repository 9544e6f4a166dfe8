package raft

import (
	"bytes"
	"context"
	"time"

	"github.com/dkvdb/dkv/internal/periodic"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/state"
)

const announceInterval = 500 * time.Millisecond

// addAnnouncement adds the task that keeps this node's record in the log up to date.
func (r *Replica) addAnnouncement(tasks *periodic.Tasks) {
	own := r.raft.Self.Record()
	newest := false
	tasks.Every(announceInterval, func(ctx context.Context) bool {
		if bytes.Equal(r.state.Machine().Members()[r.raft.Replica], own) || r.State() != replica.Serving {
			return false
		}
		err := error(nil)
		if !newest {
			// What the log said before this start must be checked before it is overwritten.
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

// awaitNewest waits until everything that is committed now is applied here.
func (r *Replica) awaitNewest(ctx context.Context) error {
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	return group{r}.ReadIndex(ctx)
}

// judgeRecord reports whether this replica may continue by its record in the log. If not,
// it is retired.
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

// Retire ends the replica's part in the log for a reason that a restart does not remove:
// its disk is an older copy of the one that the other members know. When it returns, the
// replica neither acknowledges anything nor votes any more. Sequential reads are still
// served.
func (r *Replica) Retire(reason error) {
	err := state.Retired(reason)
	if !r.retired.CompareAndSwap(nil, &err) {
		return
	}
	close(r.retiring)
	r.state.Become(replica.Failed, err, replica.Starting, replica.Serving, replica.Restoring, replica.Failed)
	r.state.Advance(r.state.Machine().Applied()) // wakes catchUp
	present := r.present.Load()
	r.stop()
	if present == nil {
		return // a start that begins now is refused
	}
	select {
	case <-present.unloaded:
	case <-time.After(retireTimeout):
		r.opts.Log.Warn("the replica is slow to stop", "vbucket", r.opts.VBucket)
	}
}
