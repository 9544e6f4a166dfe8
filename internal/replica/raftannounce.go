package replica

import (
	"bytes"
	"context"
	"fmt"
	"time"
)

const announceInterval = 500 * time.Millisecond

// announceLoop keeps this node's own record true.
func (r *Raft) announceLoop(ctx context.Context) {
	own := r.raft.Self.record()
	newest := false
	every(ctx, announceInterval, func() bool {
		if bytes.Equal(r.machine.Load().Members()[r.raft.Replica], own) || r.State() != Serving {
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
func (r *Raft) awaitNewest(ctx context.Context) error {
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	return raftGroup{r}.ReadIndex(ctx)
}

// judgeRecord reports whether what the log says of this replica allows it to go on.
// If it does not, the replica is retired.
func (r *Raft) judgeRecord() bool {
	record := r.machine.Load().Members()[r.raft.Replica]
	if r.raft.Recorded == nil || record == nil {
		return true
	}
	m, err := decodeMember(record)
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

// retiredError is why a replica has stopped for good although its storage works.
type retiredError struct{ error }

func (e *retiredError) Unwrap() error { return e.error }

// retireTimeout bounds how long Retire waits for what is under way.
const retireTimeout = 2 * time.Second

// Retire ends the replica's part in the log, for a reason that a restart does not
// mend: its disk is not the one that the other members have dealt with. When it
// returns, the replica acknowledges nothing and votes for no one any more. Reads of
// what it has go on, but for those that need the log.
func (r *Raft) Retire(reason error) {
	err := error(&retiredError{fmt.Errorf("this replica has stopped: %w", reason)})
	if !r.retired.CompareAndSwap(nil, &err) {
		return
	}
	close(r.retiring)
	r.become(Failed, err, Starting, Serving, Restoring, Failed)
	r.progress.advance(r.machine.Load().Applied()) // wakes catchUp
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
