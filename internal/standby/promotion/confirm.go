package promotion

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/raft/lease"
)

// SealTrust is for how long from right before the fence the process that seals the masters may
// decide although they do not answer any more: planned moves stop them soon. A seal that is ended
// by hand lasts longer, or changes the record.
const SealTrust = 2 * time.Minute

// errUnconfirmed means that the masters cannot say whether they are sealed still. The
// promotion stays as it is.
var errUnconfirmed = errors.New("whether the masters are still sealed is not known")

// confirm asks the masters whether their seals have held since the fence: an operator may have
// ended them, and mutations been acknowledged again. See P4 of the design.
func (f *Founder) confirm(ctx context.Context, r *Record) error {
	switch {
	case r.Force:
		return nil
	case r.Fence == fencedByStop:
		silent, err := f.confirmStops(ctx, r)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return f.unfenced(ctx, r, err)
		default:
			return f.unconfirmed(ctx, r, silent)
		}
	case r.Fence != fencedBySeal:
		return nil
	}
	now := *r
	now.Cuts = r.uncut()
	was := maps.Clone(f.untouched)
	_, err := f.sealMasters(ctx, &now)
	for address, untouched := range f.untouched {
		f.untouched[address] = untouched && was[address]
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	silent := false
	for name, cut := range now.Cuts {
		switch cut.Seal {
		case r.Cuts[name].Seal:
		case 0:
			silent = true
		default:
			return f.unfenced(ctx, r, kv.Errorf(kv.Precondition, "the seal of vBucket %s at %d was ended, and its master may have acknowledged mutations since; promote again", name, r.Cuts[name].Seal))
		}
	}
	switch {
	case !silent:
		return nil
	case kv.KindOf(err) == kv.Precondition:
		return f.unfenced(ctx, r, kv.Errorf(kv.Precondition, "the masters are not sealed by this promotion any more: %w; promote again", err))
	default:
		return f.unconfirmed(ctx, r, err)
	}
}

// unconfirmed decides whether a promotion goes on whose masters do not confirm their fence, for
// the reason silent; nil if they do.
func (f *Founder) unconfirmed(ctx context.Context, r *Record, silent error) error {
	switch {
	case silent == nil || lease.SystemClock{}.Now() < f.trusted:
		return nil
	case f.turnToRecord(ctx, r):
		return nil
	default:
		return kv.Errorf(kv.Unavailable, "%w: %w. They may have been unsealed and have acknowledged mutations since; "+
			"they are asked again; bring them back, or, if they are certainly stopped, decide with -promote -force", errUnconfirmed, silent)
	}
}

// turnToRecord has a promotion whose masters are silent rely on the record instead of their seals,
// if that lets this node replace them, and reports whether it does. Its copies are sealed, so the
// claim fits only as long as owners that may answer wait for this node.
func (f *Founder) turnToRecord(ctx context.Context, r *Record) bool {
	if f.opts.Registry == nil || r.Planned {
		return false
	}
	claim, err := f.present(ctx, recordPatience)
	if err != nil || claim == nil || !claim.Standby || claim.Era+1 != r.Era || !claim.Synced && !r.Standby {
		return false
	}
	next := *r
	next.Fence, next.Unsynced, next.Claim = fencedByRecord, !claim.Synced, claim
	if err := next.Write(f.opts.Dir); err != nil {
		f.opts.Log.Error("that the registry fences the masters cannot be written down", "error", err)
		return false
	}
	f.set(&next)
	*r = next
	f.opts.Log.Warn("the masters do not confirm their seals any more; the registry fences them: it gives the era when none of them has a lease", "era", r.Era)
	return true
}

// unfenced returns why a promotion is given up whose seals have not held. A claim that may
// have been sent is withdrawn first, since it said that they have.
func (f *Founder) unfenced(ctx context.Context, r *Record, reason error) error {
	if r.Step != Claiming {
		return reason
	}
	if f.opts.Registry == nil {
		return kv.Errorf(kv.Unavailable, "%w; %w", reason, errNoRegistry)
	}
	ctx, cancel := context.WithTimeout(ctx, recordPatience)
	defer cancel()
	switch given, err := f.opts.Registry.Withdraw(ctx, *r.Claim, *r); {
	case err != nil:
		return kv.Errorf(kv.Unavailable, "%w; whether the registry has given era %d meanwhile is not known, and it is asked again: %w", reason, r.Era, err)
	case given:
		f.opts.Log.Warn("the registry has given the era while the masters were sealed, and cannot take it back", "era", r.Era, "reason", reason)
		return nil
	default:
		return never(reason.Error())
	}
}
