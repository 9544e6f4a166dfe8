package slave

import (
	"context"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
)

// verdict is why a state cannot follow on from a source.
type verdict uint8

const (
	// fit is no reason: it can.
	fit verdict = iota
	// nothing means that there is no state yet.
	nothing
	// trimmed means that the source does not retain the next change.
	trimmed
	// behind means that the source has not got as far as the state.
	behind
	// regressed means that it has not, although it has all of the log: the log
	// itself has gone back.
	regressed
	// diverged means that the source has another change than the state had under
	// the same number.
	diverged
	// renewed means that a restore has put a new history in the place of the state's,
	// and that the source has got as far.
	renewed
	// rewritten means that the state's cluster has another history, which is not known
	// to have taken the place of the state's, or has not got as far.
	rewritten
	// foreign means that the source is of another cluster.
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
	case foreign:
		return "belongs to another cluster"
	default:
		return "unknown"
	}
}

// finding is what became of asking a source that cannot be followed.
type finding struct {
	verdict verdict
	// id and newest are what the source has.
	id     fsm.Identity
	newest kv.Index
}

// own reports whether the source has the state's own history, or what a restore has put in
// its place.
func (f finding) own() bool {
	return f.verdict == fit || f.verdict == trimmed || f.verdict == renewed
}

// search is what is known of sources that cannot be followed.
type search struct {
	// findings are those of the present round, by address.
	findings map[string]finding
	// asked tells that in this round those are tried too that were passed over.
	asked  bool
	rounds int
	// since is when the first of them was found.
	since time.Time
}

const (
	// A state gives way, or is said to be kept, only when no source has had its own for
	// some rounds and some time: a node that shows a wrong one, or lags, for a moment
	// must not cost a bootstrap, or an alert.
	giveUpRounds = 3
	giveUpAfter  = 10 * time.Second
	// roundPause is how long a source that is behind has to draw level.
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

// again begins another round.
func (s *search) again() { s.findings, s.asked = nil, false }

// reset forgets all: a source can be followed.
func (s *search) reset() { *s = search{} }

// due reports whether the search for a source to follow has taken its time.
func (s *search) due() bool { return s.rounds >= giveUpRounds && time.Since(s.since) >= giveUpAfter }

// undecided returns the first source that may still have what the state goes on with:
// one that has not answered, or is of its history. Empty is none.
func (s *search) undecided(sources []Source, id fsm.Identity) string {
	for _, src := range sources {
		switch f, judged := s.findings[src.Address]; {
		case judged && f.verdict != behind && f.verdict != trimmed:
		case !judged && src.foreignTo(id):
		default:
			return src.Address
		}
	}
	return ""
}

// plan is what to do next.
type plan struct {
	source Source
	// bootstrap tells to begin with a snapshot, which grant has to admit.
	bootstrap bool
	grant     grant
}

// next chooses what to do; false is to wait.
func (p *Puller) next(ctx context.Context) (plan, bool) {
	if leader := p.named(); leader != "" {
		p.lead(leader)
	}
	candidates := p.opts.Sources.Candidates(p.opts.VBucket)
	id, _ := p.opts.State.Position()
	p.chooser.retain(candidates)
	ordered := p.chooser.order(candidates, id)
	all := true
	for _, s := range ordered {
		_, judged := p.search.findings[s.Address]
		if !judged && !p.chooser.passedOver(s.Address) {
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
		p.chooser.forgive()
		p.search.asked = true
		return plan{}, false
	}
}

// judge decides what becomes of a state that can follow on from none of the sources,
// all of which were asked.
func (p *Puller) judge(ctx context.Context, ordered []Source) (plan, bool) {
	id, at := p.opts.State.Position()
	if s, ok := p.judged(ordered, func(_ Source, f finding) bool { return f.verdict == trimmed }); ok {
		p.log.Info("no master retains the changes that come next here; starting over from a snapshot", "master", s.Address)
		return plan{source: s, bootstrap: true, grant: grant{cluster: id.Cluster, history: id.History}}, true
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

// successor returns how the present state gives way to another one: by an order, or to a
// restore of its own cluster, or because there is nothing in it. A restored state is taken
// over at once where the leader has it, or where all who were chosen have answered; else
// that takes its time.
func (p *Puller) successor(ctx context.Context, ordered []Source, id fsm.Identity) (plan, bool) {
	if next, ok := p.carryOut(ordered); ok {
		return next, true
	}
	undecided, due := p.search.undecided(ordered, id), p.search.due()
	if s, ok := p.judged(ordered, func(s Source, f finding) bool {
		return f.verdict == renewed && (due || s.Status == serverpb.RegionStatus_LEADER || s.Chosen && undecided == "")
	}); ok {
		return plan{source: s, bootstrap: true, grant: grant{cluster: id.Cluster, history: p.search.findings[s.Address].id.History}}, true
	}
	if !due || undecided != "" {
		return plan{}, false
	}
	// An error is that of storage, which says so elsewhere.
	if nothing, err := p.opts.State.Keyless(ctx); err != nil || !nothing {
		return plan{}, false
	}
	s, ok := p.judged(ordered, func(_ Source, f finding) bool { return f.id.History != "" })
	return plan{source: s, bootstrap: true, grant: grant{any: true}}, ok
}

// judged returns the best source of a finding that is not passed over.
func (p *Puller) judged(ordered []Source, is func(Source, finding) bool) (Source, bool) {
	for _, s := range ordered {
		if f, judged := p.search.findings[s.Address]; judged && is(s, f) && !p.chooser.passedOver(s.Address) {
			return s, true
		}
	}
	return Source{}, false
}
