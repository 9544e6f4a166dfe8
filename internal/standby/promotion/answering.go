package promotion

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/sleep"
)

// answerEvery is how often the other nodes are asked for a sign of life while masters are sealed.
const answerEvery = time.Second

// whileAnswering calls do, and ends it when another node of the promotion has not answered for callPatience: it may
// take its time, but one that hangs would keep the masters sealed for nothing. Masters that are not sealed wait
// for no one.
func (f *Founder) whileAnswering(ctx context.Context, r *Record, do func(context.Context) error) error {
	if r.Fence != fencedBySeal {
		return do(ctx)
	}
	ctx, end := context.WithCancelCause(ctx)
	var asking sync.WaitGroup
	for _, n := range r.Nodes[1:] {
		asking.Go(func() {
			if err := f.untilSilent(ctx, n.Address); err != nil {
				end(err)
			}
		})
	}
	err := do(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	end(nil)
	asking.Wait()
	return err
}

// untilSilent returns an error when a node has not answered for callPatience, and nil when ctx ends. Any answer
// counts, also a rejection.
func (f *Founder) untilSilent(ctx context.Context, address string) error {
	for heard := time.Now(); sleep.For(ctx, answerEvery); {
		limited, cancel := context.WithTimeout(ctx, callPatience)
		_, _, err := f.opts.Set.Look(limited, address)
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil || kv.KindOf(err) != kv.Unavailable:
			heard = time.Now()
		case time.Since(heard) >= callPatience:
			return kv.Errorf(kv.Precondition, "%s has not answered for %s while the masters are sealed: %w", address, time.Since(heard).Round(time.Second), err)
		}
	}
	return nil
}

// equalize brings the copies of all nodes to the same state, and gives them the same requests.
func (f *Founder) equalize(ctx context.Context, r *Record) error {
	for _, n := range r.Nodes {
		if err := f.level(ctx, r, n); err != nil {
			return fmt.Errorf("%s cannot be made equal to the others: %w", n.Address, err)
		}
	}
	all, err := f.reached(ctx, r)
	if err == nil {
		err = r.agree(all)
	}
	if err != nil {
		return err
	}
	return f.shareRequests(ctx, r)
}

// shareRequests has the other nodes take the founder's remembered requests.
func (f *Founder) shareRequests(ctx context.Context, r *Record) error {
	self, others := r.Nodes[0].Address, r.Addresses()[1:]
	errs := within(ctx, catchUpPatience, others, func(ctx context.Context, address string) error {
		return f.opts.Set.TakeRequests(ctx, address, r.ID, self)
	})
	if err := joined(others, errs); err != nil {
		return fmt.Errorf("the remembered requests of this node did not reach every other: %w", err)
	}
	return nil
}
