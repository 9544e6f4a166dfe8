// Package cluster adds members to a Raft cluster and removes them, in all vBuckets
// alike, moves and spreads leaders, and watches which members can be reached.
// DESIGN.md says what is durable after each step of a change.
package cluster

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/certs"
	"github.com/dkvdb/dkv/internal/clock"
	"github.com/dkvdb/dkv/internal/cluster/bootstrap"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/task"
	"github.com/dkvdb/dkv/internal/timing"
)

// Raft is what the package needs of a vBucket's replica; raft.Replica is one.
type Raft interface {
	Owner() replica.Owner
	Status() replica.Status
	Members() map[uint64]replica.Member
	Membership(ctx context.Context) (replica.Membership, error)
	Add(ctx context.Context, id uint64, address string, version uint64) error
	Promote(ctx context.Context, id uint64, address string, version uint64) error
	Remove(ctx context.Context, id, version uint64) error
	SetMember(ctx context.Context, id uint64, m replica.Member) error
	TransferLeader(ctx context.Context, to uint64) error
	// Leave tells the replica that its node is to stop.
	Leave()
	// Restoring reports whether a backup is being restored here, which ends without effect if
	// another member becomes the leader.
	Restoring() bool
	// Prefer says which members are worth trying first when another one has to
	// lead.
	Prefer(fit func(id uint64) bool)
	Snapshot(ctx context.Context) error
	// Continues reports whether the log began with an earlier state, so that every member
	// has to have taken a Snapshot before another one is added.
	Continues() bool
	// Applied is Status().AppliedIndex, at little cost.
	Applied() kv.Index
	// HearLeader tells the replica that a member has said that it leads in a term.
	HearLeader(id, term uint64)
	MarkRemoved()
	// Format is the format of the log, which every member understands.
	Format() uint32
	// Retire stops the replica for good.
	Retire(reason error)
	// TimingSetting is what the log has recorded as the members' timing.
	TimingSetting() timing.Setting
	// Reached tells the replica that it had applied an index before this start. The
	// error says that its disk does not hold that index.
	Reached(index kv.Index) error
}

// Log is a vBucket's replica with its name.
type Log struct {
	VBucket string
	Raft
}

// Options configure a Cluster.
type Options struct {
	Identity *bootstrap.Identity
	// Logs are the vBuckets, in hash order; at least one.
	Logs []Log
	// Certs are the node's certificates, for the Raft ports of nodes that wait to be
	// invited; nil means that there is no TLS.
	Certs *certs.Store
	// Pool reaches the members' gRPC servers; it stays the caller's.
	Pool *peer.Pool
	// Terms is what a node must have in common with the cluster.
	Terms bootstrap.Terms
	// Clock is the node's clock; nil means one of its own.
	Clock *clock.Clock
	// SnapshotInterval is how often the state of each vBucket is made durable and its log cut;
	// 0 means never by time.
	SnapshotInterval time.Duration
	// Aside reports whether this node can answer nothing for long as the leader of a vBucket, since
	// the registry does not answer it; nil is never.
	Aside func() bool
	// Tasks is where the changes that take a while say how far they are; nil means nowhere.
	Tasks *task.List
	Log   *slog.Logger
}

// Cluster is the cluster as one of its members sees it. It serves DKVCluster and
// Members.
type Cluster struct {
	serverpb.UnimplementedDKVClusterServer
	peerpb.UnimplementedMembersServer
	self   *bootstrap.Identity
	logs   []Log
	pool   *peer.Pool
	terms  bootstrap.Terms
	client *bootstrap.Client
	clock  *clock.Clock
	tasks  *task.List
	log    *slog.Logger
	// aside is Options.Aside.
	aside func() bool

	snapshotInterval time.Duration

	// changing holds a token while a change of the membership is under way here.
	changing chan struct{}
	// seen are the members that have answered recently, by replica id.
	seen atomic.Pointer[map[uint64]sighting]
	// looked reports whether the members were asked since the start.
	looked atomic.Bool
	// patience bounds the attempts at one step of a change.
	patience time.Duration

	// confirmed is how many members answered Confirm; takesPart is set by TakePart.
	confirmed atomic.Int32
	takesPart atomic.Bool
	takeOnce  sync.Once
	// called is closed when another member has asked this one.
	called   chan struct{}
	callOnce sync.Once
	// retired is why this node must not take part in the cluster; nil while it may.
	retired atomic.Pointer[error]
	// judging guards what is recorded about other members' starts. suspects are the
	// starts of members whose disks are older copies.
	judging  sync.Mutex
	suspects map[uint64]bootstrap.Start
	// reached is what the members have said that they had applied.
	reached map[uint64]reached

	// timing is the newest setting of the members' timing that others have reported.
	timing atomic.Pointer[timing.Setting]

	mu sync.Mutex
	// known is the membership that a majority confirmed last.
	known replica.Membership
}

