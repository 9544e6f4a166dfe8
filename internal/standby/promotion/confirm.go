package promotion

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
)

// sealTrust is how long after the fence the process that has sealed the masters may decide
// although they do not answer any more: planned moves stop them soon.
const sealTrust = 2 * time.Minute

// errUnconfirmed means that the masters cannot say whether they are sealed still. The
// promotion stays as it is.
var errUnconfirmed = errors.New("whether the masters are still sealed is not known")

// confirm asks the masters whether their seals have held since the fence: an operator may have
// ended them, and mutations been acknowledged again. See P4 of the design.
func (f *Founder) confirm(ctx context.Context, r *Record) error {
	if r.Fence != fencedBySeal || r.Force {
		return nil
	}
	now := *r
	now.Cuts = map[string]Cut{}
	for name, cut := range r.Cuts {
		now.Cuts[name] = Cut{Former: cut.Former}
	}
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
			return f.unfenced(r, kv.Errorf(kv.Precondition, "the seal of vBucket %s at %d was ended, and its master may have acknowledged mutations since; promote again", name, r.Cuts[name].Seal))
		}
	}
	switch {
	case !silent:
		return nil
	case kv.KindOf(err) == kv.Precondition:
		return f.unfenced(r, kv.Errorf(kv.Precondition, "the masters are not sealed by this promotion any more: %w; promote again", err))
	case time.Since(f.fenced) < sealTrust:
		return nil
	default:
		return kv.Errorf(kv.Unavailable, "%w: %w. They may have been unsealed and have acknowledged mutations since; "+
			"they are asked again; bring them back, or, if they are certainly stopped, decide with -promote -force", errUnconfirmed, err)
	}
}

// unfenced returns why a promotion is given up whose seals have not held. A claim that may
// have been sent cannot be taken back: it goes on without the fence.
func (f *Founder) unfenced(r *Record, reason error) error {
	if r.Step != Claiming {
		return reason
	}
	f.opts.Log.Warn("the claim goes on without the seals: the registry gives the era only when no master has a lease", "era", r.Era, "reason", reason)
	r.Fence = fencedByRecord
	return nil
}
