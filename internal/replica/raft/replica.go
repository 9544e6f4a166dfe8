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
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/raft/host"
	"github.com/dkvdb/dkv/internal/replica/raft/lease"
	"github.com/dkvdb/dkv/internal/replica/state"
)

// Options are what a Raft replica is made of.
type Options struct {
	state.Options
	// Shard numbers the vBucket, from 1, alike on all members.
	Shard uint64
	// Replica is this member's id, from 1, never used by another one before.
	Replica uint64
	// Members are the replicas of a new log, by id, with their Raft addresses.
	// They are empty where the replica was added to a log that there was already.
	Members map[uint64]string
	// NonVoting tells that the replica was added without a vote. That it has
	// been given one since stands in the log.
	NonVoting bool
	// Self is how others reach this node.
	Self replica.Member
	// Agreed is the format of the log that all members understood when this replica
	// became one of them; 0 where that was before there were formats.
	Agreed uint32
	// TakePart, if there is one, is called when nothing keeps the replica out of the log
	// and before it takes any step: no vote is given before it returns.
	TakePart func()
	// Recorded judges what stands in the log of this replica before Self takes its
	// place. An error means that the disk is older than the record: the replica
	// retires with it. Nil has no objections.
	Recorded func(replica.Member) error
	// WhenRemoved, if there is one, is called when the replica is Removed.
	WhenRemoved func()
	// Timeout bounds a proposal whose caller sets no deadline.
	Timeout time.Duration
	// SnapshotEvery is after how many entries the log is cut, and Keep how many
	// are kept for followers that are a little behind.
	SnapshotEvery, Keep uint64
	// MaxInMemory bounds the entries that the slowest follower has yet to get,
	// in bytes, and with it a command.
	MaxInMemory uint64
	// FreshEvery is how often a follower finds out whether its state is the
	// newest; less than a second means a second.
	FreshEvery time.Duration
	// KeepsTiming has the log keep the timing that the cluster's members agree on: one of
	// a cluster's logs does.
	KeepsTiming bool
	// SnapshotRate bounds, in bytes a second, what a snapshot is sent with; 0 is
	// no bound.
	SnapshotRate uint64
}

// Replica is a Replica of a log that several nodes keep together.
type Replica struct {
	state.Shared
	opts    state.Options
	state   *state.Store
	raft    Options
	host    *host.Host
	session *client.Session
	keeper  *lease.Keeper
	clock   lease.Clock
	// applier is what the log is applied by; nil while nothing is to be applied.
	applier atomic.Pointer[machine]
	// build is the state that a restore will end with, while one is under way.
	build atomic.Pointer[restoreBuild]
	// floor is the least index of a state that may be read: an older one was read
	// here before.
	floor atomic.Uint64
	// leader is what Dragonboat last told of who leads.
	leader atomic.Pointer[raftio.LeaderInfo]
	// led is who led last, as far as this replica has heard.
	led atomic.Pointer[leadership]
	// up tells which members can be reached; see Prefer.
	up atomic.Pointer[func(id uint64) bool]
	// changes counts how often the leader was another one.
	changes atomic.Uint64
	reach   reach
	decided decided
	// opened is when, by the monotonic clock, the replica was opened.
	opened time.Duration
	// behind is why the replica cannot catch up, awaited the room that it needs before
	// it can go on.
	behind  behind
	awaited awaited
	// sending is the size of the snapshot that was prepared last.
	sending atomic.Uint64
	// retired is why the replica was retired; nil while it was not. retiring is closed
	// then.
	retired  atomic.Pointer[error]
	retiring chan struct{}
	// unloaded is closed when the log's library has let go of the replica; nil before
	// it is started.
	unloaded atomic.Pointer[chan struct{}]
	// removed is closed when the log has put this replica out.
	removed    chan struct{}
	removeOnce sync.Once
	scratches  atomic.Uint64
	stats      counters
	// newest is when, by the monotonic clock, the state was last known to be
	// the newest.
	newest atomic.Int64
	// heard is when, by the monotonic clock, the leader was last heard of.
	heard atomic.Int64
}

// counters count what concerns a log of several.
type counters struct {
	snapshotsSent, snapshotsReceived atomic.Uint64
	snapshotBytes                    atomic.Uint64
}

