package slave

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/slave/report"
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
	r.at, r.agrees = at, true
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

// lost notes that what was received above an index will not be applied.
func (r *intake) lost(at kv.Index) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at = min(r.at, at)
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

// mode is how the copy gets changes at present.
func (p *Puller) mode() Mode {
	if p.listed.Load() {
		return Stream
	}
	return p.opts.Mode
}

// candidates are the masters to choose from, without those of eras before the copy's. The
// owner that waits for the copy is one of
// them whatever the sources say.
func (p *Puller) candidates() []Source {
	id, _ := p.opts.State.Position()
	out := p.opts.Sources.Candidates(p.opts.VBucket)
	if dead := func(s Source) bool { return s.deadFor(id) }; slices.ContainsFunc(out, dead) {
		out = slices.DeleteFunc(slices.Clone(out), dead)
	}
	owner := *p.leader.Load()
	if !p.listed.Load() || owner == "" {
		return out
	}
	s, there := sourceOf(out, owner)
	if !there {
		s = Source{Address: owner, DC: p.opts.DC}
	}
	s.awaits = true
	next := []Source{s}
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
	case listed && owner != "" && owner != s.source.Address && !s.chooser.passedOver(owner):
		return betterMaster{owner, "it owns the log and waits for this node"}
	case s.mode != s.Puller.mode():
		return errRedirected
	}
	return nil
}

// drainPatience bounds how long what was received is applied after the end of a session.
const drainPatience = 5 * time.Second

// drain applies what was received before the session ended with an error, while the copy was
// at an index: the log's owner may have been told of it.
func (s *session) drain(ctx context.Context, at kv.Index, in <-chan stretch, err error) {
	ctx, cancel := context.WithTimeout(ctx, drainPatience)
	defer cancel()
	st := gather(&s.fresh, s.pending, in)
	_, now := s.opts.State.Position()
	if now >= at && st.upTo > now && !isLocal(err) { // else it was opened again at an earlier one
		st.since(now)
		_ = s.write(ctx, now, st) // what cannot be applied is received again
	}
	_, now = s.opts.State.Position()
	s.intake.lost(now)
}

// since leaves out what is not above an index.
func (s *stretch) since(at kv.Index) {
	for len(s.changes) > 0 && s.changes[0].Index <= at {
		s.changes = s.changes[1:]
	}
}

// sealPatience bounds how long a seal waits until what was confirmed as received is applied.
const sealPatience = 2 * time.Second

// closeReports has nothing more confirmed, and waits until what was confirmed as received is
// applied. What reopen undoes is undone by the caller if the seal fails.
func (p *Puller) closeReports(ctx context.Context) (reopen func()) {
	r := &p.intake
	r.mu.Lock()
	r.closed = true
	told := r.told
	r.mu.Unlock()
	t := time.NewTimer(sealPatience)
	defer t.Stop()
	for {
		changed := p.opts.Changed.Changed()
		if _, at := p.opts.State.Position(); at >= told {
			break
		}
		select {
		case <-changed:
			continue
		case <-t.C:
		case <-ctx.Done():
		}
		break
	}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.closed = false
	}
}
