// Package keeper keeps the standing sets of the logs that a node owns: it chooses which
// slave stands by, and takes out one that has gone silent. The rules are in the DESIGN.md of
// package standby, A4 to A6.
package keeper

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/periodic"
	"github.com/dkvdb/dkv/internal/standby"
	"github.com/dkvdb/dkv/internal/standby/confirm"
)

// Log is a vBucket's log as the keeper needs it.
type Log struct {
	*confirm.Log
	// Propose puts a command into the log, if this node owns it.
	Propose func(context.Context, *command.Command) (command.Result, error)
	// Everyone is which of all nodes that keep the log are silent; nil marks none as down.
	Everyone Everyone
}

// Everyone is what answers at kv.AckAll find out about the nodes that they wait for.
type Everyone interface {
	// Silent are those that have applied nothing for a time although an answer waits.
	Silent(limit time.Duration) []string
	// Returned are those of down that answer again and lag little behind the log's end, or
	// that keep the log no more.
	Returned(down []string, end kv.Index) []string
}

// Record is the record of the database in the registry.
type Record interface {
	// Leaving takes disks out of the record. Its version rises even if they are not there.
	Leaving(ctx context.Context, disks []string) error
	// Enter makes a node a standby of the record. It reads the record's version, calls
	// standing, and changes the record only if that returns no error and the version is still
	// the same. A node that is in the record already is no error.
	Enter(ctx context.Context, n standby.Node, standing func(context.Context) (kv.Ack, error)) error
	// Names reports whether the record named a disk when it was last read.
	Names(disk string) bool
	// Unlevelled reports whether the record named a disk without a level when it was last read:
	// owners of an earlier release do not say theirs. Enter gives it one once all do.
	Unlevelled(disk string) bool
}

// Options are how a node keeps standbys.
type Options struct {
	// Logs are those of all vBuckets, in hash order. The owner of the first one chooses the
	// standby of all.
	Logs []Log
	// Level is what answers wait for; kv.AckAsync keeps no standby.
	Level kv.Ack
	// DC restricts standbys to a data centre; empty admits any.
	DC string
	// Timeout is how long a standby may be silent while an answer waits for it.
	Timeout time.Duration
	// FallBack has answers be given without a standby if there is none.
	FallBack bool
	// Leases has the logs say that their owners answer only with the lease of the record.
	Leases bool
	// Deployment is the id of the masters that the logs belong to.
	Deployment string
	// Record is the registry's; nil without one.
	Record Record
	// Standing returns the least level at which the owners of all vBuckets wait for a node that
	// stands in their logs, asked linearizably; ErrElsewhere if it does not stand in one of them. It
	// is needed with Record only.
	Standing func(context.Context, standby.Node) (kv.Ack, error)
	Log      *slog.Logger
}

// Keeper keeps the standing sets.
type Keeper struct {
	opts Options
	logs []*kept

	mu sync.Mutex
	// silenced is when a disk was taken out for its silence.
	silenced map[string]time.Time
	// elsewhere is which disks do not stand in all vBuckets.
	elsewhere map[string]elsewhere
	// entered is the change of the first log's set with which its nodes were last entered
	// into the record.
	entered kv.Index
	// later is when they are tried again after an attempt that failed.
	later pause
	// raised is when they were last entered for want of a level only, or entered at all.
	raised time.Time
}

// kept is a log with what the keeper remembers of it.
type kept struct {
	Log
	// since is since when this node has owned the log without a break; zero if it does not.
	since time.Time
	// failed is the text of the last error that was logged, so that it is logged once.
	failed string
	// crowded means that not all silent nodes can be marked as down.
	crowded bool
}

// New makes a keeper.
func New(opts Options) *Keeper {
	k := &Keeper{opts: opts, silenced: make(map[string]time.Time), elsewhere: make(map[string]elsewhere)}
	for _, l := range opts.Logs {
		k.logs = append(k.logs, &kept{Log: l})
	}
	return k
}

const (
	// idleEvery is how often the logs are looked at if no standby is to be kept, for those
	// that another configuration has left.
	idleEvery = time.Second
	// shortest and longest bound how often they are looked at otherwise.
	shortest, longest = 10 * time.Millisecond, 100 * time.Millisecond
	// atOnce is how many logs are changed at a time.
	atOnce = 32
	// maxSteps bounds the changes of one log in a row.
	maxSteps = 4
)

// Run keeps the sets until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	every := idleEvery
	if k.opts.Level > kv.AckAsync || k.opts.Leases {
		every = min(max(k.opts.Timeout/8, shortest), longest)
	}
	for {
		k.round(ctx)
		if !periodic.Wait(ctx, every) {
			return
		}
	}
}

