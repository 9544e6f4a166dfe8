package slave

import "time"

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
	// foreign means that the source's changes are of another history.
	foreign
	// diverged means that the source has another change than the state had under
	// the same number.
	diverged
)

func (v verdict) String() string {
	switch v {
	case fit:
		return "it can be followed"
	case nothing:
		return "there is no state here yet"
	case trimmed:
		return "it does not retain the changes from here on"
	case behind:
		return "it is behind this node"
	case regressed:
		return "its log has gone back behind this node"
	case foreign:
		return "its changes are of another history"
	case diverged:
		return "its changes are others than those that were applied here"
	default:
		return "unknown"
	}
}

// replaces tells whether a state gives way to that of such a source, where there is
// no other.
func (v verdict) replaces() bool { return v == regressed || v == foreign || v == diverged }

// search is what is known of sources that cannot be followed.
type search struct {
	// verdicts are those of the present round, by address.
	verdicts map[string]verdict
	rounds   int
	// since is when the first of them was found.
	since time.Time
}

const (
	// A state gives way to another history only when nobody has had its own for
	// some rounds and some time: a node that shows a wrong one, or lags, for a
	// moment must not cost a bootstrap.
	giveUpRounds = 3
	giveUpAfter  = 10 * time.Second
	// roundPause is how long a source that is behind has to draw level.
	roundPause = 250 * time.Millisecond
)

func (s *search) found(address string, v verdict) {
	if s.verdicts == nil {
		s.verdicts = make(map[string]verdict)
	}
	if s.since.IsZero() {
		s.since = time.Now()
	}
	s.verdicts[address] = v
}

// reset forgets all: a source can be followed.
func (s *search) reset() { *s = search{} }

// plan is what to do next.
type plan struct {
	source Source
	// bootstrap tells to begin with a snapshot; back, that it may be older than
	// the state that there is.
	bootstrap, back bool
}

// next chooses what to do; false is to wait.
func (p *Puller) next() (plan, bool) {
	candidates := p.opts.Sources.Candidates(p.opts.VBucket)
	if leader := leaderOf(candidates); leader != "" {
		p.opts.State.SetLeader(leader)
	}
	id, _ := p.opts.State.Position()
	p.chooser.retain(candidates)
	ordered := p.chooser.order(candidates, id.History)
	for _, s := range ordered {
		if _, judged := p.search.verdicts[s.Address]; !judged && !p.chooser.passedOver(s.Address) {
			return plan{source: s}, true
		}
	}
	switch {
	case len(ordered) == 0:
		p.report("no master is known; waiting for one", nil)
		return plan{}, false
	case len(p.search.verdicts) > 0:
		return p.judge(ordered)
	default:
		p.chooser.forgive()
		return plan{}, false
	}
}

// judge decides what becomes of a state that can follow on from none of the sources.
func (p *Puller) judge(ordered []Source) (plan, bool) {
	if s, ok := p.judged(ordered, func(v verdict) bool { return v == trimmed }); ok {
		p.log.Info("no master retains the changes that come next here; starting over from a snapshot", "master", s.Address)
		return plan{source: s, bootstrap: true}, true
	}
	if p.search.rounds++; p.search.rounds >= giveUpRounds && time.Since(p.search.since) >= giveUpAfter {
		if s, ok := p.judged(ordered, verdict.replaces); ok {
			id, at := p.opts.State.Position()
			p.log.Warn("the state here can follow on from no master and gives way to a snapshot; it is kept until that is whole",
				"master", s.Address, "reason", p.search.verdicts[s.Address].String(), "index", at, "history", id.History)
			return plan{source: s, bootstrap: true, back: true}, true
		}
	}
	p.search.verdicts = nil
	p.pause.atLeast(roundPause)
	return plan{}, false
}

// judged returns the best source of a verdict that is not passed over.
func (p *Puller) judged(ordered []Source, is func(verdict) bool) (Source, bool) {
	for _, s := range ordered {
		if v, judged := p.search.verdicts[s.Address]; judged && is(v) && !p.chooser.passedOver(s.Address) {
			return s, true
		}
	}
	return Source{}, false
}
