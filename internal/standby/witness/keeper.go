package witness

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/raft/lease"
	"github.com/dkvdb/dkv/internal/signal"
)

// Masters are the deployment that a node belongs to. Deployment is empty while the node does
// not know it yet.
type Masters struct {
	Era                 uint64
	Deployment, History string
}

// Standing is what the logs that this node owns say of the record, above all that of the first
// vBucket.
type Standing interface {
	// Owns reports whether this node owns the log of the first vBucket.
	Owns() bool
	// Owned returns the names of all vBuckets whose logs it owns.
	Owned() []string
	// Unlisted returns the disks of standbys that do not stand in one of those logs, at their
	// level at least, asked linearizably.
	Unlisted(ctx context.Context, standbys []*peerpb.StandbyNode) ([]string, error)
	// Accept returns nil if each of those logs accepts a question now.
	Accept(ctx context.Context) error
	// Registered reports whether the database has ever had a record.
	Registered(ctx context.Context) (bool, error)
	// SetRegistered writes that it has one.
	SetRegistered(ctx context.Context) error
	// Leased returns nil if the logs of all vBuckets say that their owners need the lease.
	Leased(ctx context.Context) error
}

// Options configure a Keeper.
type Options struct {
	Registry Registry
	Database string
	// Address is the host:port at which this node serves gRPC.
	Address string
	// Lease is how long leases last. Masters of one deployment have the same.
	Lease time.Duration
	// Masters is asked before each renewal.
	Masters  func() Masters
	Standing Standing
	// Clock is the machine's if it is nil.
	Clock lease.Clock
	Log   *slog.Logger
}

// Keeper keeps the record's lease for all vBuckets of a node, while Run runs. The other
// methods are safe for concurrent use.
type Keeper struct {
	opts  Options
	clock lease.Clock
	// until is when the lease ends, by the clock; 0 before the first.
	until atomic.Int64

	mu sync.Mutex
	// why is why there is no lease, record what the registry has answered last. newest is the
	// greatest version of a record of these masters that this node has read or made.
	why    error
	record *peerpb.Record
	newest uint64
	// silent means that the last request got no answer.
	silent bool
	// checked and of are the record and the vBuckets with which the logs were last asked for the
	// record's standbys. Only Run uses them.
	checked *peerpb.Record
	of      []string
	// superseded is closed when the record is of a greater era.
	superseded chan struct{}
	once       sync.Once
	// changed is raised when the lease or the record may have changed.
	changed signal.Signal
}

// New returns a Keeper without a lease.
func New(opts Options) *Keeper {
	k := &Keeper{opts: opts, clock: opts.Clock, superseded: make(chan struct{}),
		why: kv.Errorf(kv.Unavailable, "the registry has not been asked for a lease yet (auto-promote-after)")}
	if k.clock == nil {
		k.clock = lease.SystemClock{}
	}
	if k.opts.Log == nil {
		k.opts.Log = slog.New(slog.DiscardHandler)
	}
	return k
}

// Valid reports whether the node has the lease now.
func (k *Keeper) Valid() bool { return int64(k.clock.Now()) < k.until.Load() }

