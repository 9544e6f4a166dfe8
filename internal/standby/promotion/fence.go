package promotion

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
)

// fence seals the masters, so that they acknowledge nothing that the founder does not have.
func (f *Founder) fence(ctx context.Context, o *order, r Record) error {
	sealed, err := f.sealMasters(ctx, &r)
	if err != nil && ctx.Err() != nil {
		return err
	}
	if err != nil && !r.Force {
		return kv.Errorf(kv.Precondition, "the master cannot be sealed: %w; %s. "+
			"Bring it back, or, if it is gone for good or is certainly stopped, promote with -force", err, f.missing(nil))
	}
	r.Step = Fenced
	text := fmt.Sprintf("%s sealed: no mutation is acknowledged any more", strings.Join(sealed, ", "))
	r.Fence = "seal"
	if err != nil {
		r.Fence = ""
		text = fmt.Sprintf("forced without a fence: %v; a master that still runs may go on to acknowledge what will be lost", err)
	}
	return f.write(o, r, text)
}

// sealMasters seals every vBucket at its owner, and notes the indexes in r. It returns the
// masters that it has sealed.
func (f *Founder) sealMasters(ctx context.Context, r *Record) (sealed []string, err error) {
	if len(r.Masters) == 0 {
		return nil, errors.New("none is known here; set repl-master-addr, or wait until the registry names one")
	}
	asked := map[string]bool{}
	var errs []error
	for len(asked) < len(r.Masters) {
		for _, address := range slices.Clone(r.Masters) {
			if asked[address] {
				continue
			}
			asked[address] = true
			found, err := f.sealMaster(ctx, address, r)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", address, err))
				continue
			}
			sealed = append(sealed, address)
			r.Masters = union(r.Masters, found.Masters)
		}
	}
	for name, cut := range r.Cuts {
		switch {
		case cut.Seal != 0:
		case len(errs) > 0:
			return sealed, errs[0]
		default:
			return sealed, fmt.Errorf("vBucket %s: none of %s owns its log", name, strings.Join(r.Masters, ", "))
		}
	}
	return sealed, nil
}

func (f *Founder) sealMaster(ctx context.Context, address string, r *Record) (SealedDatabase, error) {
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	found, err := f.opts.Masters.Seal(ctx, address, r.ID)
	f.untouched[address] = err != nil && kv.OutcomeOf(err) == kv.NotApplied
	if err != nil {
		return found, err
	}
	for _, v := range found.VBuckets {
		cut, known := r.Cuts[v.Name]
		if !known || cut.Former != v.History {
			return found, fmt.Errorf("vBucket %s has the history %s there and %s here: this slave has to follow it first; see dkvctl -status", v.Name, v.History, cut.Former)
		}
		cut.Seal = max(cut.Seal, v.Index)
		r.Cuts[v.Name] = cut
	}
	return found, nil
}

// sealCopies gets the last changes of masters that are sealed, and seals the own copies.
func (f *Founder) sealCopies(ctx context.Context, o *order, r Record) error {
	if err := f.awaitSeals(ctx, r); err != nil && !r.Force {
		return kv.Errorf(kv.Precondition, "the last changes of the masters did not arrive: %w; %s. "+
			"Bring the master back and try again, or promote with -force and lose them", err, f.missing(&r))
	}
	if err := f.opts.Copies.Seal(ctx, r.ID); err != nil {
		return fmt.Errorf("seal this slave's copies: %w", err)
	}
	cuts := map[string]Cut{}
	var lost uint64
	for _, p := range f.opts.Copies.Positions() {
		cut := r.Cuts[p.VBucket]
		if cut.Former != p.History {
			return kv.Errorf(kv.Precondition, "vBucket %s has followed history %s since the promotion began with %s; promote this slave again", p.VBucket, p.History, cut.Former)
		}
		cut.End, cut.Clock = p.Index, p.Clock
		lost += cut.Seal - min(cut.Seal, cut.End)
		cuts[p.VBucket] = cut
	}
	r.Cuts, r.Step = cuts, Sealed
	text := "this slave has all that was acknowledged"
	switch {
	case lost > 0:
		text = fmt.Sprintf("this slave lacks up to %d entries, which are lost", lost)
	case r.Fence == "":
		text = "this slave takes nothing more of the old history; what it has not received is lost: " + f.missing(&r)
	}
	return f.write(o, r, text)
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
