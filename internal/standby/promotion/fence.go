package promotion

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/raft/lease"
	"github.com/dkvdb/dkv/internal/sleep"
)

// fence seals the masters, so that they acknowledge nothing that the founder does not have.
func (f *Founder) fence(ctx context.Context, o *order, r Record) error {
	if r.Standby {
		if relies, err := f.byRecord(ctx, o, r); relies || err != nil {
			return err
		}
		return kv.Errorf(kv.Precondition, "the record of the database in the registry does not let this node replace the masters any more")
	}
	began := lease.SystemClock{}.Now()
	sealed, err := f.sealMasters(ctx, &r)
	if err != nil && ctx.Err() != nil {
		return err
	}
	if err != nil && r.Planned {
		return kv.Errorf(kv.Precondition, "the master cannot be sealed: %w; a planned promotion needs that. Bring the master back, or, if it is lost, promote without -planned", err)
	}
	if err != nil && !r.Force {
		fenced, why := f.otherwise(ctx, o, r)
		if fenced || ctx.Err() != nil {
			return why
		}
		err = fmt.Errorf("%w; %w", err, why)
	}
	if err != nil && !r.Force {
		return kv.Errorf(kv.Precondition, "the master cannot be sealed: %w; %s. "+
			"Bring it back, or, if it is gone for good or is certainly stopped, promote with -force", err, f.missing(nil))
	}
	r.Step = Fenced
	text := fmt.Sprintf("%s sealed: no mutation is acknowledged any more", strings.Join(sealed, ", "))
	r.Fence = fencedBySeal
	if f.own == r.ID {
		// What an earlier process has sealed may have been unsealed by hand before this one asked.
		f.trusted = began + SealTrust
	}
	if err != nil {
		r.Fence = ""
		text = fmt.Sprintf("forced without a fence: %v; a master that still runs may go on to acknowledge what will be lost", err)
	}
	return f.write(o, r, text)
}

// otherwise fences masters that cannot be sealed by the record, or by stopping a majority of them,
// and reports whether one of them does. If none does, the error says why.
func (f *Founder) otherwise(ctx context.Context, o *order, r Record) (fenced bool, err error) {
	relies, why := f.byRecord(ctx, o, r)
	if relies {
		return true, why
	}
	err = f.stopMasters(ctx, o, r)
	if err != nil && why != nil {
		err = fmt.Errorf("%w; %w", why, err)
	}
	return err == nil, err
}

// sealMasters seals every vBucket at its owner, and notes the indexes in r. It returns the
// masters that it has sealed.
func (f *Founder) sealMasters(ctx context.Context, r *Record) (sealed []string, err error) {
	if len(r.Masters) == 0 {
		return nil, errors.New("none is known here; set repl-master-addr, or wait until the registry names one")
	}
	asked := map[string]bool{}
	var errs []error
	for len(asked) < len(r.Masters) && len(r.unsealed()) > 0 {
		var now []string
		for _, address := range r.Masters {
			if !asked[address] {
				now, asked[address] = append(now, address), true
			}
		}
		more, failed := f.sealAll(ctx, now, r)
		sealed, errs = append(sealed, more...), append(errs, failed...)
	}
	for _, address := range r.Masters {
		if _, known := f.untouched[address]; !known && !asked[address] {
			f.untouched[address] = true // another one has named it, and all is sealed without it
		}
	}
	for name, cut := range r.Cuts {
		switch {
		case cut.Seal != 0:
		case len(errs) > 0:
			return sealed, telling(errs)
		default:
			return sealed, fmt.Errorf("vBucket %s: none of %s owns its log", name, strings.Join(r.Masters, ", "))
		}
	}
	return sealed, nil
}

// telling returns the error of a master that has answered, or that of one that has not.
func telling(errs []error) error {
	if i := slices.IndexFunc(errs, func(err error) bool { return kv.KindOf(err) == kv.Precondition }); i >= 0 {
		return errs[i]
	}
	return errs[0]
}

// sealGrace is how much longer masters are awaited once every vBucket is sealed: one that is down owns
// none, and writes pause meanwhile.
const sealGrace = 200 * time.Millisecond

// unsealed are the vBuckets that no master has sealed yet.
func (r *Record) unsealed() map[string]bool {
	out := map[string]bool{}
	for name, cut := range r.Cuts {
		if cut.Seal == 0 {
			out[name] = true
		}
	}
	return out
}

