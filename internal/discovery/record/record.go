// Package record keeps the records of databases in the registry: which deployment of which
// era may answer, and which of its standbys may replace it. It is the registry's part of
// internal/standby/DESIGN.md, rules A7 and P4.
//
// Leases are granted in memory, but a change of the registry's owner must not shorten them.
// So the node that grants leases writes into the stored record that it does: it takes the
// record, under a new number. Who takes it assumes that the node before has just granted a
// lease. Each grant is behind a linearizable read that shows the own number, and each change
// is a compare-and-set of all that is stored, the number included. So no node needs to know
// whether it still owns the log: one that does not, or whose change is still under way from
// a time before, finds another number.
package record

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/raft/lease"
	"github.com/dkvdb/dkv/internal/standby"
)

// Log is the log of the registry, as far as records need it.
type Log interface {
	// Read returns the value of a key, linearizably; nil if there is none.
	Read(ctx context.Context, key []byte) ([]byte, error)
	// Swap stores a value if the key still has the former one, nil for none, and returns
	// whether it did. After an error it may still be stored.
	Swap(ctx context.Context, key, former, value []byte) (bool, error)
	// Each calls use with every record that is stored.
	Each(ctx context.Context, use func(key, value []byte)) error
}

// Options configure a Book.
type Options struct {
	Log Log
	// Clock measures leases; nil is the machine's.
	Clock interface{ Now() time.Duration }
	// Limit bounds the number of records; 0 is DefaultLimit.
	Limit int
	// Changed is called after a record was changed here; nil is not. It must not wait.
	Changed func(*peerpb.Record)
}

// DefaultLimit is as many records as the registry accepts databases.
const DefaultLimit = 1000

// Book is the records as one node of the registry serves them. Its methods are safe for
// concurrent use.
type Book struct {
	log     Log
	clock   interface{ Now() time.Duration }
	limit   int
	changed func(*peerpb.Record)

	mu    sync.Mutex
	terms map[string]*term // by database
	// making is held while a record is made, so that the limit is kept.
	making chan struct{}
}

// New returns a Book.
func New(opts Options) *Book {
	b := &Book{log: opts.Log, clock: opts.Clock, limit: opts.Limit, changed: opts.Changed,
		terms: make(map[string]*term), making: make(chan struct{}, 1)}
	if b.clock == nil {
		b.clock = lease.SystemClock{}
	}
	if b.limit == 0 {
		b.limit = DefaultLimit
	}
	if b.changed == nil {
		b.changed = func(*peerpb.Record) {}
	}
	return b
}

// term is what this node knows of a record that is not stored. Only the holder of the turn
// changes it, under Book.mu, and it alone reads it without.
type term struct {
	users int
	// turn is held by the request that is served.
	turn chan struct{}
	// number is the one under which this node has taken the record; 0 if it has not.
	number uint64
	// until is when the last lease ends, by this node's clock; steady is since when leases
	// have not been longer than the record says.
	until, steady time.Duration
}

// enter waits for the turn of a request about a database.
func (b *Book) enter(ctx context.Context, database string) (*term, func(), error) {
	b.mu.Lock()
	t := b.terms[database]
	if t == nil {
		t = &term{turn: make(chan struct{}, 1)}
		b.terms[database] = t
	}
	t.users++
	b.mu.Unlock()
	leave := func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if t.users--; t.users == 0 && t.number == 0 {
			delete(b.terms, database)
		}
	}
	select {
	case t.turn <- struct{}{}:
		return t, func() { <-t.turn; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, nil, kv.Errorf(kv.Unavailable, "another request about the record of database %q is under way: %w", database, context.Cause(ctx))
	}
}

