package slave

import (
	"context"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/fsm/history"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/slave/source"
)

// verdict is why a state cannot continue from a source.
type verdict uint8

const (
	// fit means that it can.
	fit verdict = iota
	// nothing means that there is no state yet.
	nothing
	// trimmed means that the source does not retain the next change.
	trimmed
	// behind means that the source has not got as far as the state.
	behind
	// regressed means the same of a source that has all of the log: the log itself has
	// lost its end.
	regressed
	// diverged means that the source has another change than the state had under
	// the same number.
	diverged
	// renewed means that a restore has replaced the state's history by a new one, and that
	// the source has applied it.
	renewed
	// rewritten means that the state's cluster has another history, which is not known to
	// have replaced the state's, or has not got as far.
	rewritten
	// promoted means that a promotion has replaced the state's history by a new one, of
	// which all of the state is a part.
	promoted
	// surplus means the same, but the state has changes that the new history does not have.
	surplus
	// former means that the source is of an era before the state's.
	former
	// rival means that the source has another history of the state's era, which neither has
	// replaced.
	rival
	// foreign means that the source belongs to another cluster.
	foreign
)

func (v verdict) String() string {
	switch v {
	case fit:
		return "can be followed"
	case nothing:
		return "begins the copy"
	case trimmed:
		return "does not retain the changes from here on"
	case behind:
		return "is behind this node"
	case regressed:
		return "has lost changes that are here"
	case diverged:
		return "has other changes under the same numbers"
	case renewed:
		return "has a restored state in the place of this history"
	case rewritten:
		return "has another history that is not known to replace this one, or is behind it"
	case promoted:
		return "has the history that a promotion has begun"
	case surplus:
		return "has the history that a promotion has begun below the changes that are here"
	case former:
		return "has a history from before the promotion that the one here comes from"
	case rival:
		return "has another history of the same era, founded by another promotion"
	case foreign:
		return "belongs to another cluster"
	default:
		return "unknown"
	}
}

// replaces reports whether a source has a history that has replaced the state's, so that no other
// source need be asked for the state's own.
func (v verdict) replaces() bool { return v == renewed || v == surplus }

// finding is the result of asking a source that cannot be followed.
type finding struct {
	verdict verdict
	// id and newest are what the source has.
	id     history.Identity
	newest kv.Index
	// lineage is the histories before the source's; empty if it has the state's own.
	lineage []history.Former
}

// own reports whether the source has the state's own history, or the one that a restore or a
// promotion has replaced it by.
func (f finding) own() bool {
	switch f.verdict {
	case fit, trimmed, renewed, promoted, surplus:
		return true
	default:
		return false
	}
}

// search collects the sources that cannot be followed.
type search struct {
	// findings are those of the present round, by address.
	findings map[string]finding
	// asked reports that excluded sources are tried too in this round.
	asked  bool
	rounds int
	// since is when the first of them was found.
	since time.Time
}

const (
	// A state is replaced, or reported as kept, only when no source has had its history
	// for some rounds and some time: a node that lags or shows a wrong state for a moment
	// must cause neither a bootstrap nor an alert.
	giveUpRounds = 3
	giveUpAfter  = 10 * time.Second
	// roundPause is how long a source that lags has to catch up.
	roundPause = 250 * time.Millisecond
)

func (s *search) found(address string, f finding) {
	if s.findings == nil {
		s.findings = make(map[string]finding)
	}
	if s.since.IsZero() {
		s.since = time.Now()
	}
	s.findings[address] = f
}

// again starts another round.
func (s *search) again() { s.findings, s.asked = nil, false }

// reset drops all findings, when a source can be followed.
func (s *search) reset() { *s = search{} }

// due reports whether the search for a source has taken long enough.
func (s *search) due() bool { return s.rounds >= giveUpRounds && time.Since(s.since) >= giveUpAfter }

// undecided returns the first source that may still have the next changes of the state: one
// that has not answered, or is of its history; empty if there is none.
func (s *search) undecided(sources []source.Source, id history.Identity) string {
	for _, src := range sources {
		switch f, judged := s.findings[src.Address]; {
		case judged && f.verdict != behind && f.verdict != trimmed:
		case !judged && src.ForeignTo(id):
		default:
			return src.Address
		}
	}
	return ""
}

// plan is what to do next.
type plan struct {
	source source.Source
	// bootstrap says to start with a snapshot, which grant must admit.
	bootstrap bool
	grant     grant
}

