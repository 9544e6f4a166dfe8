package promotion

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dkvdb/dkv/internal/kv"
)

// giveUp ends a promotion that cannot go on, and returns why.
func (f *Founder) giveUp(ctx context.Context, o *order, reason error) error {
	r := *f.record
	r.Step = Abandoning
	if f.own == r.ID {
		r.Masters = slices.DeleteFunc(slices.Clone(r.Masters), func(m string) bool { return f.untouched[m] })
	}
	f.own = "" // what is sealed from here on is not counted
	if err := f.write(o, r, "the promotion is given up"); err != nil {
		return errors.Join(reason, err)
	}
	if err := f.release(ctx); err != nil {
		return fmt.Errorf("%w; it is given up, but a master may still be sealed until it can be reached: %w", reason, err)
	}
	return reason
}

// abandon gives a promotion up because an operator wants it.
func (f *Founder) abandon(ctx context.Context, o *order) error {
	if f.record == nil {
		return kv.Errorf(kv.Precondition, "no promotion of this node is under way, so there is none to abandon")
	}
	r := *f.record
	r.Step = Abandoning
	if err := f.write(o, r, "the promotion is given up"); err != nil {
		return err
	}
	return f.release(ctx)
}

// release ends the seals of a promotion that is given up, and forgets it once all have
// ended.
func (f *Founder) release(ctx context.Context) error {
	r := *f.record
	if err := f.opts.Copies.Unseal(ctx, r.ID); err != nil {
		return fmt.Errorf("unseal this slave's copies: %w", err)
	}
	var errs []error
	var left []string
	for _, address := range r.Masters {
		if err := f.unsealMaster(ctx, address, r.ID); err != nil {
			left, errs = append(left, address), append(errs, fmt.Errorf("%s: %w", address, err))
		}
	}
	if len(left) > 0 {
		r.Masters = left
		if err := r.Write(f.opts.Dir); err != nil {
			return err
		}
		f.set(&r)
		return errors.Join(errs...)
	}
	if err := remove(f.opts.Dir); err != nil {
		return err
	}
	f.set(nil)
	return nil
}

func (f *Founder) unsealMaster(ctx context.Context, address, promotion string) error {
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	return f.opts.Masters.Unseal(ctx, address, promotion)
}