// Held returns why the node has no lease; nil if it has. What was found before a call that
// returns nil may be answered.
func (k *Keeper) Held() error {
	if k.Valid() {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.why != nil {
		return k.why
	}
	return kv.Errorf(kv.Unavailable, "the lease of the registry has ended and could not be renewed in time (auto-promote-after)")
}

// Fault returns why a node that owns logs has no lease; nil if it has one, or owns none.
func (k *Keeper) Fault() error {
	if err := k.Held(); !errors.Is(err, errIdle) {
		return err
	}
	return nil
}

// Record returns the record as the registry has answered it last; nil for none.
func (k *Keeper) Record() *peerpb.Record {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.record
}

// Superseded is closed when the registry has a record of a greater era: a promotion has
// replaced the masters of this node.
func (k *Keeper) Superseded() <-chan struct{} { return k.superseded }

// Changed returns a channel that is closed when the lease or the record may have changed.
func (k *Keeper) Changed() <-chan struct{} { return k.changed.Changed() }

// share is the part of a lease after which it is renewed.
const share = 4

// Run renews the lease until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	for said := ""; ctx.Err() == nil; {
		pause := k.opts.Lease / share
		err := k.renew(ctx)
		if err != nil {
			pause /= 2
		}
		if text := textOf(err); text != said && ctx.Err() == nil {
			said = text
			switch {
			case errors.Is(err, errIdle): // there is nothing that it could answer
			case err != nil:
				k.opts.Log.Warn("this node gets no lease of the registry; it stops answering when the last one ends", "error", err)
			default:
				k.opts.Log.Info("this node has a lease of the registry", "lease", k.opts.Lease)
			}
		}
		k.rest(ctx, pause)
	}
	return nil
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// renew asks for the lease once.
func (k *Keeper) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, k.opts.Lease)
	defer cancel()
	self := k.opts.Masters()
	if self.Deployment == "" {
		return k.failed(nil, kv.Errorf(kv.Unavailable, "this node does not know yet which masters it belongs to"))
	}
	owned := k.opts.Standing.Owned()
	if len(owned) == 0 {
		return k.idle(ctx, self)
	}
	known, err := k.known(ctx)
	if err == nil {
		err = k.probe(ctx)
	}
	if err != nil {
		return k.failed(k.Record(), err)
	}
	newest := k.version()
	began := k.clock.Now() // before the request is sent: the registry counts from later
	res, err := k.opts.Registry.Renew(ctx, &peerpb.RenewRequest{
		Database: k.opts.Database, Era: self.Era, Deployment: self.Deployment, Address: k.opts.Address,
	})
	k.silent = err != nil
	if err != nil {
		return k.failed(k.Record(), kv.Errorf(kv.Unavailable, "the registry grants no lease (auto-promote-after): %w", err))
	}
	record := res.GetRecord()
	if !res.GetGranted() {
		return k.failed(record, k.refused(ctx, self, record))
	}
	if err := k.wentBack(ctx, record, newest); err != nil {
		return k.failed(record, err)
	}
	// The registry has counted this length: what follows may read a later record with another one.
	until := began + time.Duration(record.GetLeaseMillis())*time.Millisecond
	if record, err = k.listed(ctx, record, owned); err != nil {
		return k.failed(record, err)
	}
	if err := k.registered(ctx, record, known); err != nil {
		return k.failed(record, err)
	}
	k.granted(record, until)
	return nil
}

// probe asks without effect after a request that got no answer: a node that hears nothing while
// it is heard would keep leases running that it cannot use, and the standby waiting.
func (k *Keeper) probe(ctx context.Context) error {
	if !k.silent {
		return nil
	}
	if _, err := k.opts.Registry.GetRecord(ctx, &peerpb.GetRecordRequest{Database: k.opts.Database}); err != nil {
		return kv.Errorf(kv.Unavailable, "the registry does not answer (auto-promote-after): %w", err)
	}
	return nil
}

// version is the greatest version of the record that this node knows.
func (k *Keeper) version() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.newest
}

// wentBack takes all standbys out of a record that is older than newest, which was known before
// the registry was asked: it has been restored from a backup, and the logs may wait for other
// standbys by now. The standing ones are entered again.
func (k *Keeper) wentBack(ctx context.Context, record *peerpb.Record, newest uint64) error {
	if record.GetVersion() >= newest {
		k.mu.Lock()
		k.newest = max(k.newest, record.GetVersion())
		k.mu.Unlock()
		return nil
	}
	left := record
	if disks := disksOf(record); len(disks) > 0 {
		var err error
		if left, err = k.leave(ctx, disks); err != nil {
			return kv.Errorf(kv.Unavailable, "the record of database %q in the registry has gone back from version %d to %d, and its standbys cannot be taken out yet: %w", k.opts.Database, newest, record.GetVersion(), err)
		}
	}
	k.mu.Lock()
	k.newest = left.GetVersion()
	k.mu.Unlock()
	return kv.Errorf(kv.Unavailable, "the record of database %q in the registry has gone back from version %d to %d, as after a restore of the registry; its standbys are entered again", k.opts.Database, newest, record.GetVersion())
}

// granted records a lease.
func (k *Keeper) granted(record *peerpb.Record, until time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.why, k.record = nil, record
	k.until.Store(max(k.until.Load(), int64(until)))
	k.changed.Raise()
}

// failed records why a renewal failed. The lease that runs stays.
func (k *Keeper) failed(record *peerpb.Record, err error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.why, k.record = err, record
	k.changed.Raise()
	return err
}

