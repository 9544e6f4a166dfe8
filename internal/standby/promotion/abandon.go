package promotion

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/dkvdb/dkv/internal/kv"
)

// giveUp ends a promotion that cannot go on, and returns why.
func (f *Founder) giveUp(ctx context.Context, o *order, reason error) error {
	r := *f.record
	r.Step = Abandoning
	if f.own == r.ID {
		r.Untold = slices.DeleteFunc(slices.Clone(r.Untold), func(n string) bool { return f.untouched[n] })
		r.Masters = slices.DeleteFunc(slices.Clone(r.Masters), func(m string) bool { return f.untouched[m] })
	}
	f.own = ""        // what is sealed from here on is not counted
	f.ending = reason // and again, until that is on disk: masters are sealed meanwhile
	if err := f.write(o, r, "the promotion is given up"); err != nil {
		return fmt.Errorf("%w; that it is given up cannot be written down yet, so masters may still be sealed: %w", reason, err)
	}
	if err := f.release(ctx); err != nil {
		return fmt.Errorf("%w; it is given up, but a master may still be sealed until it can be reached: %w", reason, err)
	}
	return reason
}

// abandon gives a promotion up because an operator wants it.
func (f *Founder) abandon(ctx context.Context, o *order) error {
	if f.record == nil {
		return f.unsealHere(ctx, o)
	}
	r := *f.record
	switch r.Step {
	case Claiming:
		return kv.Errorf(kv.Precondition, "the registry may have given era %d to this node already, and only its answer ends that", r.Era)
	case Abandoning: // another promotion may have sealed this slave since
		if _, err := f.unsealOthers(ctx, o); err != nil {
			return err
		}
	}
	r.Step = Abandoning
	if err := f.write(o, r, "the promotion is given up"); err != nil {
		return err
	}
	return f.release(ctx)
}

// unsealHere ends the seal of a promotion of another node by hand: its founder may be gone.
func (f *Founder) unsealHere(ctx context.Context, o *order) error {
	ended, err := f.unsealOthers(ctx, o)
	if err == nil && !ended {
		return kv.Errorf(kv.Precondition, "no promotion of this node is under way, so there is none to abandon")
	}
	return err
}

// unsealOthers ends the seal of a promotion of another node, and reports whether there was one.
func (f *Founder) unsealOthers(ctx context.Context, o *order) (ended bool, err error) {
	positions, err := f.opts.Copies.Reached(ctx)
	if err != nil {
		return false, err
	}
	i := slices.IndexFunc(positions, func(p Position) bool { return p.Sealed != "" && !f.sealedBy(p.Sealed) })
	if i < 0 {
		return false, nil
	}
	if err := f.opts.Copies.Unseal(ctx, positions[i].Sealed); err != nil {
		return false, err
	}
	if o.report != nil && o.ctx.Err() == nil {
		_ = o.report(Progress{Step: Abandoning, Text: "the seal of this slave has ended; it follows its master again"}) // the caller has gone
	}
	return true, nil
}

// leave ends the seals of a promotion that was given up, before another one begins, as far as its
// nodes answer: the other one takes over which are left, since some may never come back. The seals of
// this slave's copies must end. A slave that replaces masters without an operator waits for no other node.
func (f *Founder) leave(ctx context.Context, o *order) error {
	if err := f.unsealOwn(ctx); err != nil || o.Standby {
		return err
	}
	if err := f.release(ctx); err != nil {
		f.opts.Log.Warn("not all seals of an earlier promotion have ended; they are ended later", "nodes", f.record.mayBeSealed(), "error", err)
	}
	return context.Cause(ctx)
}

// unsealOwn ends the seals of this slave's copies by a promotion that is given up.
func (f *Founder) unsealOwn(ctx context.Context) error {
	for _, l := range f.record.left() {
		if err := f.opts.Copies.Unseal(ctx, l.ID); err != nil {
			return fmt.Errorf("unseal this slave's copies: %w", err)
		}
	}
	return nil
}

// release ends the seals of a promotion that is given up, and of those before it, and forgets
// it once all have ended.
func (f *Founder) release(ctx context.Context) error {
	if err := f.unsealOwn(ctx); err != nil {
		return err
	}
	r := *f.record
	var errs []error
	var left []Left
	for _, l := range r.left() {
		var stopped, slaves, masters error
		l.Stopped, stopped = unsealed(ctx, l.ID, l.Stopped, f.opts.Masters.Resume)
		var unsealing sync.WaitGroup // masters must not wait for a slave that hangs
		unsealing.Go(func() { l.Slaves, slaves = unsealed(ctx, l.ID, l.Slaves, f.opts.Set.Unseal) })
		unsealing.Go(func() { l.Masters, masters = unsealed(ctx, l.ID, l.Masters, f.opts.Masters.Unseal) })
		unsealing.Wait()
		if err := errors.Join(stopped, slaves, masters); err != nil || l.ID == r.ID {
			left, errs = append(left, l), append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		r.Untold, r.Masters, r.Earlier = left[0].Slaves, left[0].Masters, left[1:]
		r.Stopped = stillStopped(r.Stopped, left[0].Stopped)
		if err := r.Write(f.opts.Dir); err != nil {
			return err
		}
		f.set(&r)
		return err
	}
	if err := remove(f.opts.Dir); err != nil {
		return err
	}
	f.set(nil)
	return nil
}

// stillStopped returns those of the masters that may have stopped which are left.
func stillStopped(stopped map[string]string, left []string) map[string]string {
	out := map[string]string{}
	for _, address := range left {
		out[address] = stopped[address]
	}
	return out
}

// unsealed ends the seals of nodes, all at once, and returns those at which that has failed.
func unsealed(ctx context.Context, promotion string, nodes []string, unseal func(ctx context.Context, address, promotion string) error) (left []string, err error) {
	errs := each(ctx, nodes, func(ctx context.Context, address string) error { return unseal(ctx, address, promotion) })
	for i, address := range nodes {
		if errs[i] != nil {
			left = append(left, address)
		}
	}
	return left, joined(nodes, errs)
}
