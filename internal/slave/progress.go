package slave

import (
	"errors"
	"slices"
	"sync"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/slave/report"
	"github.com/dkvdb/dkv/internal/slave/source"
)

// intake is up to where all changes of a history were received and will be applied.
type intake struct {
	mu      sync.Mutex
	history string
	at      kv.Index
	// told is the greatest index that Progress has returned as received.
	told kv.Index
	// agrees means that a master is followed whose log the copy is a part of. Without that
	// the log may have gone back, so that the copy's indexes are those of other changes.
	agrees bool
	// applying means that what was received up to at is being applied.
	applying bool
	// closed means that a promotion is sealing the copy: Progress returns nothing more.
	closed bool
}

// begin notes that a master is followed whose log has the copy, which is at an index.
func (r *intake) begin(history string, at kv.Index) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.history != history {
		r.history, r.told = history, 0
	}
	r.at, r.agrees, r.applying = at, true, true
}

// end notes that the master is followed no more: the next look at one decides again.
func (r *intake) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.agrees = false
}

func (r *intake) reach(history string, at kv.Index) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.history != history {
		r.history, r.at, r.told = history, 0, 0
	}
	r.at = max(r.at, at)
}

// over notes that all which could be applied of what was received is: what is above an index is
// lost here.
func (r *intake) over(at kv.Index) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at, r.applying = min(r.at, at), false
}

// owed returns up to where what was confirmed as received is still going to be applied; 0 if
// nothing is.
func (r *intake) owed(history string) kv.Index {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.history != history || !r.applying {
		return 0
	}
	return min(r.told, r.at)
}

// close has Progress return nothing, or something again.
func (r *intake) close(closed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = closed
}

// confirmed returns up to where changes of a history were confirmed as received.
func (r *intake) confirmed(history string) kv.Index {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.history != history {
		return 0
	}
	return r.told
}

// Agrees reports whether the copy is known to be a part of its masters' log: one is followed that
// has it. Without that its index may be that of other changes.
func (p *Puller) Agrees() bool {
	p.intake.mu.Lock()
	defer p.intake.mu.Unlock()
	return p.intake.agrees
}

// Name implements report.VBucket.
func (p *Puller) Name() string { return p.opts.VBucket }

// Leader implements report.VBucket: it is the leader of the copy's own history.
func (p *Puller) Leader() string { return *p.leader.Load() }

// Sync implements report.VBucket.
func (p *Puller) Sync() error { return p.opts.State.Sync() }

// Progress implements report.VBucket. Nothing is confirmed while no master is followed: its log
// may not have what the copy has. What was received is in memory, and is applied even if
// the master ends the session meanwhile.
func (p *Puller) Progress() (out report.Progress, ok bool) {
	r := &p.intake
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || !r.agrees {
		return out, false
	}
	out.History, out.Applied, out.Synced, ok = p.opts.State.Confirmable()
	out.Received = out.Applied
	if r.history == out.History {
		out.Received = max(out.Received, r.at)
	}
	if ok {
		r.told = max(r.told, out.Received)
	}
	return out, ok
}

// Want implements report.VBucket. While an owner waits for the copy, the copy follows that
// owner itself, by a stream.
func (p *Puller) Want(from string, w report.Wanted) {
	if w.Owner != "" && w.Owner != from && *p.leader.Load() == from {
		p.lead(w.Owner)
	}
	if p.listed.Swap(w.Listed) != w.Listed {
		p.directed.Raise()
	}
}

// moved tells the reporter that the copy has moved.
func (p *Puller) moved() {
	if p.opts.Moved != nil {
		p.opts.Moved()
	}
}

// candidates are the masters to choose from, without those of eras before the copy's. The
// owner that waits for the copy is one of
// them whatever the sources say.
func (p *Puller) candidates() []source.Source {
	id, _ := p.opts.State.Position()
	out := p.opts.Sources.Candidates(p.opts.VBucket)
	if dead := func(s source.Source) bool { return s.DeadFor(id) }; slices.ContainsFunc(out, dead) {
		out = slices.DeleteFunc(slices.Clone(out), dead)
	}
	owner := *p.leader.Load()
	if !p.listed.Load() || owner == "" {
		return out
	}
	s, there := source.At(out, owner)
	if !there {
		s = source.Source{Address: owner, DC: p.opts.DC}
	}
	s.Awaits = true
	next := []source.Source{s}
	for _, o := range out {
		if o.Address != owner {
			next = append(next, o)
		}
	}
	return next
}

// errRedirected means that the copy is to be followed in another way.
var errRedirected = errors.New("the owner of the log wants the copy to follow in another way")

// misdirected returns why the session does not follow as the owner wants; nil if it does.
func (s *session) misdirected() error {
	owner := *s.leader.Load()
	switch listed := s.listed.Load(); {
	case listed && owner != "" && owner != s.source.Address && !s.chooser.PassedOver(owner) && !s.chooser.Declines(owner):
		return betterMaster{owner, "it owns the log and waits for this node"}
	case s.mode != s.Puller.mode():
		return errRedirected
	}
	return nil
}
