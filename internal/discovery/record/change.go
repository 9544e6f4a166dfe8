package record

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/kv"
)

func contains(all []string, one string) bool { return slices.Contains(all, one) }

// Change makes the record of a database, or changes it if it has the expected version, or
// takes disks out of its standbys. It returns the record, nil if there is none.
func (b *Book) Change(ctx context.Context, r *peerpb.ChangeRecordRequest) (*peerpb.Record, error) {
	database := r.GetRecord().GetDatabase()
	t, leave, err := b.enter(ctx, database)
	if err != nil {
		return nil, err
	}
	defer leave()
	s, err := b.read(ctx, t, database)
	if err != nil {
		return nil, err
	}
	want := proto.CloneOf(r.GetRecord())
	want.Version = r.GetExpected() + 1
	switch {
	case s == nil && len(r.GetLeaving()) > 0:
		return nil, nil // there is nothing that names them
	case s == nil && r.GetExpected() == 0:
		return b.first(ctx, t, want)
	case s == nil:
		return nil, kv.Errorf(kv.NotFound, "database %q has no record, and version %d was expected: it was lost; make it again with dkvctl -claim", database, r.GetExpected())
	case s.record.GetEra() != want.GetEra() || s.record.GetDeployment() != want.GetDeployment():
		return nil, anotherEra(s.record, want.GetEra(), want.GetDeployment())
	case len(r.GetLeaving()) > 0:
		want = proto.CloneOf(s.record)
		want.Standbys = slices.DeleteFunc(want.Standbys, func(n *peerpb.StandbyNode) bool { return contains(r.GetLeaving(), n.GetDisk()) })
	case same(s.record, want):
		return s.record, nil // by an earlier attempt
	case s.record.GetVersion() != r.GetExpected():
		return nil, kv.Errorf(kv.Precondition, "the record of database %q has version %d, and %d was expected: read it again", database, s.record.GetVersion(), r.GetExpected())
	}
	want.Version = s.record.GetVersion() + 1
	next, err := b.swap(ctx, t, s, want, max(s.longest, leaseOf(want)))
	if err != nil {
		return nil, err
	}
	return next.record, nil
}

// enters reports whether a record has a standby that it had not before.
func enters(before, now *peerpb.Record) bool {
	return slices.ContainsFunc(now.GetStandbys(), func(n *peerpb.StandbyNode) bool {
		return !slices.ContainsFunc(before.GetStandbys(), func(o *peerpb.StandbyNode) bool { return o.GetDisk() == n.GetDisk() })
	})
}

// same compares records, but for their addresses, which masters add to when they ask.
func same(a, b *peerpb.Record) bool {
	a, b = proto.CloneOf(a), proto.CloneOf(b)
	a.Addresses, b.Addresses = nil, nil
	return proto.Equal(a, b)
}

func leaseOf(r *peerpb.Record) time.Duration {
	return time.Duration(r.GetLeaseMillis()) * time.Millisecond
}

func anotherEra(r *peerpb.Record, era uint64, deployment string) error {
	return kv.Errorf(kv.Precondition, "the record of database %q is of era %d and deployment %s, not of era %d and deployment %s: a promotion has replaced those masters",
		r.GetDatabase(), r.GetEra(), r.GetDeployment(), era, deployment)
}

// first makes the record of a database that has none.
func (b *Book) first(ctx context.Context, t *term, want *peerpb.Record) (*peerpb.Record, error) {
	if len(want.GetStandbys()) > 0 {
		return nil, kv.Errorf(kv.Invalid, "the first record of database %q names standbys: make it without, and add them then", want.GetDatabase())
	}
	return b.make(ctx, t, want)
}

