package slave

import (
	"context"
	"errors"
	"fmt"

	"github.com/dkvdb/dkv/internal/fsm/history"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/slave/source"
	"github.com/dkvdb/dkv/internal/storage"
)

// kept is a copy that can follow no master and that the slave does not replace by itself.
type kept struct {
	// reason is a sentence for operators.
	reason string
	// cluster is the cluster whose state would replace the copy after an order.
	cluster string
}

// keep records why the copy stays although masters answer: it may be the only one.
func (p *Puller) keep(ordered []source.Source, id history.Identity, at kv.Index) {
	undecided := p.search.undecided(ordered, id)
	due := p.search.due()
	if undecided != "" && !due {
		return // that one may answer, or draw level, in a moment
	}
	src, found := p.search.contrary(ordered)
	if src.Address == "" {
		return
	}
	k := kept{cluster: found.id.Cluster}
	k.reason = fmt.Sprintf("vBucket %s keeps its copy (%s), read-only: master %s (%s) %s",
		p.opts.VBucket, name(id, at), src.Address, name(found.id, found.newest), found.verdict)
	if undecided != "" && undecided != src.Address {
		k.reason += fmt.Sprintf(", and %s may still have what comes next here", undecided)
	}
	resync := fmt.Sprintf("dkvctl -a %s -resync", selfOf(p.opts.Self))
	order, is := p.opts.State.Ordered()
	switch {
	case is:
		k.reason += "; the order to give it up waits for a master of the cluster that it was given for, " + order
	case found.verdict == behind:
		k.reason += ", and is waited for; if what it lacks is lost for good, give the copy up for its state: " + resync
	default:
		k.reason += "; to give the copy up for that master's state: " + resync
	}
	if led := *p.leader.Load(); p.search.findings[led].verdict == foreign {
		p.lead("") // what led is another cluster's by now
	}
	// Once for all that the master writes meanwhile.
	p.reportAs("kept"+undecided+src.Address+found.verdict.String()+found.id.Cluster+found.id.History, k.reason, nil)
	p.status.keep(&k)
}

// contrary returns the best source that answered and cannot be followed; one that only
// lags comes last.
func (s *search) contrary(ordered []source.Source) (source.Source, finding) {
	var behindOne source.Source
	for _, src := range ordered {
		switch f, judged := s.findings[src.Address]; {
		case !judged || f.verdict == trimmed || f.id.History == "":
		case f.verdict != behind:
			return src, f
		case behindOne.Address == "":
			behindOne = src
		}
	}
	return behindOne, s.findings[behindOne.Address]
}

// Resync orders the copy to be replaced by the state that the reason for keeping it names.
// A copy that is not kept is rebuilt only with force, from a master of its own cluster.
// The order stays, through restarts too, until it is carried out. Resync returns a
// sentence about what will happen to the copy.
func (p *Puller) Resync(ctx context.Context, force bool) (string, error) {
	id, at := p.opts.State.Position()
	k := p.status.keeping()
	switch {
	case id.History == "":
		return "", kv.Errorf(kv.Precondition, "vBucket %s has no copy yet, and takes the first state that a master offers (not applied)", p.opts.VBucket)
	case k == nil && !force:
		s := p.Status()
		return "", kv.Errorf(kv.Precondition, "vBucket %s is %s %s and keeps no copy that a master contradicts; "+
			"-force rebuilds it all the same, from a master of its cluster (not applied)", p.opts.VBucket, s.Phase, s.Master)
	case k == nil:
		if err := p.fits(id, at); err != nil {
			return "", err
		}
		k = &kept{cluster: id.Cluster}
	}
	if err := p.opts.State.Order(ctx, k.cluster); err != nil {
		return "", err
	}
	p.log.Warn("ordered to give up the copy", "copy", name(id, at), "for_cluster", k.cluster)
	select {
	case p.ordered <- struct{}{}:
	default:
	}
	return fmt.Sprintf("the copy (%s) gives way to a state of cluster %s, and stays until that is whole", name(id, at), k.cluster), nil
}