// next chooses what to do; false means to wait.
func (p *Puller) next(ctx context.Context) (plan, bool) {
	if leader := p.named(); leader != "" {
		p.lead(leader)
	}
	candidates := p.candidates()
	id, _ := p.opts.State.Position()
	p.chooser.Retain(candidates)
	ordered := p.chooser.Order(candidates, id)
	if s, there := source.At(ordered, p.moving); there && !p.chooser.PassedOver(s.Address) {
		return plan{source: s}, true // which need not be the first one
	}
	all, ended := true, false
	for _, s := range ordered {
		f, judged := p.search.findings[s.Address]
		if judged && s.Awaits && f.verdict.replaces() {
			break // the log's owner knows, and waits for this copy, or will
		}
		if ended && !s.LaterThan(id) {
			break // it may still have the history that has ended
		}
		ended = ended || judged && f.verdict == surplus && s.LaterThan(id)
		if !judged && !p.chooser.PassedOver(s.Address) {
			return plan{source: s}, true
		}
		all = all && judged
	}
	switch {
	case len(ordered) == 0:
		p.report("no master is known; waiting for one", nil)
		return plan{}, false
	case len(p.search.findings) > 0 && (all || p.search.asked):
		return p.judge(ctx, ordered)
	default: // there is no other one
		p.chooser.Forgive()
		p.search.asked = true
		return plan{}, false
	}
}

// judge decides what to do with a state that can continue from none of the sources, all of
// which were asked.
func (p *Puller) judge(ctx context.Context, ordered []source.Source) (plan, bool) {
	id, at := p.opts.State.Position()
	switch s, certain := p.forgetful(ordered, id); {
	case s.Address == "":
	case !certain && !p.search.due():
		p.search.rounds++
		p.search.again()
		p.pause.atLeast(roundPause)
		return plan{}, false
	default:
		p.log.Info("no master retains the changes that come next here; starting over from a snapshot", "master", s.Address)
		p.outrun(s.Address, at)
		return plan{source: s, bootstrap: true, grant: grant{cluster: id.Cluster, history: p.search.findings[s.Address].id.History}}, true
	}
	if s, ok := p.judged(ordered, func(_ source.Source, f finding) bool { return f.verdict == surplus }); ok {
		history := p.search.findings[s.Address].id.History
		return plan{source: s, bootstrap: true, grant: grant{cluster: id.Cluster, history: history, aside: true}}, true
	}
	p.search.rounds++
	if next, ok := p.successor(ctx, ordered, id); ok {
		f := p.search.findings[next.source.Address]
		p.log.Warn("the copy here gives way to a snapshot, and is kept until that is whole",
			"master", next.source.Address, "reason", "the master "+f.verdict.String(), "copy", name(id, at), "theirs", name(f.id, f.newest))
		return next, true
	}
	p.keep(ordered, id, at)
	p.search.again()
	p.pause.atLeast(roundPause)
	return plan{}, false
}

// successor returns the plan by which another state replaces the present one: after an
// order, after a restore of its own cluster, or because the present state is empty. A
// restored state is used at once if the leader has it, or the owner that waits for this copy, or if
// all chosen sources have answered, and otherwise after a while.
func (p *Puller) successor(ctx context.Context, ordered []source.Source, id history.Identity) (plan, bool) {
	if next, ok := p.carryOut(ordered); ok {
		return next, true
	}
	undecided, due := p.search.undecided(ordered, id), p.search.due()
	if s, ok := p.judged(ordered, func(s source.Source, f finding) bool {
		return f.verdict == renewed && (due || s.Status == serverpb.RegionStatus_LEADER || s.Awaits || s.Chosen && undecided == "")
	}); ok {
		return plan{source: s, bootstrap: true, grant: grant{cluster: id.Cluster, history: p.search.findings[s.Address].id.History}}, true
	}
	if !due || undecided != "" {
		return plan{}, false
	}
	// An error is one of storage, which is reported elsewhere.
	if nothing, err := p.opts.State.Keyless(ctx); err != nil || !nothing {
		return plan{}, false
	}
	s, ok := p.judged(ordered, func(_ source.Source, f finding) bool { return f.id.History != "" && f.verdict != former })
	return plan{source: s, bootstrap: true, grant: grant{any: true}}, ok
}

// judged returns the best source with this verdict that is not excluded.
func (p *Puller) judged(ordered []source.Source, is func(source.Source, finding) bool) (source.Source, bool) {
	for _, s := range ordered {
		if f, judged := p.search.findings[s.Address]; judged && is(s, f) && !p.chooser.PassedOver(s.Address) {
			return s, true
		}
	}
	return source.Source{}, false
}