// sealAll seals masters, all at once, and adds those to r that they name.
func (f *Founder) sealAll(ctx context.Context, masters []string, r *Record) (sealed []string, errs []error) {
	found := make([]SealedDatabase, len(masters))
	calls, end := context.WithCancel(ctx)
	defer end()
	var mu sync.Mutex
	left := r.unsealed()
	failed := each(calls, masters, func(ctx context.Context, address string) error {
		by, err := f.opts.Masters.Seal(ctx, address, r.ID)
		found[slices.Index(masters, address)] = by
		mu.Lock()
		defer mu.Unlock()
		for _, v := range by.VBuckets {
			if v.History == r.Cuts[v.Name].Former {
				delete(left, v.Name)
			}
		}
		if len(left) == 0 {
			time.AfterFunc(sealGrace, end)
		}
		return err
	})
	for i, address := range masters {
		err := failed[i]
		owns := err == nil && len(found[i].VBuckets) > 0
		before, asked := f.untouched[address]
		f.untouched[address] = (before || !asked) && !owns && (err == nil || kv.OutcomeOf(err) == kv.NotApplied)
		if err == nil {
			err = r.sealed(found[i])
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", address, err))
			continue
		}
		sealed = append(sealed, address)
		r.Masters, r.Leased = union(r.Masters, found[i].Masters), r.Leased || found[i].Leased
	}
	return sealed, errs
}

// sealed notes what a master has sealed.
func (r *Record) sealed(found SealedDatabase) error {
	for _, v := range found.VBuckets {
		cut, known := r.Cuts[v.Name]
		if !known || cut.Former != v.History {
			return kv.Errorf(kv.Precondition, "vBucket %s has the history %s there and %s here: this slave has to follow it first; see dkvctl -status", v.Name, v.History, cut.Former)
		}
		if v.Index > cut.Seal {
			cut.Seal, cut.Digest = v.Index, v.Digest
		}
		r.Cuts[v.Name] = cut
	}
	return nil
}

// sealCopies gets the last changes of masters that are sealed, and seals the copies of all
// nodes of the set.
func (f *Founder) sealCopies(ctx context.Context, o *order, r Record) error {
	var late error
	if r.Fence != fencedByStop { // those that have stopped are followed no more
		late = f.awaitSeals(ctx, r)
	}
	if late != nil && !r.Force && len(r.Nodes) <= 1 {
		return f.tooLate(late, &r)
	}
	if err := f.sealOwn(ctx, &r); err != nil {
		return fmt.Errorf("seal this slave's copies: %w", err)
	}
	if late == nil {
		if late = f.catchUp(ctx, &r); late != nil && !r.Force {
			return f.tooLate(late, &r)
		}
	}
	all, err := f.reached(ctx, &r)
	if err != nil {
		return err
	}
	cuts := map[string]Cut{}
	var lost, unapplied uint64
	for _, p := range all[0] {
		cut := r.Cuts[p.VBucket]
		if cut.Former != p.History {
			return kv.Errorf(kv.Precondition, "vBucket %s has followed history %s since the promotion began with %s; promote this slave again", p.VBucket, p.History, cut.Former)
		}
		cut.End, cut.Clock = furthest(all, p.VBucket)
		lost += cut.Seal - min(cut.Seal, cut.End)
		unapplied += cut.unapplied(all, p.VBucket)
		cuts[p.VBucket] = cut
	}
	r.Cuts, r.Step = cuts, Sealed
	if lost > 0 && !r.Force {
		return f.tooLate(late, &r)
	}
	text := f.sealedText(&r, lost) + unappliedText(unapplied)
	if err := r.parts(all); err != nil {
		if !r.Force {
			return err
		}
		text += fmt.Sprintf("; forced although %v", err)
	}
	return f.write(o, r, text)
}

// parts returns an error if a copy that is long enough is no part of the log that was fenced. It may
// have the end of a log that was lent to a promotion which was given up, and was never committed.
func (r *Record) parts(all [][]Position) error {
	for i, positions := range all {
		for _, p := range positions {
			cut := r.Cuts[p.VBucket]
			if cut.Seal == 0 || p.Index < cut.Seal || cut.Digest == 0 || p.Digest == 0 || p.Digest == cut.Digest {
				continue // a shorter copy is compared when it gets what it lacks
			}
			who := "this slave"
			if i > 0 {
				who = r.Nodes[i].Address
			}
			return kv.Errorf(kv.Precondition, "vBucket %s of %s is at %d and has another last change than the log of the masters at %d: it may lack what they have acknowledged; "+
				"wait until it follows them again, rebuild it with dkvctl -resync, or promote another slave", p.VBucket, who, p.Index, cut.Seal)
		}
	}
	return nil
}

