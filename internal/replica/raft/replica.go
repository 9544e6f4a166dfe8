// Package raft is the replica of a master: its log is replicated to several nodes by Raft,
// for which it uses Dragonboat. Dragonboat keeps the log; the machine of this package
// applies it to the state. Package lease turns leadership into ownership, which is what
// writes and linearizable reads need; package host is what the replicas of a process share.
package raft

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/client"
	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/dragonboat/v4/statemachine"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/periodic"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/raft/host"
	"github.com/dkvdb/dkv/internal/replica/raft/lease"
	"github.com/dkvdb/dkv/internal/replica/state"
)

// Options are what a replica is opened with.
type Options struct {
	state.Options
	// Shard numbers the vBucket, from 1, alike on all members.
	Shard uint64
	// Replica is this member's id, from 1, never used by another one before.
	Replica uint64
	// Members are the replicas of a new log, by id, with their Raft addresses. They are
	// empty for a replica that was added to an existing log.
	Members map[uint64]string
	// NonVoting says that the replica was added without a vote. Whether it was given one
	// since then is in the log.
	NonVoting bool
	// Self is the name of this node, and the addresses at which others reach it.
	Self replica.Member
	// Agreed is the log format that all members understood when this replica became one of
	// them; 0 if that was before there were formats.
	Agreed uint32
	// TakePart, if set, is called when nothing keeps the replica from taking part in the
	// log: it gives no vote before that returns.
	TakePart func()
	// Recorded checks this replica's record in the log before Self replaces it. An error
	// means that the disk is older than the record: the replica retires with it. Nil
	// accepts every record.
	Recorded func(replica.Member) error
	// WhenRemoved, if set, is called when the replica becomes Removed.
	WhenRemoved func()
	// Timeout bounds a proposal whose caller sets no deadline.
	Timeout time.Duration
	// SnapshotEvery is after how many entries the log is compacted, and Keep how many are
	// kept for followers that lag a little.
	SnapshotEvery, Keep uint64
	// MaxInMemory bounds, in bytes, the entries that the slowest follower has yet to get,
	// and so the size of a command.
	MaxInMemory uint64
	// FreshEvery is how often a follower confirms that its state is the newest; less than a
	// second means a second.
	FreshEvery time.Duration
	// KeepsTiming has the log record the timing that the cluster's members agree on. One of
	// a cluster's logs does.
	KeepsTiming bool
	// SnapshotRate bounds how many bytes of a snapshot are sent in a second; 0 is no bound.
	SnapshotRate uint64
}

// Replica is a replica.Replica of a log that several nodes replicate.
type Replica struct {
	state.Shared
	opts    state.Options
	state   *state.Store
	raft    Options
	host    *host.Host
	session *client.Session
	keeper  *lease.Keeper
	clock   lease.Clock
	// proposals bounds what is on its way through the log.
	proposals *state.Proposals
	left      leftovers
	// applier applies the log; nil while nothing may be applied.
	applier atomic.Pointer[machine]
	// empty reports that the replica has nothing of its log yet.
	empty atomic.Bool
	// build is the state that a restore will end with, while it is being built.
	build atomic.Pointer[restoreBuild]
	// restores counts the restores that were begun here and are under way.
	restores atomic.Int32
	// floor is the least index of a state that may be read: one as new as that was read
	// here before.
	floor atomic.Uint64
	// leader is what Dragonboat last reported about the leader.
	leader atomic.Pointer[raftio.LeaderInfo]
	// leaderless is when, by the monotonic clock, the log lost the last leader that was
	// known here; 0 while there is one, and before the first.
	leaderless atomic.Int64
	// unled reports that there was no election in the log when this replica was started.
	unled atomic.Bool
	// led is the last leader that this replica has heard of.
	led atomic.Pointer[leadership]
	// named is the last other owner whose address was asked for.
	named atomic.Pointer[namedOwner]
	// up reports which members can be reached; see Prefer.
	up atomic.Pointer[func(id uint64) bool]
	// changes counts changes of the leader.
	changes   atomic.Uint64
	reach     reach
	roster    roster
	committed committed
	moments   moments
	// opened is when, by the monotonic clock, the replica was opened.
	opened time.Duration
	// behind is why the replica cannot catch up, awaited the room that it needs before it
	// can continue.
	behind  behind
	awaited awaited
	// sending is the size, in bytes, of the snapshot that was prepared last.
	sending atomic.Uint64
	// retired is why the replica was retired; nil if it was not. retiring is closed when it
	// is.
	retired  atomic.Pointer[error]
	retiring chan struct{}
	// present is the machine of the last start; nil before the first.
	present atomic.Pointer[machine]
	// removed is closed when this replica was removed from the log.
	removed    chan struct{}
	removeOnce sync.Once
	// leaving is closed when the node is to stop.
	leaving   chan struct{}
	leaveOnce sync.Once
	scratches atomic.Uint64
	stats     counters
	// newest is when, by the monotonic clock, the state was last known to be
	// the newest.
	newest atomic.Int64
	// heard is when, by the monotonic clock, the leader was last heard from.
	heard atomic.Int64
}

