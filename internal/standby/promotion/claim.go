package promotion

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/kv"
)

// Registry is the record of the database in the registry; see P4 of the design.
type Registry interface {
	// Record returns the record as it is now; nil for none.
	Record(ctx context.Context) (*Claim, error)
	// Claim asks for the era of a promotion once. An error means that it may have been given,
	// or may be given later.
	Claim(ctx context.Context, c Claim, r Record) (Verdict, error)
	// Withdraw makes sure that a claim which may have been sent is not given any more, and
	// returns whether it was given. After an error neither is known.
	Withdraw(ctx context.Context, c Claim, r Record) (given bool, err error)
}

// Claim is the record that a promotion claims the next era of.
type Claim struct {
	Era     uint64 `json:"era"`
	Version uint64 `json:"version"`
	// Standby reports whether the record lets this node replace masters that cannot be sealed,
	// Synced whether it has all then that was acknowledged.
	Standby bool `json:"-"`
	Synced  bool `json:"-"`
	// At are the addresses of the slaves that the record lets do that.
	At []string `json:"-"`
}

// of reports whether two claims are of the same version of the record.
func (c *Claim) of(o *Claim) bool { return o != nil && c.Era == o.Era && c.Version == o.Version }

// Verdict is what the registry says of a claim.
type Verdict struct {
	Given bool
	// Reason is why it is not given, and Retry when it may be; 0 for never.
	Reason string
	Retry  time.Duration
}

// The ways in which masters are fenced, in a Record.
const (
	fencedBySeal   = "seal"
	fencedByStop   = "stop"
	fencedByRecord = "record"
)

const (
	// claimPause is how long to wait before a claim is repeated whose outcome is unknown, at
	// first and at most.
	claimPause, maxClaimPause = 100 * time.Millisecond, time.Second
	// recordPatience bounds the question for the record, briefly the one while masters are
	// sealed that need no lease of it.
	recordPatience, briefly = 10 * time.Second, time.Second
)

// errNever means that a claim was rejected for good, so that its promotion may be given up.
var errNever = errors.New("the registry does not give the era")

var errNoRegistry = kv.Errorf(kv.Unavailable, "a claim may be under way, and this node asks no registry any more: set discovery-service-addr as it was")

func never(reason string) error { return kv.Errorf(kv.Precondition, "%w: %s", errNever, reason) }

// byRecord relies on the registry instead of a seal: it gives the era only when no master can
// have a lease. What owners have acknowledged without this node having it on disk may be missing
// then, which an operator has to force.
func (f *Founder) byRecord(ctx context.Context, o *order, r Record) (relies bool, err error) {
	if f.opts.Registry == nil {
		return false, nil
	}
	claim, err := f.present(ctx, recordPatience)
	switch {
	case err != nil || claim == nil || claim.Era+1 != r.Era:
		return false, err
	case !claim.Standby && len(claim.At) > 0:
		return false, fmt.Errorf("the registry lets only %s replace masters that cannot be sealed: promote that slave, with this one as -with", strings.Join(claim.At, ", "))
	case !claim.Standby:
		return false, nil
	}
	r.Step, r.Fence, r.Unsynced = Fenced, fencedByRecord, !claim.Synced
	r.Cuts = r.uncut() // seals of some vBuckets only fence nothing, and nothing up to them need be here
	text := "the registry fences the masters: it gives the era when none of them has a lease"
	switch {
	case claim.Synced:
	case !r.Standby:
		return false, errors.New("the registry can fence it, but the masters have not waited until this slave has everything on disk (repl-ack sync), so what they have acknowledged may be missing here")
	default:
		text += fmt.Sprintf("; what this slave has not confirmed is lost, since the masters did not wait for its disk (repl-ack): %s", f.missing(nil))
	}
	return true, f.write(o, r, text)
}

// awaitEra returns when the registry has given the era, or it is decided without. The masters
// confirm their seals right before that.
func (f *Founder) awaitEra(ctx context.Context, o *order, r *Record) error {
	claims := r.Step == Claiming
	if !claims {
		claim, err := f.claimable(ctx, r)
		if err != nil {
			return err
		}
		r.Claim, claims = claim, claim != nil
	}
	if err := f.confirm(ctx, r); err != nil || !claims {
		return err
	}
	if r.Step != Claiming {
		r.Step = Claiming
		if err := f.write(o, *r, fmt.Sprintf("the registry is asked for era %d", r.Era)); err != nil {
			return err
		}
	}
	return f.claim(ctx, r)
}

