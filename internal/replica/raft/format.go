package raft

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/periodic"
	"github.com/dkvdb/dkv/internal/replica"
)

// Format returns the format of the log, which every member understands. The format that the
// members agreed on when the log was begun, or when this one was added, counts before it is
// applied here.
func (r *Replica) Format() uint32 { return max(r.state.Machine().Format(), r.raft.Agreed) }

// understands returns an error if the log of a state may contain what this node's release
// does not understand.
func (r *Replica) understands(m *fsm.Machine) error {
	format := max(m.Format(), r.raft.Agreed)
	if format <= r.raft.Self.LogFormat {
		return nil
	}
	return fmt.Errorf("%w: the log has format %d, and this release (%s) understands %d; all data stays where it is",
		command.ErrNewer, format, r.opts.Version, r.raft.Self.LogFormat)
}

// lowered returns c in the form that the log's format has for it. A command that has none
// is returned as it is, and will be rejected.
func (r *Replica) lowered(c *command.Command) *command.Command {
	if c.Kind == command.Tick && r.Format() < c.Format() {
		return &command.Command{Kind: command.Expire} // of no keys, which moves the clock too
	}
	return c
}

// admitFormat rejects a command that not all members understand.
func (r *Replica) admitFormat(c *command.Command) error {
	need := c.Format()
	if need <= r.Format() || c.Kind == command.SetFormat {
		return nil
	}
	lacking := r.lacking(need, r.Members())
	if c.Request.Repeat {
		// A release that does not know of repeats may have forgotten the request, and
		// would apply it again.
		return kv.UnknownOutcome(kv.Unavailable, fmt.Errorf("whether the first attempt was applied cannot be told before all members are upgraded; %s",
			strings.Join(lacking, ", and ")))
	}
	if len(lacking) == 0 {
		return kv.Errorf(kv.Unavailable, "%v: the members are still agreeing on a newer format of the log; retry", c.Kind)
	}
	return kv.Errorf(kv.Precondition, "%v: %s; upgrade it, or remove it if it is gone", c.Kind, strings.Join(lacking, ", and "))
}

// lacking lists the members that have announced that they do not understand a format.
func (r *Replica) lacking(format uint32, members map[uint64]replica.Member) []string {
	var out []string
	for id, m := range members {
		if m.Address != "" && m.Understood() < format {
			out = append(out, fmt.Sprintf("member %s (replica %d) runs a release that does not understand this (it knows format %d of the log, and format %d is needed)",
				m.Name, id, m.Understood(), format))
		}
	}
	slices.Sort(out)
	return out
}

// formatInterval is how often an owner checks whether the log's format can be raised.
const formatInterval = time.Second

// addFormat adds the task that raises the log's format when all members understand a newer
// one.
func (r *Replica) addFormat(tasks *periodic.Tasks) {
	said := ""
	tasks.Every(formatInterval, func(ctx context.Context) bool {
		newest := r.raft.Self.LogFormat
		if r.state.Machine().Format() >= newest || r.State() != replica.Serving || !r.Owner().Self {
			return false
		}
		to, reason := r.agreed(ctx, newest)
		if to > r.state.Machine().Format() {
			_, err := r.Propose(ctx, &command.Command{Kind: command.SetFormat, Delta: int64(to)})
			if err == nil {
				r.opts.Log.Info("the log's format was raised", "vbucket", r.opts.VBucket, "format", to)
			}
			return false
		}
		if reason != "" && reason != said {
			said = reason
			r.opts.Log.Info("the log keeps its format until all members are upgraded", "vbucket", r.opts.VBucket, "format", r.Format(), "reason", reason)
		}
		return false
	})
}

// agreed returns the greatest format, up to newest, that all members understand, with or
// without a vote, and why it is not newest.
func (r *Replica) agreed(ctx context.Context, newest uint32) (format uint32, reason string) {
	m, err := r.Membership(ctx)
	if err != nil {
		return r.raft.Agreed, ""
	}
	format = newest
	for _, p := range m.Peers {
		if p.Member.Address == "" {
			return r.raft.Agreed, fmt.Sprintf("replica %d at %s has not announced itself", p.ID, p.Address)
		}
		if p.Member.Understood() < format {
			format = p.Member.Understood()
			reason = fmt.Sprintf("member %s (replica %d) understands format %d", p.Member.Name, p.ID, format)
		}
	}
	return max(format, r.raft.Agreed), reason
}