// CancelResync withdraws an order to replace the copy, if it is not carried out yet: what
// was loaded of another state is removed. It returns a sentence about what happens to the
// copy.
func (p *Puller) CancelResync(ctx context.Context) (string, error) {
	cluster, _ := p.opts.State.Ordered()
	was, err := p.opts.State.Withdraw(ctx)
	if err != nil {
		return "", err
	}
	if !was {
		return "", kv.Errorf(kv.Precondition, "vBucket %s has no order to give up its copy: it was carried out or withdrawn, or never given (nothing was changed)", p.opts.VBucket)
	}
	if cancel := p.rebuilding.Load(); cancel != nil {
		(*cancel)(errWithdrawn)
	}
	id, at := p.opts.State.Position()
	p.log.Warn("the order to give up the copy was withdrawn", "copy", name(id, at), "for_cluster", cluster)
	return fmt.Sprintf("the copy (%s) stays; the order to give it up for a state of cluster %s is withdrawn", name(id, at), cluster), nil
}

// isOrdered reports whether an order to give up the copy stands.
func (p *Puller) isOrdered() bool {
	_, is := p.opts.State.Ordered()
	return is
}

// fits rejects an order to rebuild a healthy copy if there is no space for another one
// beside it: until there was, the copy would follow no master.
func (p *Puller) fits(id history.Identity, at kv.Index) error {
	size := p.opts.State.Size()
	if err := p.opts.State.Fits(size); errors.Is(err, storage.ErrNoSpace) {
		return kv.Errorf(kv.Precondition, "the copy of vBucket %s (%s) stays until another one is whole, and there is no room for that, "+
			"about %d MiB, beside it: %w; make room first (not applied)", p.opts.VBucket, name(id, at), size>>20, err)
	}
	return nil
}

// carryOut returns the plan for an order, after all masters were asked: it uses a state of
// the cluster that the order was given for, and no other.
func (p *Puller) carryOut(ordered []source.Source) (plan, bool) {
	cluster, is := p.opts.State.Ordered()
	if !is {
		return plan{}, false
	}
	s, ok := p.judged(ordered, func(_ source.Source, f finding) bool {
		return f.id.History != "" && f.id.Cluster == cluster && f.verdict != former
	})
	if !ok {
		return plan{}, false
	}
	return plan{source: s, bootstrap: true, grant: grant{cluster: cluster, older: true}}, true
}

// obey carries out an order, if there is one, with a master of the copy's own cluster. It
// returns false if that master is to be followed instead: there is no order, no space for
// another copy yet, or the order was given for another cluster's state. In the last case
// the order is withdrawn, since its reason no longer exists.
func (s *session) obey(ctx context.Context, found finding) (done bool, err error) {
	order, is := s.opts.State.Ordered()
	id, _ := s.opts.State.Position()
	switch {
	case !is:
		return false, nil
	case order != id.Cluster:
		if err := s.opts.State.Order(ctx, ""); err != nil {
			return false, localError{err}
		}
		s.log.Warn("the order to give up the copy is withdrawn: a master of the copy's own cluster can be followed",
			"master", s.source.Address, "own_cluster", id.Cluster, "for_cluster", order)
		return false, nil
	}
	well := found.verdict == fit
	noRoom := func(err error) {
		s.report("there is no room to rebuild the copy as ordered; it follows on until there is", err, "master", s.source.Address)
	}
	if well && s.needs > 0 {
		if err := s.opts.State.Fits(s.needs); err != nil {
			noRoom(err)
			return false, nil
		}
	}
	s.log.Warn("rebuilding the copy as ordered; it is kept until the new one is whole", "master", s.source.Address)
	err = s.bootstrap(ctx, grant{cluster: found.id.Cluster, history: found.id.History, older: true, well: well})
	if well && errors.Is(err, storage.ErrNoSpace) {
		noRoom(err)
		return true, nil // what the master has is looked at again: the load may have taken long
	}
	return true, err
}