// refused returns why the registry has rejected a renewal, and makes the record if there
// never was one.
func (k *Keeper) refused(ctx context.Context, self Masters, record *peerpb.Record) error {
	switch {
	case record == nil:
		return k.first(ctx, self)
	case record.GetEra() > self.Era:
		k.revoke(true)
		return kv.Errorf(kv.Precondition, "a promotion has replaced these masters of era %d: those of era %d answer, at %v", self.Era, record.GetEra(), record.GetAddresses())
	case record.GetEra() < self.Era:
		return kv.Errorf(kv.Unavailable, "the record of database %q in the registry is of era %d, older than these masters' era %d: if no others answer, give it to them: dkvctl -claim",
			k.opts.Database, record.GetEra(), self.Era)
	default:
		k.revoke(false)
		return kv.Errorf(kv.Unavailable, "the record of database %q in the registry names the masters %s of era %d, and this node is of %s: if those are gone, dkvctl -claim",
			k.opts.Database, record.GetDeployment(), record.GetEra(), self.Deployment)
	}
}

// revoke ends the lease that runs: an operator has given the record to other masters by
// force, or they are of a greater era.
func (k *Keeper) revoke(superseded bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.until.Store(0)
	if superseded {
		k.once.Do(func() { close(k.superseded) })
	}
}

// first makes the record if the log says that there never was one. It returns why there is
// no lease yet.
func (k *Keeper) first(ctx context.Context, self Masters) error {
	if !k.opts.Standing.Owns() {
		return kv.Errorf(kv.Unavailable, "database %q has no record in the registry yet: the owner of its first vBucket makes it", k.opts.Database)
	}
	was, err := k.opts.Standing.Registered(ctx)
	switch {
	case err != nil:
		return kv.Errorf(kv.Unavailable, "whether database %q has had a record in the registry is not known: %w", k.opts.Database, err)
	case was:
		return kv.Errorf(kv.Unavailable, "the record of database %q in the registry was lost: if no other masters answer, make it again: dkvctl -claim", k.opts.Database)
	}
	made := k.wanted(self, nil)
	made.LeaseMillis = 0 // until all owners know that they need the lease
	_, err = k.change(ctx, &peerpb.ChangeRecordRequest{Record: made})
	if err != nil {
		return kv.Errorf(kv.Unavailable, "the record of database %q in the registry cannot be made: %w", k.opts.Database, err)
	}
	return kv.Errorf(kv.Unavailable, "the record of database %q in the registry was made, and the lease comes next", k.opts.Database)
}

// wanted returns the record as the masters want it, with the standbys of the present one.
func (k *Keeper) wanted(self Masters, present *peerpb.Record) *peerpb.Record {
	return &peerpb.Record{
		Database: k.opts.Database, Era: self.Era, Deployment: self.Deployment, History: self.History,
		Standbys: present.GetStandbys(), LeaseMillis: uint64(k.opts.Lease.Milliseconds()), Addresses: present.GetAddresses(),
	}
}

// registered makes the log say that there is a record, and the record say how long leases
// last, before the first answer. known means that the log said so before the request.
func (k *Keeper) registered(ctx context.Context, record *peerpb.Record, known bool) error {
	if k.opts.Standing.Owns() {
		if !known {
			if err := k.opts.Standing.SetRegistered(ctx); err != nil {
				return kv.Errorf(kv.Unavailable, "the log does not say yet that database %q has a record in the registry: %w", k.opts.Database, err)
			}
		}
		if err := k.setLength(ctx, record); err != nil {
			return err
		}
	}
	if record.GetLeaseMillis() == 0 {
		return kv.Errorf(kv.Unavailable, "the record of database %q in the registry says that masters need no lease: its first vBucket's owner changes that (auto-promote-after)", k.opts.Database)
	}
	return nil
}

// setLength changes how long leases last, for the renewals that follow.
func (k *Keeper) setLength(ctx context.Context, record *peerpb.Record) error {
	if record.GetLeaseMillis() == uint64(k.opts.Lease.Milliseconds()) {
		return nil
	}
	if err := k.opts.Standing.Leased(ctx); err != nil {
		return kv.Errorf(kv.Unavailable, "not all owners of logs know yet that they need the lease of the registry: %w", err)
	}
	_, err := k.change(ctx, &peerpb.ChangeRecordRequest{Record: k.wanted(k.opts.Masters(), record), Expected: record.GetVersion()})
	if err != nil {
		return kv.Errorf(kv.Unavailable, "the length of leases in the record of database %q cannot be changed: %w", k.opts.Database, err)
	}
	return nil
}