// counters count what only replicas of this kind do.
type counters struct {
	snapshotsSent, snapshotsReceived atomic.Uint64
	snapshotBytes                    atomic.Uint64
}

// Open opens the replica's state and makes the replica known to its host. It takes no part
// in the log until Run does.
func Open(h *host.Host, opts Options) (*Replica, error) {
	r := &Replica{
		raft:  opts,
		host:  h,
		clock: lease.SystemClock{},
		// An on-disk state machine has no sessions; our own request ids identify retries.
		// The id here only distinguishes this process's proposals from those of others.
		session:   &client.Session{ShardID: opts.Shard, ClientID: rand.Uint64() | 1},
		proposals: state.NewProposals(),
		removed:   make(chan struct{}),
		retiring:  make(chan struct{}),
		leaving:   make(chan struct{}),
	}
	r.opened = r.clock.Now()
	r.moments.init(opts.VBuckets)
	if r.raft.Self.LogFormat == 0 {
		r.raft.Self.LogFormat = command.Newest()
	}
	r.raft.Self.Timing = h.Timing()
	var err error
	if r.state, err = state.Open(opts.Options, fsm.NewReplica, r.Propose); err != nil {
		return nil, err
	}
	r.Shared, r.opts = r.state.Shared(r.read), r.state.Options()
	m := r.state.Machine()
	err = r.understands(m)
	if err == nil {
		err = h.CheckSynced(opts.Shard, m.Applied()-m.Base())
	}
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	if m.Identity().History == "" {
		r.empty.Store(true)
		r.state.SetUnreadable(errNoState)
	}
	r.keeper = lease.New(group{r}, lease.Options{
		Length:       h.LeaseLength(),
		BeginTimeout: opts.Timeout,
		Turn:         r.turn(),
		Nonce:        rand.Uint64(),
		Changed:      opts.Changed,
		Log:          opts.Log.With("vbucket", opts.VBucket),
	})
	h.Register(opts.Shard, onHost{r})
	return r, nil
}

func (r *Replica) raftConfig() config.Config {
	t := r.host.Timing()
	return config.Config{
		ReplicaID:           r.raft.Replica,
		ShardID:             r.raft.Shard,
		CheckQuorum:         true,
		PreVote:             true,
		ElectionRTT:         t.Election,
		HeartbeatRTT:        t.Heartbeat,
		SnapshotEntries:     r.raft.SnapshotEvery,
		CompactionOverhead:  r.raft.Keep,
		OrderedConfigChange: true,
		MaxInMemLogSize:     r.raft.MaxInMemory,
		IsNonVoting:         r.raft.NonVoting,
		WaitReady:           true,
	}
}

// Run takes part in the log until ctx ends or the replica closes; it then hands over the
// log, if it owns it, and returns. A replica that is removed from the log meanwhile becomes
// Removed. Run is called once.
func (r *Replica) Run(ctx context.Context) error {
	if !r.state.Start() {
		return nil
	}
	defer r.state.End()
	if err := r.join(ctx); err != nil {
		return fmt.Errorf("vbucket %s: %w", r.opts.VBucket, err)
	}
	r.catchUp(ctx)
	r.state.Serve()
	defer r.lookAfter(context.WithoutCancel(ctx))()
	select {
	case <-ctx.Done():
	case <-r.state.Closing():
	case <-r.leaving:
		r.leaveEarly(ctx)
	case <-r.removed:
	}
	select {
	case <-r.removed:
		r.opts.Log.Warn("this node was removed from the cluster; its data stays where it is, and is no longer served")
		r.state.Become(replica.Removed, nil, replica.Starting, replica.Serving, replica.Failed)
		if r.raft.WhenRemoved != nil {
			r.raft.WhenRemoved()
		}
		select {
		case <-ctx.Done():
		case <-r.state.Closing():
		}
	default:
	}
	r.leave(context.WithoutCancel(ctx))
	return nil
}

// turn is that of the process's beat in which this replica does what recurs. The first vBucket's is
// that of what recurs once for all of them.
func (r *Replica) turn() uint64 { return r.raft.Shard - 1 }

// lookAfter keeps the lease and does the replica's periodic tasks until the result is
// called.
func (r *Replica) lookAfter(ctx context.Context) (end func()) {
	ctx, stop := context.WithCancel(ctx)
	var keeper sync.WaitGroup
	keeper.Go(func() { r.keep(ctx) })
	keeper.Go(func() { r.elect(ctx) })
	tasks := periodic.Start(ctx, r.turn())
	r.state.AddExpiry(tasks)
	r.state.AddTrim(tasks, r.fail)
	r.state.AddRelief(tasks)
	r.addSpace(tasks)
	r.addAnnouncement(tasks)
	r.addFormat(tasks)
	if r.raft.KeepsTiming {
		r.addTiming(tasks)
	}
	r.addFreshness(tasks)
	return func() {
		stop()
		tasks.Stop()
		keeper.Wait()
	}
}

