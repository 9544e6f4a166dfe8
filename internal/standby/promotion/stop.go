package promotion

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/raft/lease"
	"github.com/dkvdb/dkv/internal/sleep"
	"github.com/dkvdb/dkv/internal/standby"
)

// stopPatience bounds how long a master may take to leave its logs and to answer.
const stopPatience = 20 * time.Second

// reports are what masters have answered, by address.
type reports map[string]StoppedDatabase

// addresses are those that have answered, in order.
func (all reports) addresses() []string { return slices.Sorted(maps.Keys(all)) }

// best returns where the best log of a vBucket is: that of the latest term, and of those the
// longest.
func (all reports) best(vBucket string) (address string, best StoppedVBucket) {
	for _, at := range all.addresses() {
		for _, v := range all[at].VBuckets {
			if v.Name == vBucket && (address == "" || v.Term > best.Term || v.Term == best.Term && v.Last > best.Last) {
				address, best = at, v
			}
		}
	}
	return address, best
}

// enough returns an error unless those that have answered are a majority of the voters of every
// vBucket, by each list of members that its best log may lead to.
func (all reports) enough(cuts map[string]Cut) error {
	deployments := map[string]bool{}
	for _, found := range all {
		deployments[found.Deployment] = true
	}
	if len(deployments) > 1 {
		return kv.Errorf(kv.Precondition, "%s are masters of several clusters", strings.Join(all.addresses(), ", "))
	}
	for _, name := range slices.Sorted(maps.Keys(cuts)) {
		address, best := all.best(name)
		if address == "" {
			return kv.Errorf(kv.Unavailable, "no master answers that keeps vBucket %s", name)
		}
		if best.History != cuts[name].Former {
			return kv.Errorf(kv.Precondition, "vBucket %s has the history %s at %s and %s here: this slave has to follow it first; see dkvctl -status", name, best.History, address, cuts[name].Former)
		}
		for _, voters := range best.Voters {
			if n := all.votes(name, voters); 2*n <= len(voters) {
				return kv.Errorf(kv.Unavailable, "%d of the %d masters that keep vBucket %s answer, and a majority is needed: the others may go on to acknowledge mutations, which are lost if the promotion is forced", n, len(voters), name)
			}
		}
	}
	return nil
}

// votes returns how many of the voters of a vBucket have answered, each counted once.
func (all reports) votes(vBucket string, voters []uint64) int {
	answered := map[uint64]bool{}
	for _, found := range all {
		for _, v := range found.VBuckets {
			if v.Name == vBucket && slices.Contains(voters, v.Replica) {
				answered[v.Replica] = true
			}
		}
	}
	return len(answered)
}

// lease returns the longest lease that an owner may have.
func (all reports) lease() (longest time.Duration) {
	for _, found := range all {
		for _, v := range found.VBuckets {
			longest = max(longest, v.Lease)
		}
	}
	return longest
}

// stopMasters fences masters that cannot be sealed: a majority of them leaves its logs for good.
// None is stopped unless enough answer. The error says why there is no such fence.
func (f *Founder) stopMasters(ctx context.Context, o *order, r Record) error {
	began := lease.SystemClock{}.Now()
	found, silent, err := f.lookAtMasters(ctx, &r)
	if err == nil {
		err = found.enough(r.Cuts)
	}
	if err != nil {
		return minority(found, silent, err)
	}
	r.Masters = union(r.Masters, found.addresses())
	r.Stopped = map[string]string{}
	for address := range found {
		r.Stopped[address] = "" // from now on it may have stopped
	}
	if err := f.write(o, r, fmt.Sprintf("no owner of the logs can be had; %s are asked to stop, which are a majority of the masters", strings.Join(found.addresses(), ", "))); err != nil {
		return err
	}
	stopped, silent, refused := f.askToStop(ctx, r.ID, found.addresses())
	if refused != nil {
		return refused
	}
	if err := stopped.enough(r.Cuts); err != nil {
		return minority(stopped, silent, err)
	}
	if err := f.lends(stopped); err != nil {
		return err
	}
	until := standby.Outlasts(stopped.lease())
	if !sleep.For(ctx, until) {
		return context.Cause(ctx)
	}
	r.ends(stopped)
	r.Step, r.Fence = Fenced, fencedByStop
	if f.own == r.ID {
		f.trusted = began + SealTrust
	}
	return f.write(o, r, fmt.Sprintf("%s have stopped, a majority of the masters: no mutation is acknowledged any more, and no lease is left", strings.Join(stopped.addresses(), ", ")))
}

// ends notes who has stopped, and up to where each vBucket has to be brought.
func (r *Record) ends(stopped reports) {
	r.Stopped = maps.Clone(r.Stopped)
	for address, found := range stopped {
		r.Stopped[address] = found.Token
		r.Leased = r.Leased || found.Leased
		r.Masters = union(r.Masters, found.Masters)
	}
	cuts := map[string]Cut{}
	for name, cut := range r.Cuts {
		address, best := stopped.best(name)
		cut.Seal, cut.Source, cut.Digest = max(cut.Seal, best.End), address, best.Digest
		cuts[name] = cut
	}
	r.Cuts = cuts
}