// Open opens the replica's present state. It takes no part in the log until
// Run does.
func Open(h *host.Host, opts Options) (*Replica, error) {
	r := &Replica{
		raft:  opts,
		host:  h,
		clock: lease.SystemClock{},
		// An on-disk state machine has no sessions; retries are told by our own
		// ids. The id here only tells this process's proposals from others'.
		session:  &client.Session{ShardID: opts.Shard, ClientID: rand.Uint64() | 1},
		removed:  make(chan struct{}),
		retiring: make(chan struct{}),
	}
	r.opened = r.clock.Now()
	if r.raft.Self.LogFormat == 0 {
		r.raft.Self.LogFormat = command.NewestFormat
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
	r.keeper = lease.New(group{r}, lease.Options{
		Length:  h.LeaseLength(),
		Nonce:   rand.Uint64(),
		Changed: opts.Changed,
		Log:     opts.Log.With("vbucket", opts.VBucket),
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

// Run takes part in the log until ctx ends, or until the log puts the replica
// out; it then gives up what it owns and returns. It is called once.
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
	loops, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { r.keep(loops) })
	wg.Go(func() { r.state.ExpireLoop(loops) })
	wg.Go(func() { r.state.TrimLoop(loops, r.fail) })
	wg.Go(func() { r.state.RelieveLoop(loops) })
	wg.Go(func() { r.spaceLoop(loops) })
	wg.Go(func() { r.announceLoop(loops) })
	wg.Go(func() { r.formatLoop(loops) })
	if r.raft.KeepsTiming {
		wg.Go(func() { r.timingLoop(loops) })
	}
	wg.Go(func() { r.freshLoop(loops) })
	select {
	case <-ctx.Done():
	case <-r.state.Closing():
	case <-r.removed:
		r.opts.Log.Warn("this node was removed from the cluster; its data stays where it is, and nobody is served from it")
		r.state.Become(replica.Removed, nil, replica.Starting, replica.Serving, replica.Failed)
		if r.raft.WhenRemoved != nil {
			r.raft.WhenRemoved()
		}
		select {
		case <-ctx.Done():
		case <-r.state.Closing():
		}
	}
	r.leave(context.WithoutCancel(ctx))
	return nil
}

// join starts the replica's part in the log and waits until it knows what it has to
// apply. It ends early, without an error, when ctx ends or the replica closes, fails or
// is retired.
func (r *Replica) join(ctx context.Context) error {
	if r.retired.Load() != nil {
		return nil
	}
	// Not through use: it waits, and Close ends the wait.
	nh, err := r.host.NodeHost()
	if err != nil {
		return err
	}
	s := &machine{r: r}
	create := func(uint64, uint64) statemachine.IOnDiskStateMachine {
		r.applier.Store(s)
		return s
	}
	unloaded := make(chan struct{})
	r.unloaded.Store(&unloaded)
	started := make(chan error, 1)
	go func() {
		started <- nh.StartOnDiskReplica(r.raft.Members, len(r.raft.Members) == 0, create, r.raftConfig())
	}()
	err = r.awaitStart(ctx, started)
	if refused := s.refused.Load(); refused != nil {
		return *refused
	}
	switch {
	case r.retired.Load() != nil:
		r.stop()
		return nil
	case errors.Is(err, dragonboat.ErrReplicaRemoved):
		return fmt.Errorf("this node was removed from the cluster; empty its db-folder and start it with --nexus-join to let it come back: %w", err)
	case errors.Is(err, dragonboat.ErrInvalidShardSettings):
		return fmt.Errorf("the Raft log was begun with other members than %v; restore the folder from a backup, or remove this node and join it anew: %w", r.raft.Members, err)
	}
	return err
}

// stopAgain is how often a replica is told to stop that is being started: it may not
// be known yet.
const stopAgain = 20 * time.Millisecond

// awaitStart returns what comes of a start, which a snapshot may make long. It cuts
// it short when ctx ends or the replica closes or is retired.
func (r *Replica) awaitStart(ctx context.Context, started <-chan error) error {
	select {
	case err := <-started:
		return err
	case <-ctx.Done():
	case <-r.state.Closing():
	case <-r.retiring:
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

// leaveTimeout bounds how long a replica that stops tries to hand over.
const leaveTimeout = 2 * time.Second

// leave hands the log over, where it is this replica's, and stops. It stays a
// little as a follower: the next leader may first have to mend its connection to
// another member, and until then the two of them may be all there is of a majority.
func (r *Replica) leave(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	err := r.TransferLeader(limited, 0)
	switch {
	case err == nil:
		select {
		case <-time.After(r.transferTimeout() * 3 / 2):
		case <-r.state.Closing():
		}
	case !errors.Is(err, errNotLeader) && !errors.Is(err, errNobodyElse):
		r.opts.Log.Warn("stopping without a successor", "vbucket", r.opts.VBucket, "error", err)
	}
	r.stop()
}

// stop ends the replica's part in the log. It may be called again.
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

// PutOut says that the log has no place for this replica any more. The log itself
// says so only to a replica that still hears of the entry that removed it.
func (r *Replica) MarkRemoved() { r.removeOnce.Do(func() { close(r.removed) }) }

// leads returns who leads the log as far as is known here; 0 is nobody.
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

var (
	errNotLeader  = kv.Errorf(kv.Precondition, "this node does not lead the log")
	errNobodyElse = kv.Errorf(kv.Precondition, "there is no other voting member that could lead")
)
