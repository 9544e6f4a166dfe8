package slave

import (
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/fsm"
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
	// renewed means that the state's cluster has gone on under a new history, as
	// after a restore, whose numbers begin above those of the one before.
	renewed
	// rewritten means that the state's cluster has another history, which has not
	// got as far as the state.
	rewritten
	// foreign means that the source is of another cluster.
	foreign
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
	case diverged:
		return "its changes are others than those that were applied here"
	case renewed:
		return "the cluster has begun a new history"
	case rewritten:
		return "the cluster has another history, which is behind this node"
	case foreign:
		return "it belongs to another cluster"
	default:
		return "unknown"
	}
}

// search is what is known of sources that cannot be followed.
type search struct {
	// verdicts are those of the present round, by address.
	verdicts map[string]verdict
	// asked tells that in this round those are tried too that were passed over.
	asked  bool
	rounds int
	// since is when the first of them was found.
	since time.Time
}

const (
	// A state gives way to another one only when nobody has had its own for some
	// rounds and some time: a node that shows a wrong one, or lags, for a moment
	// must not cost a bootstrap.
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

// again begins another round.
func (s *search) again() { s.verdicts, s.asked = nil, false }

// reset forgets all: a source can be followed.
func (s *search) reset() { *s = search{} }

// due tells whether a state may give way that has found nobody to follow.
func (s *search) due() bool { return s.rounds >= giveUpRounds && time.Since(s.since) >= giveUpAfter }

// undecided returns the first source that may still have what the state goes on with:
// one that has not answered, or is of its history. Empty is none.
func (s *search) undecided(sources []Source, id fsm.Identity) string {
	for _, src := range sources {
		switch v, judged := s.verdicts[src.Address]; {
		case judged && v != behind && v != trimmed:
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
	// bootstrap tells to begin with a snapshot; back, that it may be older than
	// the state that there is.
	bootstrap, back bool
}

// next chooses what to do; false is to wait.
func (p *Puller) next() (plan, bool) {
	if leader := p.named(); leader != "" {
		p.opts.State.SetLeader(leader)
	}
	candidates := p.opts.Sources.Candidates(p.opts.VBucket)
	id, _ := p.opts.State.Position()
	p.chooser.retain(candidates)
	ordered := p.chooser.order(candidates, id)
	all := true
	for _, s := range ordered {
		_, judged := p.search.verdicts[s.Address]
		if !judged && !p.chooser.passedOver(s.Address) {
			return plan{source: s}, true
		}
		all = all && judged
	}
	switch {
	case len(ordered) == 0:
		p.report("no master is known; waiting for one", nil)
		return plan{}, false
	case len(p.search.verdicts) > 0 && (all || p.search.asked):
		return p.judge(ordered, id)
	default: // there is nobody else
		p.chooser.forgive()
		p.search.asked = true
		return plan{}, false
	}
}

// judge decides what becomes of a state that can follow on from none of the sources,
// all of which were asked.
func (p *Puller) judge(ordered []Source, id fsm.Identity) (plan, bool) {
	if s, ok := p.judged(ordered, func(_ Source, v verdict) bool { return v == trimmed }); ok {
		p.log.Info("no master retains the changes that come next here; starting over from a snapshot", "master", s.Address)
		return plan{source: s, bootstrap: true}, true
	}
	p.search.rounds++
	if s, ok := p.successor(ordered, id); ok {
		_, at := p.opts.State.Position()
		p.log.Warn("the state here can follow on from no master and gives way to a snapshot; it is kept until that is whole",
			"master", s.Address, "reason", p.search.verdicts[s.Address].String(), "index", at, "history", id.History)
		return plan{source: s, bootstrap: true, back: true}, true
	}
	p.search.again()
	p.pause.atLeast(roundPause)
	return plan{}, false
}

// successor returns the source to whose state the present one gives way. A new history
// of the cluster's is taken over at once where its leader has it, or where all who were
// chosen have answered. Everything else takes its time, and that nobody be left who may
// have what comes next here. Another cluster's state is taken over only from a source
// that an operator has named: discovery may tell of anybody who uses the same names.
func (p *Puller) successor(ordered []Source, id fsm.Identity) (Source, bool) {
	undecided, due := p.search.undecided(ordered, id), p.search.due()
	if s, ok := p.judged(ordered, func(s Source, v verdict) bool {
		return v == renewed && (due || s.Status == serverpb.RegionStatus_LEADER || s.Chosen && undecided == "")
	}); ok {
		return s, true
	}
	switch {
	case !due:
	case undecided != "":
		p.report("no master can be followed; what is here is kept, since one of them may still have what comes next", nil, "master", undecided)
	default:
		s, ok := p.judged(ordered, func(s Source, v verdict) bool { return v != foreign || s.Chosen })
		if !ok {
			p.report("all masters that are known belong to another cluster; what is here is kept; "+
				"to follow one of them name it in repl-master-addr, or empty the data folder", nil)
		}
		return s, ok
	}
	return Source{}, false
}

// judged returns the best source of a verdict that is not passed over.
func (p *Puller) judged(ordered []Source, is func(Source, verdict) bool) (Source, bool) {
	for _, s := range ordered {
		if v, judged := p.search.verdicts[s.Address]; judged && is(s, v) && !p.chooser.passedOver(s.Address) {
			return s, true
		}
	}
	return Source{}, false
}
