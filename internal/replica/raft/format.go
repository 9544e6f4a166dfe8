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
	return fmt.Errorf("%w: the log has format %d (the cluster's version, which dkvctl -upgrade finish has raised), and this release (%s) understands %d; all data stays where it is",
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
		return kv.UnknownOutcome(kv.Unavailable, fmt.Errorf("whether the first attempt was applied cannot be known before the upgrade is finished; %s",
			strings.Join(append(lacking, finishIt), ", and ")))
	}
	if len(lacking) == 0 {
		return kv.Errorf(kv.Precondition, "%v needs version %d of the cluster, and it has version %d: %s", c.Kind, need, r.Format(), finishIt)
	}
	return kv.Errorf(kv.Precondition, "%v: %s; upgrade it, or remove it if it is gone", c.Kind, strings.Join(lacking, ", and "))
}

// finishIt is what to do before what a newer release added can be used.
const finishIt = "when all members are upgraded, finish the upgrade (dkvctl -upgrade finish)"

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

// formatInterval is how often an owner looks at the log's format.
const formatInterval = time.Second

// addFormat adds the task that writes the format that was agreed on when the log was begun
// into the log, and says once that a newer one can be used. No later format is used before
// an operator has finished the upgrade; see RaiseFormat.
func (r *Replica) addFormat(tasks *periodic.Tasks) {
	said := uint32(0)
	tasks.Every(formatInterval, func(ctx context.Context) bool {
		newest := r.raft.Self.LogFormat
		written := r.state.Machine().Format()
		if written >= newest || r.State() != replica.Serving || !r.Owner().Self {
			return false
		}
		if written < r.raft.Agreed {
			_ = r.setFormat(ctx, r.raft.Agreed) // tried again
			return false
		}
		if to, _ := r.agreed(ctx, newest); to > written && to > said {
			said = to
			r.opts.Log.Info("all members understand a newer version; dkvctl -upgrade finish uses it", "vbucket", r.opts.VBucket, "version", written, "newer", to)
		}
		return false
	})
}

// RaiseFormat raises the log's format to one that all members understand; a format that is
// not newer has no effect. It is served by the log's owner.
func (r *Replica) RaiseFormat(ctx context.Context, to uint32) error {
	if !r.Owner().Self {
		return replica.ErrNotOwner
	}
	if to <= r.state.Machine().Format() {
		return nil
	}
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	if agreed, reason := r.agreed(ctx, to); agreed < to {
		return kv.Errorf(kv.Precondition, "the upgrade to version %d cannot be finished: %s; upgrade it, or remove it if it is gone (not applied)", to, reason)
	}
	return r.setFormat(ctx, to)
}

func (r *Replica) setFormat(ctx context.Context, to uint32) error {
	_, err := r.Propose(ctx, &command.Command{Kind: command.SetFormat, Delta: int64(to)})
	if err == nil {
		r.opts.Log.Info("the log's format was raised", "vbucket", r.opts.VBucket, "format", to)
	}
	return err
}

// NewestFormat returns the newest format that a member is known to understand.
func (r *Replica) NewestFormat() uint32 {
	newest := r.raft.Self.LogFormat
	for _, m := range r.Members() {
		newest = max(newest, m.LogFormat)
	}
	return newest
}

// agreed returns the greatest format, up to newest, that all members understand, with or
// without a vote, and why it is not newest.
func (r *Replica) agreed(ctx context.Context, newest uint32) (format uint32, reason string) {
	m, err := r.Membership(ctx)
	if err != nil {
		return r.raft.Agreed, "the members are not known: " + err.Error()
	}
	format = newest
	for _, p := range m.Peers {
		if p.Member.Address == "" {
			return r.raft.Agreed, fmt.Sprintf("replica %d at %s has not announced itself", p.ID, p.Address)
		}
		if p.Member.Understood() < format {
			format = p.Member.Understood()
			reason = fmt.Sprintf("member %s (replica %d) understands version %d", p.Member.Name, p.ID, format)
		}
	}
	return max(format, r.raft.Agreed), reason
}
