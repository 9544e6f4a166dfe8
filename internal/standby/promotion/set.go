package promotion

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
)

const (
	// plannedLag is how many changes a slave may be behind, and for how long, when a planned
	// promotion begins: writes pause until it has them.
	plannedLag, plannedAge = 10_000, 30 * time.Second
	// catchUpPatience bounds how long a sealed node may take to get the changes that it lacks.
	catchUpPatience = time.Minute
	// mostNodes bounds the lists of addresses that other nodes send.
	mostNodes = 64
)

// gather adds the nodes that become masters together to a promotion. A founder that is alone,
// with one vBucket, becomes a standalone node instead.
func (f *Founder) gather(ctx context.Context, r *Record, with []string) error {
	if r.Planned {
		if err := soon("this slave", f.opts.Copies.Positions()); err != nil {
			return err
		}
	}
	if len(with) == 0 && len(r.Cuts) == 1 {
		return nil
	}
	if len(with) >= mostNodes {
		return kv.Errorf(kv.Invalid, "-with names %d nodes; promote a few, and add the others with dkvctl -addNode", len(with))
	}
	self, err := f.opts.Set.Self()
	if err != nil {
		return err
	}
	nodes := append([]Node{self}, make([]Node, len(with))...)
	for r.Deployment == 0 {
		r.Deployment = rand.Uint64()
	}
	r.Format = f.opts.Set.Format()
	errs := each(ctx, with, func(ctx context.Context, address string) error {
		node, positions, err := f.opts.Set.Look(ctx, address)
		if err == nil {
			err = r.follows(positions)
		}
		if err == nil && r.Planned {
			err = soon("it", positions)
		}
		nodes[1+slices.Index(with, address)] = node
		return err
	})
	if err := joined(with, errs); err != nil {
		return kv.Errorf(kv.Precondition, "not every node that -with names can become a master with this one: %w", err)
	}
	for i := range nodes {
		nodes[i].Replica = uint64(i) + 1
		for _, o := range nodes[:i] {
			if o.Address == nodes[i].Address || o.URL == nodes[i].URL || o.Disk == nodes[i].Disk {
				return kv.Errorf(kv.Invalid, "%s (Raft address %s) and %s (Raft address %s) are one node, or share a Raft address or a disk; "+
					"name each other slave once in -with, and give each a nexus-node-url of its own", o.Address, o.URL, nodes[i].Address, nodes[i].URL)
			}
		}
	}
	r.Nodes = nodes
	r.Untold = r.Addresses()[1:]
	r.Masters = without(r.Masters, r.Addresses())
	return nil
}

// follows returns an error unless copies are of the histories that the promotion ends.
func (r *Record) follows(positions []Position) error {
	if len(positions) != len(r.Cuts) {
		return fmt.Errorf("it has %d vBuckets, and this node has %d", len(positions), len(r.Cuts))
	}
	for _, p := range positions {
		switch cut, known := r.Cuts[p.VBucket]; {
		case !known:
			return fmt.Errorf("vBucket %s is not known here", p.VBucket)
		case p.History == "":
			return fmt.Errorf("vBucket %s has no data there yet: wait until dkvctl -status shows it alive", p.VBucket)
		case p.History != cut.Former:
			return fmt.Errorf("vBucket %s has the history %s there and %s here: both have to follow the same masters first", p.VBucket, p.History, cut.Former)
		case p.Sealed != "" && p.Sealed != r.ID:
			return fmt.Errorf("another promotion has sealed it: end that with dkvctl -promote -abandon there, if its founder is gone")
		}
	}
	return nil
}

// holds returns an error unless copies are sealed by the promotion.
func (r *Record) holds(positions []Position) error {
	for _, p := range positions {
		if p.Sealed != r.ID {
			return fmt.Errorf("vBucket %s is not sealed there any more", p.VBucket)
		}
	}
	return nil
}