// make stores a record where there is none, as long as there is room.
func (b *Book) make(ctx context.Context, t *term, want *peerpb.Record) (*peerpb.Record, error) {
	select {
	case b.making <- struct{}{}:
		defer func() { <-b.making }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	n := 0
	if err := b.log.Each(ctx, func(_, _ []byte) { n++ }); err != nil {
		return nil, err
	}
	if n >= b.limit {
		return nil, kv.Errorf(kv.Exhausted, "the registry has the records of %d databases, which is the limit; there is no room for database %q", n, want.GetDatabase())
	}
	s, err := b.swap(ctx, t, nil, want, leaseOf(want))
	if err != nil {
		return nil, err
	}
	return s.record, nil
}

// Claim gives the next era to a node of a promotion, or says why not and when to ask again.
func (b *Book) Claim(ctx context.Context, r *peerpb.ClaimRequest) (*peerpb.ClaimResponse, error) {
	t, leave, err := b.enter(ctx, r.GetDatabase())
	if err != nil {
		return nil, err
	}
	defer leave()
	s, err := b.read(ctx, t, r.GetDatabase())
	if damaged := kv.KindOf(err) == kv.Corrupt && s != nil && restates(r); damaged {
		return b.claimLost(ctx, t, s, r)
	}
	if err != nil {
		return nil, err
	}
	if s == nil {
		return b.claimLost(ctx, t, nil, r)
	}
	if why := rejects(s.record, r); why != "" || holds(s.record, r) {
		return &peerpb.ClaimResponse{Given: why == "", Record: s.record, Reason: why}, nil
	}
	if !r.GetFenced() && !r.GetForce() {
		if s, err = b.take(ctx, t, s); err != nil {
			return nil, err
		}
		if left := t.until - b.clock.Now(); left > 0 {
			return &peerpb.ClaimResponse{Record: s.record, RetryMillis: uint64(left.Milliseconds()) + 1,
				Reason: fmt.Sprintf("a master may hold a lease for %v more", left.Round(time.Millisecond))}, nil
		}
	}
	next := claimed(r)
	next.Version, next.LeaseMillis = s.record.GetVersion()+1, s.record.GetLeaseMillis()
	if s, err = b.swap(ctx, t, s, next, s.longest); err != nil {
		return nil, err
	}
	return &peerpb.ClaimResponse{Given: true, Record: s.record}, nil
}

// holds reports whether a record is the one that a claim has led to.
func holds(r *peerpb.Record, claim *peerpb.ClaimRequest) bool {
	return r.GetDeployment() == claim.GetPromotion() && r.GetEra() == becomes(claim)
}

// restates reports whether masters that are there claim a record for the era that they have,
// which may be 0.
func restates(r *peerpb.ClaimRequest) bool {
	return r.GetForce() && (r.GetBecomes() > 0 || r.GetLeaseMillis() > 0)
}

func becomes(r *peerpb.ClaimRequest) uint64 {
	if restates(r) {
		return r.GetBecomes()
	}
	return r.GetEra() + 1
}

// claimed returns the record of a claim, but for version and lease.
func claimed(r *peerpb.ClaimRequest) *peerpb.Record {
	return &peerpb.Record{Database: r.GetDatabase(), Era: becomes(r), Deployment: r.GetPromotion(), History: r.GetHistory(),
		Addresses: slices.Clone(r.GetAddresses())}
}

// rejects returns why a claim will never be given; empty if it may be.
func rejects(have *peerpb.Record, r *peerpb.ClaimRequest) string {
	isStandby := func(n *peerpb.StandbyNode) bool { return contains(r.GetDisks(), n.GetDisk()) }
	switch {
	case holds(have, r):
		return ""
	case have.GetEra() != r.GetEra():
		return fmt.Sprintf("the record is of era %d, and the claim of one after era %d: another promotion has been decided", have.GetEra(), r.GetEra())
	case have.GetVersion() != r.GetVersion():
		return fmt.Sprintf("the record has version %d, and the claim was made of version %d: read it again", have.GetVersion(), r.GetVersion())
	case becomes(r) <= have.GetEra() && have.GetDeployment() != r.GetPromotion() && r.GetLeaseMillis() == 0:
		return fmt.Sprintf("era %d has masters already, and the claim is of era %d: promote again, to the era after theirs", have.GetEra(), becomes(r))
	case r.GetForce() || r.GetFenced():
		return ""
	case have.GetLeaseMillis() == 0:
		return "the masters need no lease (auto-promote-after is not set there), so nothing shows that they have stopped answering: promote with a fence, or by force"
	case !slices.ContainsFunc(have.GetStandbys(), isStandby):
		return "none of the nodes is a standby of the record, so they may not have all that was acknowledged: an operator can promote by force"
	default:
		return ""
	}
}

// claimLost makes the record of masters again, if an operator wants it. damaged is what is
// stored; nil for nothing.
func (b *Book) claimLost(ctx context.Context, t *term, damaged *stored, r *peerpb.ClaimRequest) (*peerpb.ClaimResponse, error) {
	if !r.GetForce() {
		return &peerpb.ClaimResponse{Reason: "the database has no record in the registry"}, nil
	}
	next := claimed(r)
	next.Era, next.LeaseMillis = r.GetBecomes(), r.GetLeaseMillis()
	// Above all that a lost record may have had, so that nothing of its time fits.
	next.Version = uint64(time.Now().UnixMilli())
	if damaged != nil {
		damaged.number = next.GetVersion()
		if _, err := b.swap(ctx, t, damaged, next, leaseOf(next)); err != nil {
			return nil, err
		}
		return &peerpb.ClaimResponse{Given: true, Record: next}, nil
	}
	made, err := b.make(ctx, t, next)
	if err != nil {
		return nil, err
	}
	return &peerpb.ClaimResponse{Given: true, Record: made}, nil
}