// join starts the replica in Dragonboat and waits until it knows what it has to apply. It
// returns early, without an error, when ctx ends or the replica closes, fails or is
// retired.
func (r *Replica) join(ctx context.Context) error {
	if r.retired.Load() != nil {
		return nil
	}
	if former := r.present.Load(); former != nil && !former.isUnloaded() {
		return dragonboat.ErrShardAlreadyExist // Retire has one start to wait for
	}
	return r.begin(ctx)
}

// begin is join once the replica may start. Retire stores why it retires before it looks for a
// machine to wait for, and the machine is stored before it looks whether the replica was retired:
// one of them sees the other.
func (r *Replica) begin(ctx context.Context) error {
	// Not through Use: it waits, and Close ends the wait.
	nh, err := r.host.NodeHost()
	if err != nil {
		return err
	}
	s := newMachine(r)
	create := func(uint64, uint64) statemachine.IOnDiskStateMachine {
		r.applier.Store(s)
		return s
	}
	r.present.Store(s)
	started := make(chan error, 1)
	go func() {
		started <- nh.StartOnDiskReplica(r.raft.Members, len(r.raft.Members) == 0, create, r.raftConfig())
	}()
	if err = r.awaitStart(ctx, started); err != nil {
		s.markUnloaded() // Dragonboat has not made it its own
	}
	if r.retired.Load() != nil {
		r.stop()
		return nil
	}
	if refused := s.refused.Load(); refused != nil {
		return *refused
	}
	switch {
	case errors.Is(err, dragonboat.ErrReplicaRemoved):
		return fmt.Errorf("this node was removed from the cluster; empty its db-folder and start it with --nexus-join to let it come back: %w", err)
	case errors.Is(err, dragonboat.ErrInvalidShardSettings):
		return fmt.Errorf("the Raft log was begun with other members than %v; restore the folder from a backup, or remove this node and let it join again: %w", r.raft.Members, err)
	}
	return err
}

// stopAgain is how often a replica that is being started is told to stop: Dragonboat may
// not know it yet.
const stopAgain = 20 * time.Millisecond

// startPatience is how long a start may take to end once the node is told to stop, before it
// may not wait for room any more.
const startPatience = time.Second

// awaitStart returns the result of a start, which takes long if a snapshot is applied. It
// cancels the start when ctx ends or the replica closes or is retired.
func (r *Replica) awaitStart(ctx context.Context, started <-chan error) error {
	select {
	case err := <-started:
		return err
	case <-ctx.Done():
	case <-r.state.Closing():
	case <-r.retiring:
	}
	if ctx.Err() != nil || r.state.IsClosing() {
		// A start that waits for room in the log holds up all that Dragonboat is asked.
		full := time.AfterFunc(startPatience, r.host.StopWaiting)
		defer full.Stop()
	}
	t := time.NewTicker(stopAgain)
	defer t.Stop()
	for {
		r.stop()
		select {
		case err := <-started:
			return err
		case <-t.C:
		}
	}
}

func (r *Replica) keep(ctx context.Context) {
	if err := r.keeper.Run(ctx); err != nil && ctx.Err() == nil {
		r.opts.Log.Error("the lease keeper ended", "error", err)
	}
}

// stop stops the replica in Dragonboat. It may be called again.
func (r *Replica) stop() {
	err := r.host.Use(func(nh *dragonboat.NodeHost) error { return nh.StopReplica(r.raft.Shard, r.raft.Replica) })
	if err != nil && !errors.Is(err, dragonboat.ErrShardNotFound) && !errors.Is(err, host.ErrClosed) {
		r.opts.Log.Warn("the replica does not stop", "error", err)
	}
}

// Close ends Run, if it runs, and closes the state once its readers are done. It
// is idempotent.
func (r *Replica) Close() error {
	return r.state.Close(r.stop)
}

// MarkRemoved says that this replica was removed from the log. The log itself says so only
// to a replica that still receives the entry that removes it.
func (r *Replica) MarkRemoved() { r.removeOnce.Do(func() { close(r.removed) }) }

// leads returns the id of the leader as far as is known here, 0 for none, and its term.
func (r *Replica) leads() (id, term uint64) {
	err := r.host.Use(func(nh *dragonboat.NodeHost) error {
		leader, t, valid, err := nh.GetLeaderID(r.raft.Shard)
		if err == nil && valid {
			id, term = leader, t
		}
		return err
	})
	if err != nil {
		return 0, 0
	}
	return id, term
}

// Term is Raft's, and 0 if the replica does not take part. It is cheap.
func (r *Replica) Term() uint64 {
	_, term := r.leads()
	return term
}

var (
	errNotLeader   = kv.Errorf(kv.Precondition, "this node does not lead the log")
	errNoSuccessor = kv.Errorf(kv.Precondition, "there is no other voting member that could lead")
)