// round looks at every log once.
func (k *Keeper) round(ctx context.Context) {
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i, l := range k.logs {
		if !l.Owned() {
			l.since = time.Time{}
			continue
		}
		if l.since.IsZero() {
			l.since = time.Now()
		}
		if s, err := k.plan(i); err == nil && s == nil {
			continue
		}
		g.Go(func() error { k.tend(ctx, i); return nil })
	}
	_ = g.Wait() // its functions return no errors
	k.enter(ctx)
}

// patience bounds one change of a log.
func (k *Keeper) patience() time.Duration { return max(k.opts.Timeout, time.Second) }

// tend changes the set of one log as long as there is something to change.
func (k *Keeper) tend(ctx context.Context, i int) {
	ctx, cancel := context.WithTimeout(ctx, k.patience())
	defer cancel()
	l := k.logs[i]
	for range maxSteps {
		s, err := k.plan(i)
		if err == nil && s != nil {
			err = k.do(ctx, l, s)
		}
		switch {
		case err != nil:
			if text := err.Error(); text != l.failed && ctx.Err() == nil {
				l.failed = text
				k.opts.Log.Warn("the standing set cannot be changed; this is tried again", "vbucket", l.VBucket(), "error", err)
			}
			return
		case s == nil:
			return
		}
		l.failed = ""
	}
}

// errRecorded keeps a node in the log that the record may name, at a node that cannot change the
// record. dkvctl -claim empties the record, and the log says then that owners need no lease.
var errRecorded = kv.Errorf(kv.Precondition, "the registry's record may name the slave that is to leave, and this node does not keep the record: "+
	"set auto-promote-after as before, or end that owners need the registry's lease with dkvctl -claim")

// do makes one change: first in the record, which must not name a node that answers do not
// wait for, and then in the log.
func (k *Keeper) do(ctx context.Context, l *kept, s *step) error {
	switch {
	case len(s.taken) == 0:
	case k.opts.Record == nil && s.next.Leased:
		return errRecorded
	case k.opts.Record != nil:
		if err := k.opts.Record.Leaving(ctx, s.taken); err != nil {
			return err
		}
	}
	s.next.Deployment = k.opts.Deployment
	res, err := l.Propose(ctx, &command.Command{Kind: command.SetStandbys, Expect: s.next.Record(), Delta: int64(s.over)})
	if err != nil {
		return err
	}
	l.Refresh()
	if res.Code != command.OK {
		return nil // another owner was faster: the next look finds out what is to be done
	}
	k.opts.Log.Log(ctx, s.severity, s.event, append([]any{"vbucket", l.VBucket()}, s.about...)...)
	return nil
}

// named reports whether the record still names all that stand: it may have been restored from
// a backup.
func (k *Keeper) named(set standby.Set) bool {
	return !slices.ContainsFunc(set.Nodes, func(n standby.Node) bool {
		return n.Phase == standby.Standing && !k.opts.Record.Names(n.Disk)
	})
}

// enter enters the standing nodes of the first log into the record.
func (k *Keeper) enter(ctx context.Context) {
	first := k.logs[0]
	if k.opts.Record == nil || !first.Owned() {
		return
	}
	set, changed, err := first.Set()
	switch {
	case err != nil:
		return
	case changed == k.entered && k.named(set):
		k.raise(ctx, set)
		return
	case !k.later.due(changed):
		return
	}
	ctx, cancel := context.WithTimeout(ctx, k.patience())
	defer cancel()
	for _, n := range set.Nodes {
		if n.Phase != standby.Standing {
			continue
		}
		standing := func(ctx context.Context) (kv.Ack, error) { return k.opts.Standing(ctx, n) }
		err := k.opts.Record.Enter(ctx, n, standing)
		k.stood(n.Disk, err)
		if err != nil {
			k.later.fail(changed)
			if text := err.Error(); text != first.failed {
				first.failed = text
				k.opts.Log.Warn("the standby is not in the registry's record yet; this is tried again", "address", n.Address, "error", err)
			}
			return
		}
		k.opts.Log.Info("the standby is in the registry's record", "address", n.Address)
	}
	k.entered, k.raised = changed, time.Now()
}

// raiseEvery is how often the owners are asked for a level that the record lacks.
const raiseEvery = time.Minute

// raise enters those again that the record names without a level, since owners of an earlier
// release did not say theirs.
func (k *Keeper) raise(ctx context.Context, set standby.Set) {
	if time.Since(k.raised) < raiseEvery {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, k.patience())
	defer cancel()
	for _, n := range set.Nodes {
		if n.Phase != standby.Standing || !k.opts.Record.Unlevelled(n.Disk) {
			continue
		}
		k.raised = time.Now()
		err := k.opts.Record.Enter(ctx, n, func(ctx context.Context) (kv.Ack, error) { return k.opts.Standing(ctx, n) })
		if err != nil {
			k.opts.Log.Warn("the standby is in the registry's record without a level; that is tried again", "address", n.Address, "error", err)
		}
	}
}