// sealOwn seals the founder's copies. It waits while what they have confirmed as received is not
// applied yet, but not for ever: the disk may be stuck.
func (f *Founder) sealOwn(ctx context.Context, r *Record) error {
	for begun := time.Now(); ; {
		err := f.opts.Copies.Seal(ctx, r.ID)
		if kv.KindOf(err) != kv.Unavailable || ctx.Err() != nil || time.Since(begun) > awaitPatience {
			return err
		}
		f.opts.Log.Warn("the promotion waits until this slave has applied what it has confirmed", "promotion", r.ID, "error", err)
		if !sleep.For(ctx, sealPause) {
			return err
		}
	}
}

// unapplied returns how many indexes above the end of the old history copies have confirmed as
// received. Masters that are sealed say themselves up to where they have acknowledged anything.
func (c Cut) unapplied(all [][]Position, vBucket string) uint64 {
	if c.Seal != 0 {
		return 0
	}
	end := c.End
	for _, positions := range all {
		for _, p := range positions {
			if p.VBucket == vBucket {
				end = max(end, p.Confirmed)
			}
		}
	}
	return end - c.End
}

// unappliedText says that changes were confirmed and are lost all the same.
func unappliedText(unapplied uint64) string {
	if unapplied == 0 {
		return ""
	}
	return fmt.Sprintf("; up to %d changes that were confirmed to the masters as received are LOST: the disk that was to take them failed", unapplied)
}

// tooLate is the error of a promotion whose slaves have not got all that was acknowledged.
func (f *Founder) tooLate(late error, r *Record) error {
	return kv.Errorf(kv.Precondition, "the last changes of the masters did not arrive: %w; %s. "+
		"Bring the master back and try again, or promote with -force and lose them", late, f.missing(r))
}

// sealedText says what the slaves have when they are sealed.
func (f *Founder) sealedText(r *Record, lost uint64) string {
	who, has, takes := "this slave", "has", "takes"
	if len(r.Nodes) > 1 {
		who, has, takes = fmt.Sprintf("these %d slaves", len(r.Nodes)), "have", "take"
	}
	switch {
	case lost > 0:
		return fmt.Sprintf("%s lack up to %d entries, which are lost", who, lost)
	case r.Fence == fencedByRecord && r.Unsynced:
		return fmt.Sprintf("%s %s nothing more of the old history; what was not confirmed is lost: %s", who, takes, f.missing(nil))
	case r.Fence == fencedByRecord:
		return fmt.Sprintf("%s %s nothing more of the old history", who, takes)
	case r.Fence == "":
		return fmt.Sprintf("%s %s nothing more of the old history; what was not received is lost: %s", who, takes, f.missing(r))
	default:
		return fmt.Sprintf("%s %s all that was acknowledged", who, has)
	}
}

// awaitSeals waits until the copies have all that the masters have acknowledged.
func (f *Founder) awaitSeals(ctx context.Context, r Record) error {
	ctx, cancel := context.WithTimeout(ctx, awaitPatience)
	defer cancel()
	for name, cut := range r.Cuts {
		if cut.Seal == 0 {
			continue
		}
		if err := f.opts.Copies.Await(ctx, name, cut.Seal); err != nil {
			return fmt.Errorf("vBucket %s is not at %d: %w", name, cut.Seal, err)
		}
	}
	return nil
}

// missing says what the copies are known to lack; r is nil if no seal is known.
func (f *Founder) missing(r *Record) string {
	var lag uint64
	var age time.Duration
	for _, p := range f.opts.Copies.Positions() {
		behind := p.Lag
		if r != nil {
			seal := r.Cuts[p.VBucket].Seal
			behind = max(behind, seal-min(seal, p.Index))
		}
		lag, age = lag+behind, max(age, p.Age)
	}
	return fmt.Sprintf("at least %d changes are missing here, and this copy was last known to be complete %s ago", lag, age.Round(100*time.Millisecond))
}