// note changes what is known of a record.
func (b *Book) note(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

// find returns what is stored of a database; nil if it has no record.
func (b *Book) find(ctx context.Context, database string) (*stored, error) {
	raw, err := b.log.Read(ctx, keyOf(database))
	if err != nil || raw == nil {
		return nil, err
	}
	return decode(database, raw)
}

// read is find for the holder of the turn.
func (b *Book) read(ctx context.Context, t *term, database string) (*stored, error) {
	s, err := b.find(ctx, database)
	if s == nil && err == nil {
		b.note(func() { t.number = 0 })
	}
	return s, err
}

// swap replaces what is stored, under the next number: it is this node's from then on. What
// is not known to be stored is forgotten, so that the record is taken before it counts again.
func (b *Book) swap(ctx context.Context, t *term, s *stored, next *peerpb.Record, longest time.Duration) (*stored, error) {
	to, mine := &stored{record: next, number: 1, longest: longest}, true
	var former []byte
	switch {
	case s != nil:
		former, to.number = s.raw, s.number+1
		mine = t.number == s.number
	case next.GetVersion() > 1: // of a record that was lost, of which nodes may know a number
		to.number = next.GetVersion()
	}
	raw, err := to.encode()
	if err != nil {
		return nil, err
	}
	b.note(func() { t.number = 0 })
	switch swapped, err := b.log.Swap(ctx, keyOf(next.GetDatabase()), former, raw); {
	case err != nil:
		return nil, err
	case !swapped:
		return nil, kv.Errorf(kv.Unavailable, "the record of database %q is being changed by another node of the registry: ask again", next.GetDatabase())
	}
	b.note(func() {
		now := b.clock.Now()
		t.number = to.number
		switch {
		case !mine || s == nil:
			// Another node may have granted a lease until just now.
			t.steady = now
			t.until = max(t.until, now+standby.Outlasts(longest))
		case to.lease() > s.lease() || enters(s.record, next):
			// These masters are there, and may have the first such lease yet to come: until then no
			// standby may take it that they have stopped.
			t.until = max(t.until, now+standby.Outlasts(to.lease()))
		}
		if s != nil && to.lease() < s.lease() {
			t.steady = now
		}
	})
	b.changed(next)
	return to, nil
}

// take makes sure that only this node grants leases of a record, and knows until when they
// run.
func (b *Book) take(ctx context.Context, t *term, s *stored) (*stored, error) {
	switch {
	case b.shorter(t, s):
		return b.swap(ctx, t, s, s.record, s.lease())
	case t.number == s.number:
		return s, nil
	default:
		return b.swap(ctx, t, s, s.record, s.longest)
	}
}

// shorter reports whether all leases have ended that were longer than the record's.
func (b *Book) shorter(t *term, s *stored) bool {
	return s.longest > s.lease() && t.number == s.number && b.clock.Now()-t.steady > standby.Outlasts(s.longest)
}

// Get returns the record of a database, nil for none, and for how long a lease may still
// run. It waits for no turn unless the record has to be taken: masters must have their leases in
// time however many others ask.
func (b *Book) Get(ctx context.Context, database string) (*peerpb.Record, time.Duration, error) {
	for {
		s, err := b.find(ctx, database)
		if err != nil || s == nil {
			return nil, 0, err
		}
		if left, known := b.left(database, s); known {
			return s.record, left, nil
		}
		if err := b.takeFor(ctx, database, s); err != nil {
			return nil, 0, err
		}
	}
}

// left returns for how long a lease may still run, if this node knows that of a record.
func (b *Book) left(database string, s *stored) (left time.Duration, known bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.terms[database]
	if t == nil || t.number != s.number {
		return 0, s.longest == 0
	}
	return max(t.until-b.clock.Now(), 0), !b.shorter(t, s)
}

// takeFor takes a record for a reader: otherwise no one would know when the last lease has
// ended. What was read is out of date if another request has taken it meanwhile.
func (b *Book) takeFor(ctx context.Context, database string, read *stored) error {
	t, leave, err := b.enter(ctx, database)
	if err != nil {
		return err
	}
	defer leave()
	if t.number >= read.number && !b.shorter(t, read) {
		return nil
	}
	s, err := b.read(ctx, t, database)
	if err == nil && s != nil && s.longest > 0 {
		_, err = b.take(ctx, t, s)
	}
	return err
}

// Renew grants a lease to a master of the record's era and deployment. It returns the
// record, nil if there is none.
func (b *Book) Renew(ctx context.Context, r *peerpb.RenewRequest) (*peerpb.Record, bool, error) {
	t, leave, err := b.enter(ctx, r.GetDatabase())
	if err != nil {
		return nil, false, err
	}
	defer leave()
	s, err := b.read(ctx, t, r.GetDatabase())
	if err != nil || s == nil {
		return nil, false, err
	}
	if s.record.GetEra() != r.GetEra() || s.record.GetDeployment() != r.GetDeployment() {
		return s.record, false, nil
	}
	if next := withAddress(s.record, r.GetAddress()); next != s.record {
		s, err = b.swap(ctx, t, s, next, s.longest)
	} else {
		s, err = b.take(ctx, t, s)
	}
	if err != nil {
		return nil, false, err
	}
	b.note(func() { t.until = max(t.until, b.clock.Now()+standby.Outlasts(s.lease())) })
	return s.record, true, nil
}

// withAddress returns a record that has the address of a master, as long as there is room.
func withAddress(r *peerpb.Record, addr string) *peerpb.Record {
	if addr == "" || len(r.GetAddresses()) >= maxAddresses || contains(r.GetAddresses(), addr) {
		return r
	}
	out := proto.CloneOf(r)
	out.Addresses = append(out.Addresses, addr)
	return out
}
