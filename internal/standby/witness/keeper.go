package witness

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/raft/lease"
	"github.com/dkvdb/dkv/internal/signal"
	"github.com/dkvdb/dkv/internal/standby"
)

// Masters are the deployment that a node belongs to. Deployment is empty while the node does
// not know it yet.
type Masters struct {
	Era                 uint64
	Deployment, History string
}

// Log is the log of one vBucket.
type Log interface {
	VBucket() string
	// Owned reports whether this node owns the log.
	Owned() bool
	// Tenure grows each time that the log gets another owner.
	Tenure() uint64
	// Ask returns the standing set of a log that this node owns, after all that was proposed
	// before. An error says that the log accepts nothing.
	Ask(ctx context.Context) (standby.Set, error)
}

// Standing is what the logs of a node say of the record.
type Standing interface {
	// Logs returns those of all vBuckets, in hash order.
	Logs() []Log
	// SetRegistered writes into the first log that the database has a record.
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
	// Changed is raised when a log may have got another owner; nil if that is looked for only.
	Changed *signal.Signal
	// Clock is the machine's if it is nil.
	Clock lease.Clock
	Log   *slog.Logger
}

// Keeper keeps the record's lease for the vBuckets of a node, while Run runs. The other
// methods are safe for concurrent use.
type Keeper struct {
	opts  Options
	clock lease.Clock
	// gates are those of all vBuckets, in hash order.
	gates []*Gate
	// until is when the lease ends, by the clock; 0 before the first.
	until atomic.Int64
	// silent means that the last request got no answer.
	silent atomic.Bool

	mu sync.Mutex
	// why is why there is no lease, record what the registry has answered last. newest is the
	// greatest version of a record of these masters that this node has read or made.
	why    error
	record *peerpb.Record
	newest uint64
	// asking are the questions that are under way, and answered is raised after each answer.
	asking   sync.WaitGroup
	answered signal.Signal
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
	if k.opts.Changed == nil {
		k.opts.Changed = new(signal.Signal)
	}
	if k.opts.Standing != nil {
		for _, l := range k.opts.Standing.Logs() {
			k.gates = append(k.gates, &Gate{keeper: k, log: l})
		}
	}
	return k
}

// Valid reports whether the node has the lease now, for one of its logs at least.
func (k *Keeper) Valid() bool { return int64(k.clock.Now()) < k.until.Load() }

// Held returns why the node has no lease; nil if it has one for one of its logs at least.
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

// Fault returns why a node that owns logs has no lease, or none for one of them; nil if it has
// one for all, or owns none.
func (k *Keeper) Fault() error {
	if err := k.Held(); err != nil {
		if errors.Is(err, errIdle) {
			return nil
		}
		return err
	}
	_, err := k.closed()
	return err
}

// Refusal returns why a log, by its position, has no lease; nil if it has.
func (k *Keeper) Refusal(i int) error { return k.gates[i].held() }

// closed returns the first log that stays without the lease, and why; nil if there is none.
func (k *Keeper) closed() (*Gate, error) {
	for _, g := range k.gates {
		if g.log.Owned() && g.tried() {
			if err := g.held(); err != nil {
				return g, kv.Errorf(kv.Unavailable, "vBucket %s: %w", g.log.VBucket(), err)
			}
		}
	}
	return nil, nil
}

// Silent reports whether the registry does not answer this node: it could answer nothing as the
// owner of a log.
func (k *Keeper) Silent() bool { return k.silent.Load() }

// Lapsing reports whether the registry does not answer and the lease has ended, or is about to: a
// node that the registry answers should own the logs.
func (k *Keeper) Lapsing() bool { return k.Silent() && k.Remaining() < k.opts.Lease/share }

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

// soon bounds the pause after a renewal that failed: nothing is answered meanwhile, as while the
// record is being made.
const soon = time.Second

// Run renews the lease until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	defer k.asking.Wait()
	for said := ""; ctx.Err() == nil; {
		pause := k.opts.Lease / share
		err := k.renew(ctx)
		switch {
		case errors.Is(err, errIdle): // it is woken when it gains a log
			pause /= 2
		case err != nil:
			pause = min(pause/2, soon)
		}
		said = k.report(ctx, err, said)
		k.rest(ctx, pause)
	}
	return nil
}

