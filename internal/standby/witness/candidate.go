package witness

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/sleep"
)

// Candidate is a slave that may claim the next era of its database without an operator.
type Candidate struct {
	Registry Registry
	Database string
	// Disk is the id of its disk, by which the record names it.
	Disk string
	// Lease is how long the masters' leases last by its own configuration; the record may say
	// something else.
	Lease time.Duration
	// Era is the era of its copy: it claims the one after that.
	Era func() uint64

	// seen is what the registry has answered last, in a sentence.
	seen atomic.Pointer[string]
}

// Seen says what the registry has answered last.
func (c *Candidate) Seen() string {
	if text := c.seen.Load(); text != nil {
		return *text
	}
	return "the registry has not been asked yet"
}

// see notes an answer.
func (c *Candidate) see(res *peerpb.RecordResponse, err error) {
	r, text := res.GetRecord(), ""
	switch {
	case err != nil:
		text = "the registry does not answer: " + err.Error()
	case r == nil:
		text = "the database has no record"
	case c.named(r):
		text = fmt.Sprintf("era %d, this slave takes over when the masters' lease has ended", r.GetEra())
	case r.GetEra() != c.Era():
		text = fmt.Sprintf("era %d, while this copy is of era %d", r.GetEra(), c.Era())
	default:
		text = fmt.Sprintf("era %d, this slave does not stand by in it", r.GetEra())
	}
	c.seen.Store(&text)
}

const (
	// The registry is asked this many times within a lease, at least and at most this often: by a
	// slave that the record names, and by another one. An entry counts as a grant, so that the
	// other one hears of its own before the masters' last lease can have ended.
	asksPerLease, looksPerLease = 8, 2
	minPause, maxPause          = 100 * time.Millisecond, 5 * time.Second
)

// WatchForClaim returns the record when a claim may succeed: the record names the candidate,
// and no master can hold a lease. It asks until then, or until ctx ends, whose error it
// returns. An answer may be out of date at once: only Claim decides.
func (c *Candidate) WatchForClaim(ctx context.Context) (*peerpb.Record, error) {
	for {
		res, err := c.Registry.GetRecord(ctx, &peerpb.GetRecordRequest{Database: c.Database})
		c.see(res, err)
		record := res.GetRecord()
		length := cmp.Or(time.Duration(record.GetLeaseMillis())*time.Millisecond, c.Lease)
		pause := length / looksPerLease
		switch left := time.Duration(res.GetGrantedMillis()) * time.Millisecond; {
		case err != nil:
			pause = min(pause, soon)
		case c.named(record) && left == 0:
			return record, nil
		case c.named(record):
			pause = min(length/asksPerLease, left)
		}
		if sleep.For(ctx, min(max(pause, minPause), maxPause)); ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
}

// named reports whether a record lets the candidate claim the next era.
func (c *Candidate) named(r *peerpb.Record) bool {
	return r.GetLeaseMillis() > 0 && r.GetEra() == c.Era() &&
		slices.Contains(disksOf(r), c.Disk)
}

// Claim asks for the next era once, of the record that WatchForClaim has returned. The
// promotion is the id of the new deployment. The slave must have sealed its copies before. A
// claim whose outcome is unknown, or that may be given later (RetryMillis), is repeated: it may
// still be under way, so only the answer that it never will be given lets the slave unseal. If
// the masters are back, they take the silent slave out of the record, and that answer follows.
func (c *Candidate) Claim(ctx context.Context, of *peerpb.Record, promotion, history string, addresses ...string) (*peerpb.ClaimResponse, error) {
	return c.Registry.Claim(ctx, &peerpb.ClaimRequest{
		Database: c.Database, Era: of.GetEra(), Version: of.GetVersion(), Disks: []string{c.Disk},
		Promotion: promotion, History: history, Addresses: addresses,
	})
}
