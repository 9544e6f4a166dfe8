package raft

import (
	"context"
	"errors"
	"time"
)

const (
	// leaveTimeout bounds how long a replica that stops tries to hand over.
	leaveTimeout = 2 * time.Second
	// leaveRounds is how often it hands over. Other members may hand the log back: they do not
	// know yet that it stops, and by then it leads the least of all.
	leaveRounds = 3
	// leaveLimit is for how long it begins another round.
	leaveLimit = 5 * time.Second
	// leaveGrace is how long a replica that is to stop keeps the log for the requests that are
	// under way. Most take less, and those that wait for slaves to confirm them are not to lose
	// these: slaves turn to the next owner.
	leaveGrace = time.Second
)

// Leave says that the node is to stop and accepts no new requests. If it still answers earlier ones
// after a moment, the replica hands the log over, since nothing can be written meanwhile.
func (r *Replica) Leave() { r.leaveOnce.Do(func() { close(r.leaving) }) }

// leaveEarly hands over before ctx ends, and returns when it does, or the replica is removed. A restore that is under way ends
// without effect if another member becomes the owner, so it is not cut short.
func (r *Replica) leaveEarly(ctx context.Context) {
	select {
	case <-time.After(leaveGrace):
		if !r.Restoring() {
			r.handOver(context.WithoutCancel(ctx))
		}
	case <-ctx.Done():
	case <-r.state.Closing():
	}
	select {
	case <-ctx.Done():
	case <-r.state.Closing():
	case <-r.removed:
	}
}

// leave hands the log over, if this replica owns it, and stops.
func (r *Replica) leave(ctx context.Context) {
	r.handOver(ctx)
	r.stop()
}

// handOver hands the log over, if this replica owns it. It stays a follower for a moment: the next
// leader may first have to reconnect to another member, and until then needs this one for a majority.
func (r *Replica) handOver(ctx context.Context) {
	end := time.Now().Add(leaveLimit)
	for range leaveRounds {
		limited, cancel := context.WithTimeout(ctx, leaveTimeout)
		err := r.TransferLeader(limited, 0)
		cancel()
		if err != nil && !errors.Is(err, errNotLeader) && !errors.Is(err, errNoSuccessor) {
			r.opts.Log.Warn("stopping without a successor", "vbucket", r.opts.VBucket, "error", err)
		}
		if err != nil || !r.ledAgain() || time.Now().After(end) {
			return
		}
	}
}

// ledAgain stays a follower for a moment, and reports whether the replica leads again by then.
func (r *Replica) ledAgain() bool {
	end := time.After(r.transferTimeout() * 3 / 2)
	t := time.NewTicker(r.host.Timing().RTT / 2)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if id, _ := r.leads(); id == r.raft.Replica {
				return true
			}
		case <-end:
			return false
		case <-r.state.Closing():
			return false
		}
	}
}
