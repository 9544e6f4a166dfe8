package raft

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lni/dragonboat/v4"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
)

// leaderLook is how often a command that waits for long looks who leads the log.
const leaderLook = 100 * time.Millisecond

var errDeposed = errors.New("this node no longer leads the log; ask another one")

// await waits until a command that Dragonboat has taken is applied here, at most for
// patience: Dragonboat's own limit does not end a wait for a disk that hangs. The command of
// a leader does not wait much longer than the leadership lasts: a member that is cut off
// would not learn the outcome until it is back, while the others serve its caller. If it is
// given up, left is the request.
func (r *Replica) await(ctx context.Context, rs *dragonboat.RequestState, asLeader bool, patience time.Duration) (_ command.Result, left *dragonboat.RequestState, _ error) {
	limit := time.Now().Add(patience)
	timer := time.NewTimer(min(patience, leaderLook))
	defer timer.Stop()
	var over deposal
	var err error
	for err == nil {
		select {
		case done := <-rs.ResultC():
			res, err := r.outcome(&done)
			rs.Release()
			return res, nil, err
		case <-ctx.Done():
			err = ctx.Err()
		case <-timer.C:
			now := time.Now()
			left := limit.Sub(now)
			leader, _ := r.newestLeader()
			switch {
			case left <= 0:
				err = context.DeadlineExceeded
			case asLeader && over.look(now, leader, r.raft.Replica, r.host.Timing().ElectionTime()):
				err = errDeposed
			}
			timer.Reset(min(left, leaderLook))
		}
	}
	return command.Result{}, rs, kv.UnknownOutcome(kv.Unavailable, fmt.Errorf("the mutation was being replicated: %w", err))
}

// deposal is the time for which a replica has not led the log, as the looks of a command that
// it proposed as the leader show it.
type deposal struct {
	// since is the first of the looks since then; zero while the replica leads.
	since time.Time
	// unled reports that the last look found no leader.
	unled bool
}

// look notes who leads now, 0 for none, and reports whether the command should wait no
// longer. A replica that leads, in a later term too, learns the outcome. One that follows
// another leader usually learns it soon, and waits for an election's time. One without any
// leader is cut off, unless an election is just under way, which the next look shows.
func (d *deposal) look(now time.Time, leader, self uint64, election time.Duration) bool {
	if leader == self {
		*d = deposal{}
		return false
	}
	if d.since.IsZero() {
		d.since = now
	}
	before := d.unled
	d.unled = leader == 0
	return before && d.unled || now.Sub(d.since) >= election
}