// soon returns an error unless copies are so near to their masters that writes pause only
// shortly.
func soon(who string, positions []Position) error {
	for _, p := range positions {
		if p.Lag > plannedLag || p.Age > plannedAge {
			return kv.Errorf(kv.Precondition, "%s is %d changes behind in vBucket %s, and was last known to be complete %s ago: "+
				"a planned promotion would pause writes for long; wait until it has caught up", who, p.Lag, p.VBucket, p.Age.Round(100*time.Millisecond))
		}
	}
	return nil
}

// sealSet seals the copies of the other nodes, and returns how far each of them is.
func (f *Founder) sealSet(ctx context.Context, r *Record) ([][]Position, error) {
	if len(r.Nodes) <= 1 {
		return nil, nil
	}
	others := r.Addresses()[1:]
	out := make([][]Position, len(others))
	errs := each(ctx, others, func(ctx context.Context, address string) (err error) {
		i := slices.Index(others, address)
		out[i], err = f.opts.Set.Seal(ctx, address, r.ID)
		return err
	})
	for i, address := range others {
		f.untouched[address] = f.untouched[address] && errs[i] != nil && kv.OutcomeOf(errs[i]) == kv.NotApplied
	}
	for i, positions := range out {
		if errs[i] == nil {
			errs[i] = cmp.Or(r.follows(positions), r.holds(positions))
		}
	}
	if err := joined(others, errs); err != nil {
		return nil, kv.Errorf(kv.Precondition, "not every node of the promotion can be sealed: %w", err)
	}
	return out, nil
}

// furthest returns the greatest index of a vBucket's copies, and the log's clock there. That of a copy
// which is behind may be later, if the clock was set back since.
func furthest(all [][]Position, vBucket string) (index kv.Index, clock kv.Clock) {
	for _, positions := range all {
		for _, p := range positions {
			if p.VBucket == vBucket && p.Index > index {
				index, clock = p.Index, p.Clock
			}
		}
	}
	return index, clock
}

// equal brings the copies of all nodes to the same state: each vBucket to the greatest index
// that one of them has, by changes from there, and the requests to the founder's.
func (f *Founder) equal(ctx context.Context, o *order, r Record) error {
	if err := f.whileAnswering(ctx, &r, func(ctx context.Context) error { return f.equalize(ctx, &r) }); err != nil {
		return err
	}
	r.Step = Equal
	return f.write(o, r, fmt.Sprintf("%d nodes have the same state", len(r.Nodes)))
}

// reached returns how far the copies of all nodes are, those of the founder first.
func (f *Founder) reached(ctx context.Context, r *Record) ([][]Position, error) {
	own, err := f.opts.Copies.Reached(ctx)
	if err != nil {
		return nil, err
	}
	others, err := f.sealSet(ctx, r)
	return append([][]Position{own}, others...), err
}