// minority says that too few masters answer for a fence.
func minority(found reports, silent []string, err error) error {
	who := "no master answers"
	if len(found) > 0 {
		who = "only " + strings.Join(found.addresses(), ", ") + " would stop"
	}
	if len(silent) > 0 {
		who += ", and not " + strings.Join(silent, "; ")
	}
	return fmt.Errorf("the masters cannot be stopped either: %w (%s)", err, who)
}

// lookAtMasters asks the masters that are known, and those that they name, who keeps the logs. It
// returns why others would not stop.
func (f *Founder) lookAtMasters(ctx context.Context, r *Record) (found reports, silent []string, err error) {
	found = reports{}
	asked := map[string]bool{}
	for {
		var now []string
		for _, address := range r.Masters {
			if !asked[address] {
				now, asked[address] = append(now, address), true
			}
		}
		if len(now) == 0 {
			return found, silent, nil
		}
		answers := make([]StoppedDatabase, len(now))
		errs := each(ctx, now, func(ctx context.Context, address string) (err error) {
			answers[slices.Index(now, address)], err = f.opts.Masters.Keepers(ctx, address, r.ID)
			return err
		})
		for i, address := range now {
			switch kind := kv.KindOf(errs[i]); {
			case errs[i] == nil:
				found[address] = answers[i]
				r.Masters, r.Leased = union(r.Masters, answers[i].Masters), r.Leased || answers[i].Leased
			case kind == kv.Precondition:
				return found, silent, fmt.Errorf("%s: %w", address, errs[i])
			default:
				silent = append(silent, fmt.Sprintf("%s: %v", address, errs[i]))
			}
		}
	}
}

// askToStop stops masters for a promotion, all at once. It returns why some are not known to have
// stopped, and the error of one that has refused it, as after an end of its stop.
func (f *Founder) askToStop(ctx context.Context, id string, masters []string) (stopped reports, silent []string, refused error) {
	stopped = reports{}
	answers := make([]StoppedDatabase, len(masters))
	errs := within(ctx, stopPatience, masters, func(ctx context.Context, address string) (err error) {
		answers[slices.Index(masters, address)], err = f.opts.Masters.Stop(ctx, address, id)
		return err
	})
	for i, address := range masters {
		switch {
		case errs[i] == nil:
			stopped[address] = answers[i]
		case kv.KindOf(errs[i]) == kv.Precondition:
			refused = fmt.Errorf("%s: %w", address, errs[i])
		default:
			silent = append(silent, fmt.Sprintf("%s: %v", address, errs[i]))
		}
	}
	return stopped, silent, refused
}

// confirmStops asks those that were counted whether they are stopped still, as confirm does for
// seals: silent reports whether too few have answered, and why.
func (f *Founder) confirmStops(ctx context.Context, r *Record) (silent, err error) {
	var counted []string
	for address, token := range r.Stopped {
		if token != "" {
			counted = append(counted, address)
		}
	}
	slices.Sort(counted)
	now, missing, refused := f.askToStop(ctx, r.ID, counted)
	if refused != nil {
		return nil, kv.Errorf(kv.Precondition, "%w; its masters may have acknowledged mutations since they had stopped; promote again", refused)
	}
	for address, found := range now {
		if found.Token != r.Stopped[address] {
			return nil, kv.Errorf(kv.Precondition, "%s had ended its stop by then, and its masters may have acknowledged mutations since; promote again", address)
		}
	}
	if err := now.enough(r.Cuts); err != nil {
		return minority(now, missing, err), nil
	}
	return nil, nil
}

// catchUp brings the founder's sealed copies to the ends of the logs of masters that have stopped.
func (f *Founder) catchUp(ctx context.Context, r *Record) error {
	if r.Fence != fencedByStop {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, catchUpPatience)
	defer cancel()
	for _, p := range f.opts.Copies.Positions() {
		cut := r.Cuts[p.VBucket]
		if p.Index >= cut.Seal {
			continue
		}
		if err := f.catchUpFrom(ctx, r, p.VBucket, cut); err != nil {
			return fmt.Errorf("vBucket %s is at %d, and the log of %s ends at %d: %w", p.VBucket, p.Index, cut.Source, cut.Seal, err)
		}
	}
	return nil
}

// lentPause is how long to wait before a master is asked again for its changes, which opens its
// data again when it has stopped.
const lentPause = 200 * time.Millisecond

func (f *Founder) catchUpFrom(ctx context.Context, r *Record, vBucket string, cut Cut) error {
	for {
		err := f.opts.Copies.CatchUp(ctx, r.ID, vBucket, cut.Source, cut.Seal)
		if err == nil || !sleep.For(ctx, lentPause) {
			return err
		}
	}
}

// lends returns an error if a copy needs changes that the master with the best log cannot give.
func (f *Founder) lends(stopped reports) error {
	for _, p := range f.opts.Copies.Positions() {
		if address, best := stopped.best(p.VBucket); p.Index < best.End && best.Fault != "" {
			return kv.Errorf(kv.Precondition, "the log of vBucket %s at %s ends at %d, this copy is at %d, and %s cannot give the changes in between: %s", p.VBucket, address, best.End, p.Index, address, best.Fault)
		}
	}
	return nil
}