// report logs how a renewal has ended unless it was said before, and returns what was said.
func (k *Keeper) report(ctx context.Context, err error, said string) string {
	granted := err == nil
	if granted {
		_, err = k.closed()
	}
	text := textOf(err)
	if text == said || ctx.Err() != nil {
		return said
	}
	switch {
	case errors.Is(err, errIdle): // there is nothing that it could answer
	case err != nil && granted:
		k.opts.Log.Warn("this node has a lease of the registry, but not for all of its logs: the others answer nothing", "error", err)
	case err != nil:
		k.opts.Log.Warn("this node gets no lease of the registry; it stops answering when the last one ends", "error", err)
	default:
		k.opts.Log.Info("this node has a lease of the registry", "lease", k.opts.Lease)
	}
	return text
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// renew asks for the lease once, for the logs that this node owns by now.
func (k *Keeper) renew(ctx context.Context) error {
	owned := k.owned()
	defer k.settled(owned, tenures(owned))
	limited, cancel := context.WithTimeout(ctx, k.opts.Lease)
	defer cancel()
	self := k.opts.Masters()
	if self.Deployment == "" {
		return k.failed(nil, kv.Errorf(kv.Unavailable, "this node does not know yet which masters it belongs to"))
	}
	if len(owned) == 0 {
		return k.idle(limited, self)
	}
	accepting, err := k.inquire(ctx, owned, k.Record())
	if err == nil {
		err = k.probe(limited)
	}
	if err != nil {
		return k.failed(k.Record(), err)
	}
	newest := k.version()
	record, until, err := k.ask(limited, self)
	if err != nil {
		return k.failed(record, err)
	}
	record, listed, err := k.listed(limited, ctx, record, newest, accepting)
	if err != nil {
		return k.failed(record, err)
	}
	if err := k.registered(limited, record, listed); err != nil {
		return k.failed(record, err)
	}
	if listed = slices.DeleteFunc(listed, func(g *Gate) bool { return g.why != nil }); len(listed) == 0 {
		return k.failed(record, k.gates[0].why)
	}
	k.granted(record, until, listed)
	return nil
}

// ask asks the registry for the lease. It returns the record, and until when the lease lasts that
// it has granted.
func (k *Keeper) ask(ctx context.Context, self Masters) (*peerpb.Record, time.Duration, error) {
	began := k.clock.Now() // before the request is sent: the registry counts from later
	res, err := k.opts.Registry.Renew(ctx, &peerpb.RenewRequest{
		Database: k.opts.Database, Era: self.Era, Deployment: self.Deployment, Address: k.opts.Address,
	})
	k.silent.Store(err != nil)
	if err != nil {
		return k.Record(), 0, kv.Errorf(kv.Unavailable, "the registry grants no lease (auto-promote-after): %w", err)
	}
	record := res.GetRecord()
	if !res.GetGranted() {
		return record, 0, k.refused(ctx, self, record)
	}
	// The registry has counted this length: what follows may read a later record with another one.
	return record, began + time.Duration(record.GetLeaseMillis())*time.Millisecond, nil
}

// probe asks without effect after a request that got no answer: a node that hears nothing while
// it is heard would keep leases running that it cannot use, and the standby waiting.
func (k *Keeper) probe(ctx context.Context) error {
	if !k.silent.Load() {
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

// learn notes the version of a record that was read, or replaces what was known of one that has
// gone back.
func (k *Keeper) learn(version uint64, back bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if back {
		k.newest = 0
	}
	k.newest = max(k.newest, version)
}

// granted records a lease for some logs.
func (k *Keeper) granted(record *peerpb.Record, until time.Duration, listed []*Gate) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.why, k.record = nil, record
	k.until.Store(max(k.until.Load(), int64(until)))
	for _, g := range listed {
		g.extend(until)
	}
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
	for _, g := range k.gates {
		g.opened.Store(nil)
	}
	if superseded {
		k.once.Do(func() { close(k.superseded) })
	}
}

// first makes the record if the log says that there never was one. It returns why there is
// no lease yet.
func (k *Keeper) first(ctx context.Context, self Masters) error {
	first := k.gates[0].log
	if !first.Owned() {
		return kv.Errorf(kv.Unavailable, "database %q has no record in the registry yet: the owner of its first vBucket makes it", k.opts.Database)
	}
	set, err := first.Ask(ctx)
	switch {
	case err != nil:
		return kv.Errorf(kv.Unavailable, "whether database %q has had a record in the registry is not known: %w", k.opts.Database, err)
	case set.Registered:
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

// registered makes the first log say that there is a record, and the record say how long leases
// last, before the first log's owner answers for the first time. If that fails, the first log gets
// no lease, and the others do.
func (k *Keeper) registered(ctx context.Context, record *peerpb.Record, listed []*Gate) error {
	if first := k.gates[0]; slices.Contains(listed, first) {
		limited, cancel := context.WithTimeout(ctx, k.opts.Lease/share)
		defer cancel()
		var err error
		if !first.said.set.Registered {
			if err = k.opts.Standing.SetRegistered(limited); err != nil {
				err = kv.Errorf(kv.Unavailable, "the log does not say yet that database %q has a record in the registry: %w", k.opts.Database, err)
			}
		}
		if err == nil {
			err = k.setLength(limited, record)
		}
		if err != nil && record.GetLeaseMillis() == 0 {
			return err
		}
		k.because(first, err)
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