// level brings the copies of a node to where the old history ends.
func (f *Founder) level(ctx context.Context, r *Record, n Node) error {
	all, err := f.reached(ctx, r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, catchUpPatience)
	defer cancel()
	for _, p := range all[n.Replica-1] {
		end := r.Cuts[p.VBucket].End
		if p.Index == end {
			continue
		}
		source := slices.IndexFunc(all, func(of []Position) bool {
			return slices.ContainsFunc(of, func(o Position) bool { return o.VBucket == p.VBucket && o.Index == end })
		})
		switch {
		case p.Index > end || source < 0:
			return fmt.Errorf("vBucket %s is at %d, and is to be cut at %d", p.VBucket, p.Index, end)
		case n.Replica == 1:
			err = f.opts.Copies.CatchUp(ctx, r.ID, p.VBucket, r.Nodes[source].Address, end)
		default:
			_, err = f.opts.Set.CatchUp(ctx, n.Address, r.ID, p.VBucket, r.Nodes[source].Address, end)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// agree returns an error unless all copies are at the end of the old history and have the same
// last change.
func (r *Record) agree(all [][]Position) error {
	digests := map[string]Position{}
	for i, positions := range all {
		for _, p := range positions {
			if end := r.Cuts[p.VBucket].End; p.Index != end || p.Sealed != r.ID {
				return kv.Errorf(kv.Precondition, "vBucket %s of %s is at %d, sealed by %q, and should be at %d, sealed by %q", p.VBucket, r.Nodes[i].Address, p.Index, p.Sealed, end, r.ID)
			}
			if p.Digest == 0 {
				continue // not retained there
			}
			if o, known := digests[p.VBucket]; known && o.Digest != p.Digest {
				return kv.Errorf(kv.Precondition, "vBucket %s of %s has another last change at %d than the other nodes: its copy has diverged; "+
					"rebuild it with dkvctl -resync, and promote again", p.VBucket, r.Nodes[i].Address, p.Index)
			}
			digests[p.VBucket] = p
		}
	}
	return nil
}

// tell tells the other nodes that the promotion is decided. Those that do not answer are told
// by the masters that have begun.
func (f *Founder) tell(ctx context.Context, o *order) {
	r := *f.record
	if len(r.Untold) == 0 {
		return
	}
	told, err := r.told(ctx, f.opts.Set.Become)
	r.Untold = without(r.Untold, told)
	text := "every node knows that it becomes a master"
	if err != nil {
		text = fmt.Sprintf("%s: told again and again from now on: %v", strings.Join(r.Untold, ", "), err)
	}
	if err := f.write(o, r, text); err != nil {
		f.opts.Log.Warn("which nodes know that the promotion is decided cannot be written down; they are told again", "error", err)
	}
}

// told tells the nodes that do not know yet that the promotion is decided, and returns those
// that know now.
func (r Record) told(ctx context.Context, become func(ctx context.Context, address string, r Record) error) (told []string, err error) {
	errs := each(ctx, r.Untold, func(ctx context.Context, address string) error {
		theirs := r
		for _, n := range r.Nodes {
			if n.Address == address {
				theirs.Replica = n.Replica
			}
		}
		return become(ctx, address, theirs)
	})
	for i, address := range r.Untold {
		if errs[i] == nil {
			told = append(told, address)
		}
	}
	return told, joined(r.Untold, errs)
}

// sameNodes reports whether an operator has named the nodes of a promotion that is under way.
func sameNodes(nodes []Node, with []string) bool {
	return len(nodes) == len(with)+1 && !slices.ContainsFunc(nodes[1:], func(n Node) bool { return !slices.Contains(with, n.Address) })
}

// each calls f for every address, all at once, and returns their errors in order.
func each(ctx context.Context, addresses []string, f func(ctx context.Context, address string) error) []error {
	return within(ctx, callPatience, addresses, f)
}

// within is each with another bound for a call.
func within(ctx context.Context, patience time.Duration, addresses []string, f func(ctx context.Context, address string) error) []error {
	errs := make([]error, len(addresses))
	var calls sync.WaitGroup
	for i, address := range addresses {
		calls.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			errs[i] = f(ctx, address)
		})
	}
	calls.Wait()
	return errs
}

// joined is the errors of several nodes as one, which names them; nil if there is none.
func joined(addresses []string, errs []error) (all error) {
	for i, err := range errs {
		switch {
		case err == nil:
		case all == nil:
			all = fmt.Errorf("%s: %w", addresses[i], err)
		default:
			all = fmt.Errorf("%w; %s: %w", all, addresses[i], err)
		}
	}
	return all
}

// without returns a list less what is in another one.
func without(list, less []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(less, s) })
}

// union returns the addresses of both lists, as many as a promotion knows.
func union(a, b []string) []string {
	out := slices.Clone(a)
	for _, address := range b {
		if !slices.Contains(out, address) && len(out) < mostNodes {
			out = append(out, address)
		}
	}
	return out
}
