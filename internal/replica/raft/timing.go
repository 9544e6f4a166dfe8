package raft

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/periodic"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/timing"
)

// TimingSetting returns the timing that the log has recorded for the cluster's members,
// as far as it is applied here.
func (r *Replica) TimingSetting() timing.Setting {
	record, changed := r.state.Machine().Timing()
	if changed == 0 {
		return timing.Setting{}
	}
	s, err := timing.ParseRecord(record, changed)
	if err != nil {
		r.opts.Log.Error("the cluster's timing cannot be read", "error", err)
		return timing.Setting{Changed: changed}
	}
	return s
}

// SetTiming has the members change to a timing, one after the other: each may run with
// either from now on. The present one ends a change that was not made by any member. It
// is served by the log's owner.
func (r *Replica) SetTiming(ctx context.Context, to timing.Timing) error {
	if err := to.Check(); err != nil {
		return kv.Errorf(kv.Invalid, "%w", err)
	}
	if !r.Owner().Self {
		return replica.ErrNotOwner
	}
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	now := r.TimingSetting()
	m, err := r.Membership(ctx)
	if err != nil {
		return err
	}
	if now.Changed == 0 {
		_, reason := r.firstTiming(m.Peers)
		return kv.Errorf(kv.Precondition, "the members' present timing is not recorded yet, so that it cannot be changed: %s", reason)
	}
	next, err := nextTiming(now, to, m.Peers)
	if err != nil || next == now {
		return err
	}
	return r.recordTiming(ctx, next)
}

// nextTiming is what SetTiming makes of a setting.
func nextTiming(now timing.Setting, to timing.Timing, peers []replica.Peer) (timing.Setting, error) {
	switch {
	case now.Changing() && to == now.Next, !now.Changing() && to == now.Current:
		return now, nil
	case to == now.Current:
		if left := replica.Running(now.Next, peers); len(left) > 0 {
			return now, kv.Errorf(kv.Precondition, "%s run with %v already: restart them with %v, then try again", strings.Join(left, ", "), now.Next, to)
		}
		return timing.Setting{Current: to, Changed: now.Changed}, nil
	case now.Changing():
		return now, kv.Errorf(kv.Precondition, "the timing is being changed from %v to %v: restart the members that still run with the former with the latter (%s), "+
			"or end that change (dkvctl -setTiming %v)", now.Current, now.Next, strings.Join(replica.Running(now.Current, peers), ", "), now.Current)
	}
	if err := now.Current.Mixes(to); err != nil {
		return now, kv.Errorf(kv.Precondition, "%w", err)
	}
	return timing.Setting{Current: now.Current, Next: to, Changed: now.Changed}, nil
}

// recordTiming proposes a setting that replaces the one with the same Changed.
func (r *Replica) recordTiming(ctx context.Context, s timing.Setting) error {
	res, err := r.Propose(ctx, &command.Command{Kind: command.SetTiming, Expect: s.Record(), Delta: int64(s.Changed)})
	switch {
	case err != nil:
		return err
	case res.Code == command.NotUpdated:
		return kv.Errorf(kv.Unavailable, "the timing was changed at the same moment; look at it and retry")
	}
	r.opts.Log.Info("the timing of the cluster was recorded", "current", s.Current, "next", s.Next)
	return nil
}

// timingInterval is how often the owner checks whether a timing is to be recorded.
const timingInterval = time.Second

// addTiming adds the task that records the timing that the members were started with if
// none is recorded yet, and ends a change of it when all of them have made it.
func (r *Replica) addTiming(tasks *periodic.Tasks) {
	said := ""
	tasks.Every(timingInterval, func(ctx context.Context) bool {
		now := r.TimingSetting()
		begun := now.Changed != 0 && !now.Changing()
		if begun || r.State() != replica.Serving || !r.Owner().Self || r.Format() < (&command.Command{Kind: command.SetTiming}).Format() {
			return false
		}
		m, err := r.Membership(ctx)
		if err != nil {
			return false
		}
		next, reason := timing.Setting{Current: now.Next, Changed: now.Changed}, ""
		if now.Changed == 0 {
			next, reason = r.firstTiming(m.Peers)
		} else {
			reason = apart(now.Next, m.Peers)
		}
		if reason == "" {
			err = r.recordTiming(ctx, next)
		} else if reason != said {
			said = reason
			r.opts.Log.Info("the members do not have the same timing yet", "reason", reason)
		}
		if err != nil && ctx.Err() == nil {
			r.opts.Log.Debug("the timing is not recorded yet", "error", err)
		}
		return false
	})
}

// firstTiming returns the first setting, this node's own timing, and why it must not be
// recorded yet; "" if it may be.
func (r *Replica) firstTiming(peers []replica.Peer) (timing.Setting, string) {
	own := r.raft.Self.Timing
	return timing.Setting{Current: own}, apart(own, peers)
}

// apart lists the peers, with or without a vote, that do not run with a timing; "" if all
// do.
func apart(t timing.Timing, peers []replica.Peer) string {
	var out []string
	for _, p := range peers {
		switch {
		case p.Member.Timing.IsZero():
			out = append(out, fmt.Sprintf("replica %d at %s has not announced its timing", p.ID, p.Address))
		case p.Member.Timing != t:
			out = append(out, fmt.Sprintf("member %s (replica %d) runs with %v, not %v", p.Member.Name, p.ID, p.Member.Timing, t))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}