// New returns a Cluster, which watches the members once Run is called.
func New(opts Options) *Cluster {
	c := &Cluster{
		self:   opts.Identity,
		logs:   opts.Logs,
		pool:   opts.Pool,
		terms:  opts.Terms,
		client: bootstrap.NewClient(opts.Certs, opts.Log),
		clock:  opts.Clock,
		tasks:  opts.Tasks,
		log:    opts.Log,
		aside:  opts.Aside,

		snapshotInterval: opts.SnapshotInterval,

		changing: make(chan struct{}, 1),
		patience: stepPatience,
		called:   make(chan struct{}),
		suspects: make(map[uint64]bootstrap.Start),
		reached:  make(map[uint64]reached),
	}
	if c.clock == nil {
		c.clock = clock.New(clock.Options{Member: true, Log: opts.Log})
	}
	c.seen.Store(&map[uint64]sighting{})
	c.timing.Store(&timing.Setting{})
	for _, l := range c.logs {
		l.Prefer(func(id uint64) bool { return c.fit(l.VBucket, id) })
	}
	return c
}

// Run watches the members, invites the first members, and spreads leaders, until ctx
// ends; then it tells the logs that the node is to stop. It returns an error if the node is
// configured with another timing than the cluster. Call Confirm first.
func (c *Cluster) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	c.run(ctx, stop)
	for _, l := range c.logs {
		l.Leave()
	}
	if err := context.Cause(ctx); errors.Is(err, ErrTiming) {
		return err
	}
	return nil
}

// run is Run, which stop ends with an error.
func (c *Cluster) run(ctx context.Context, stop func(error)) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		if err := c.watch(ctx); err != nil {
			stop(err)
		}
	})
	wg.Go(func() { c.compareClocks(ctx) })
	wg.Go(func() { c.balance(ctx) })
	wg.Go(func() { c.stepAside(ctx) })
	wg.Go(func() { c.snapshotByTime(ctx) })
	wg.Go(func() {
		if err := c.self.InviteRest(ctx, c.standing); err != nil && ctx.Err() == nil {
			c.log.Warn("the first members cannot be invited", "error", err)
		}
	})
	wg.Go(func() {
		err := c.client.RefuseEmpty(ctx, watchInterval, c.silent, func(k bootstrap.Known) {
			c.log.Warn("a member came back without its disk and was rejected", "member", k.Replica, "url", k.URL)
		})
		if err != nil && ctx.Err() == nil {
			c.log.Warn("members without their disks cannot be rejected", "error", err)
		}
	})
}

// joinTerms returns what a node must have in common with the cluster to become a member.
func (c *Cluster) joinTerms() bootstrap.Terms {
	terms := c.terms
	terms.Format = 0
	if s := c.first().TimingSetting(); s.Known() {
		terms.Timing = s
	}
	for _, l := range c.logs {
		terms.Format = max(terms.Format, l.Format())
	}
	return terms
}

// first is the vBucket whose membership stands for all: nodes are added to it
// first and removed from it last.
func (c *Cluster) first() Log { return c.logs[0] }

// membership asks a majority who the members are.
func (c *Cluster) membership(ctx context.Context) (replica.Membership, error) {
	m, err := c.first().Membership(ctx)
	if err != nil {
		return m, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known = m
	return m, nil
}

// lastKnown returns the members that a majority confirmed last, or, before that, those
// in the local state. Their addresses are always those in the local state.
func (c *Cluster) lastKnown() replica.Membership {
	c.mu.Lock()
	m := c.known
	c.mu.Unlock()
	records := c.first().Members()
	if len(m.Peers) > 0 {
		m.Peers = slices.Clone(m.Peers)
		for i := range m.Peers {
			m.Peers[i].Member = records[m.Peers[i].ID]
		}
		return m
	}
	for _, id := range slices.Sorted(maps.Keys(records)) {
		member := records[id]
		if c.reserved(id, member) {
			continue
		}
		m.Peers = append(m.Peers, replica.Peer{ID: id, Member: member, Address: member.RaftAddress, Voting: true})
	}
	return m
}

// reserved reports whether the record is that of another node that is no member with a vote yet.
func (c *Cluster) reserved(id uint64, m replica.Member) bool {
	_, first := c.self.Members[id]
	return id != c.self.Replica && m.Reserved(first)
}

// asError turns an error of package bootstrap into one for clients.
func asError(err error) error {
	switch {
	case errors.Is(err, bootstrap.ErrConfig):
		return kv.Errorf(kv.Invalid, "%w", err)
	case errors.Is(err, bootstrap.ErrNoAnswer), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return kv.Errorf(kv.Unavailable, "%w", err)
	default:
		return kv.Errorf(kv.Precondition, "%w", err)
	}
}