// claimable returns the record that the era is claimed of; nil if there is none. Without one,
// masters that need its lease are replaced by force only: a standby may claim the same era.
func (f *Founder) claimable(ctx context.Context, r *Record) (*Claim, error) {
	needed := !r.Force && (r.Leased || !r.Sealed())
	if f.opts.Registry == nil {
		if needed {
			return nil, kv.Errorf(kv.Precondition, "the masters need the lease of the registry's record, and this node asks no registry: set discovery-service-addr and auto-promote-after as the masters have them, without disable-discovery-client, and start it again")
		}
		return nil, nil
	}
	patience := recordPatience
	if r.Sealed() && !r.Leased {
		patience = briefly
	}
	claim, err := f.present(ctx, patience)
	switch {
	case err != nil && needed:
		return nil, kv.Errorf(kv.Unavailable, "whether the database has a record in the registry is not known: %w; bring the registry back, or promote with -force", err)
	case err != nil:
		return nil, nil
	case claim == nil && needed:
		return nil, kv.Errorf(kv.Precondition, "the masters need the lease of the registry's record, and the registry that this node asks has no record of the database: set discovery-service-addr as the masters have it; if the record was lost, make it again with dkvctl -claim at a master, or promote with -force")
	case claim != nil && claim.Era+1 != r.Era && !r.Force:
		return nil, kv.Errorf(kv.Precondition, "the record of the database in the registry is of era %d, and this copy of era %d: wait until it follows the present masters, or promote with -force", claim.Era, r.Era-1)
	case claim != nil && r.Sealed() && !r.Force && !claim.of(r.Claim):
		return nil, kv.Errorf(kv.Precondition, "the record of the database in the registry has changed since before the masters were sealed, or could not be read then: "+
			"a standby has come or gone, or the seals were ended by hand, and then mutations may have been acknowledged; promote again")
	}
	return claim, nil
}

// look notes the record as it is before any master is sealed: on the word of seals only an era
// after that is claimed, since who ends a seal by hand changes the record first. A forced
// promotion moves above the era of the record, if the registry answers: that era has masters
// already, which this copy may not have heard of.
func (f *Founder) look(ctx context.Context, r *Record) {
	if f.opts.Registry == nil || r.Standby {
		return
	}
	claim, err := f.present(ctx, recordPatience)
	switch {
	case err != nil && r.Force:
		f.opts.Log.Warn("the era of the record in the registry is not known; the promotion is forced to the era after that of this copy", "era", r.Era, "error", err)
	case err == nil && !r.Force:
		r.Claim = claim
	case claim != nil && claim.Era >= r.Era:
		r.Era = claim.Era + 1
		r.History = era.History(r.Era, kv.NewID())
	}
}

func (f *Founder) present(ctx context.Context, patience time.Duration) (*Claim, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return f.opts.Registry.Record(ctx)
}

// claim repeats a claim until the registry gives the era, or says that it never will. In
// between the copies stay sealed, since a claim that was sent may still take effect, and the
// masters are asked again whether their seals have held.
func (f *Founder) claim(ctx context.Context, r *Record) error {
	if f.opts.Registry == nil {
		return errNoRegistry
	}
	for pause := claimPause; ; {
		v, err := f.opts.Registry.Claim(ctx, *r.Claim, *r)
		switch {
		case err == nil && v.Given:
			return nil
		case err == nil && v.Retry == 0 && !r.Force:
			return never(v.Reason) // also of a record that has changed: seals may have ended before that
		case err == nil && v.Retry == 0:
			if err := f.claimLater(ctx, r, v.Reason); err != nil {
				return err
			}
			pause = claimPause
		case err == nil:
			pause = min(v.Retry, maxClaimPause)
		case r.Force:
			f.opts.Log.Warn("the promotion is decided by force without the registry; give the record to this node later: dkvctl -claim", "era", r.Era, "error", err)
			return nil
		default:
			f.opts.Log.Warn("whether the registry gives the era is not known; it is asked again", "era", r.Era, "error", err)
			pause = min(2*pause, maxClaimPause)
		}
		if err := f.awaitClaim(ctx, r, pause); err != nil {
			return err
		}
		if err := f.confirm(ctx, r); err != nil {
			return err
		}
	}
}

// claimLater makes a forced claim of the record as it is now: it has changed since the one that
// was rejected.
func (f *Founder) claimLater(ctx context.Context, r *Record, reason string) error {
	claim, err := f.present(ctx, recordPatience)
	switch {
	case err != nil:
		return nil // the former claim is repeated meanwhile, and rejected again
	case claim == nil || claim.of(r.Claim) || claim.Era != r.Claim.Era:
		return never(reason)
	}
	next := *r
	next.Claim = claim
	if err := next.Write(f.opts.Dir); err != nil {
		return err
	}
	f.set(&next)
	*r = next
	return nil
}

// awaitClaim waits before a claim is repeated, and answers orders meanwhile.
func (f *Founder) awaitClaim(ctx context.Context, r *Record, pause time.Duration) error {
	t := time.NewTimer(pause)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case o := <-f.orders:
			if !o.Force || o.Abandon || o.become != nil {
				o.done <- kv.Errorf(kv.Unavailable, "the registry may have given era %d to this node already, and only its answer ends that; bring it back, or decide with -promote -force", r.Era)
				continue
			}
			r.Force, r.Planned = true, false // the former masters keep what they have
			o.done <- kv.UnknownOutcome(kv.Unavailable, fmt.Errorf("the promotion to era %d goes on by force; see dkvctl -status", r.Era))
			return nil
		}
	}
}
