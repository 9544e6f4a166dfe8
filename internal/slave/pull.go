package slave

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/slave/source"
	"github.com/dkvdb/dkv/internal/sleep"
	"github.com/dkvdb/dkv/internal/storage"
)

// The reasons to end a session that are not errors of the master.
var (
	// errSilent means that a master has sent nothing for too long.
	errSilent = errors.New("it was silent for too long")
	// errGone means that discovery no longer lists the master.
	errGone = errors.New("it is not among the live masters any more")
	// errOrdered means that an operator has given up the copy.
	errOrdered = errors.New("the copy is rebuilt as ordered")
	// errSealed means that a promotion has sealed the copy.
	errSealed = errors.New("a promotion has sealed the copy")
	// errWithdrawn means that such an order was withdrawn before it was carried out.
	errWithdrawn = errors.New("the order to give up the copy was withdrawn")
)

// localError is an error of this node, not of a master.
type localError struct{ err error }

func (e localError) Error() string { return e.err.Error() }
func (e localError) Unwrap() error { return e.err }

func isLocal(err error) bool {
	var local localError
	return errors.As(err, &local)
}

// session is the time with one master.
type session struct {
	*Puller
	source source.Source
	peer   *peer.Peer
	// mode is how changes are received.
	mode Mode
	// history is the one that the changes must belong to.
	history string
	// last is the newest change that was received, or that the master had up to there, if it is known.
	last mark
	// told is the index that ask has told the master of, at toldAt.
	told   kv.Index
	toldAt time.Time
	// above is what the master has answered last.
	above upstream
	fresh freshness
	// pending is the stretch that is being applied, or that could not be.
	pending stretch
	// served reports that changes were received.
	served atomic.Bool
	// followed means that the master was found to have the copy's log.
	followed bool
}

// pull carries out a plan until the session with the master ends.
func (p *Puller) pull(ctx context.Context, todo plan) error {
	p.status.search(todo.source.Address)
	moving := p.moving == todo.source.Address
	p.moving = ""
	pr, err := p.opts.Pool.Peer(todo.source.Address)
	if err != nil {
		return err
	}
	s := &session{Puller: p, source: todo.source, peer: pr, mode: p.mode()}
	if err := s.connect(ctx); err != nil {
		return err
	}
	if err := s.checkLayout(ctx); err != nil {
		return err
	}
	if todo.bootstrap {
		return s.bootstrap(ctx, todo.grant)
	}
	attach := s.attach
	if moving {
		attach = s.attachLevel
	}
	found, err := attach(ctx)
	if err == nil && found.own() {
		if done, err := s.obey(ctx, found); done || err != nil {
			return err
		}
	}
	if err == nil && found.verdict == promoted {
		if err = s.adopt(found); err == nil {
			found.verdict = fit
		}
	}
	switch {
	case err != nil:
		return err
	case found.verdict == nothing:
		return s.bootstrap(ctx, grant{any: true})
	case found.verdict != fit:
		p.search.found(s.source.Address, found)
		switch {
		case !todo.source.Awaits || found.verdict.replaces():
		case found.verdict == trimmed:
			p.chooser.Declined(todo.source.Address)
		default:
			p.chooser.Failed(todo.source.Address, 0)
		}
		p.report("this master cannot be followed: it "+found.verdict.String(), nil, "master", s.source.Address)
		return nil
	}
	p.search.reset()
	_, at := p.opts.State.Position()
	p.status.heard(found.newest, at, 0)
	p.recovered()
	first := p.status.following(s.source.Address)
	p.status.hearsFrom(s.source.Address, s.above)
	if first {
		p.log.Info("following a master", "master", s.source.Address, "dc", s.source.DC, "index", at, "mode", s.mode)
	}
	s.followed = true
	err = s.follow(ctx)
	if s.served.Load() {
		p.patience.reset()
	}
	return s.crowded(err)
}

// connectTimeout bounds the wait for a connection: there may be other masters.
const connectTimeout = time.Second

func (s *session) connect(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	return s.peer.Reach(limited)
}

// left handles the end of a session.
func (p *Puller) left(ctx context.Context, src source.Source, err error) {
	var local localError
	var better betterMaster
	served := p.status.served()
	switch {
	case err == nil:
	case errors.As(err, &better):
		p.moving = better.address
		p.status.moved()
		p.log.Info("moving to a better master", "from", src.Address, "to", better.address, "reason", better.why)
	case p.opts.State.Sealed() != "": // nothing more is applied, whatever the reason
	case errors.Is(err, errCrowded):
		p.report("following in another way", err, "master", src.Address)
	case errors.Is(err, errFull): // the chooser passes it over
		p.report("leaving the master", err, "master", src.Address)
	case errors.Is(err, errRedirected):
		p.log.Info("following in another way", "master", src.Address, "reason", err)
	case errors.Is(err, errApplied):
		p.log.Info("following again", "master", src.Address, "reason", err)
	case errors.Is(err, errOrdered):
		p.log.Info("leaving the master", "master", src.Address, "reason", err)
	case errors.Is(err, errWithdrawn):
		p.log.Info("the copy stays, what was loaded of another one is removed", "master", src.Address, "reason", err)
		p.search.again()
	case errors.Is(err, errGone):
		p.chooser.Failed(src.Address, served) // it may be back in a moment, and gone again
		p.log.Info("leaving the master", "master", src.Address, "reason", err)
	case errors.As(err, &local):
		p.report(cannotApply, err)
		p.status.failing(err)
		if storage.Shortage(err) != nil {
			sleep.For(ctx, spacePause)
			break
		}
		// Each attempt may have the master send it all again, as a snapshot.
		p.status.search("") // health says why, and not that a snapshot is on its way
		p.setback = min(max(2*p.setback, localPause), longestPause)
		p.await(ctx, p.sealing.Changed(), p.setback)
	case kv.KindOf(err) == kv.Precondition || kv.KindOf(err) == kv.OutOfRange:
		// The numbers have lost their meaning; the next look at it tells why.
		p.report("the master has ended the stream of changes", err, "master", src.Address)
		p.search.again()
		sleep.For(ctx, p.pause.next())
	default:
		if errors.Is(err, errSilent) || errors.Is(err, context.DeadlineExceeded) {
			p.patience.more()
		}
		p.chooser.Failed(src.Address, served)
		p.status.failing(err)
		p.report("leaving the master", err, "master", src.Address)
	}
	p.status.search("")
}

const (
	// localPause is how long to wait after an error of this node, spacePause after one
	// whose retry costs the master something.
	localPause = 500 * time.Millisecond
	spacePause = 5 * time.Second
	// longestPause bounds the time between two attempts at what this node could not apply.
	longestPause = 30 * time.Second
)

// cannotApply is what is logged of errors of this node.
const cannotApply = "cannot apply what the master has"

// report logs an error once for each cause, not for each attempt.
func (p *Puller) report(what string, err error, more ...any) {
	p.reportAs(what+fmt.Sprint(more...), what, err, more...)
}

// reportAs is report with a text that identifies the cause.
func (p *Puller) reportAs(text, what string, err error, more ...any) {
	if err != nil {
		more = append(more, "error", err)
	}
	if err != nil && storage.Shortage(err) == nil { // which tells how much is left just now
		text += err.Error()
	}
	if p.first(text) {
		p.log.Warn(what, more...)
	}
}

// first reports whether a cause is new, and not just another attempt.
func (p *Puller) first(cause string) bool {
	p.reporting.Lock()
	defer p.reporting.Unlock()
	logged := p.reported[cause]
	if len(p.reported) >= maxReported || p.reported == nil {
		p.reported = make(map[string]bool)
	}
	p.reported[cause] = true
	return !logged
}

// maxReported bounds the causes that are remembered.
const maxReported = 100

// recovered forgets the reported causes, so that they are logged again when they recur.
func (p *Puller) recovered() {
	p.reporting.Lock()
	defer p.reporting.Unlock()
	p.reported = nil
}

// patience is how long a master may be silent. It grows if that was too short: a large
// message takes long on a slow network, and so do those of many vBuckets together. The pings of a
// connection end one on which nothing arrives at all within seconds, however long that is.
type patience struct{ now time.Duration }

const (
	minPatience = 2 * time.Second
	maxPatience = 5 * time.Minute
)

func (p *patience) length() time.Duration { return max(p.now, minPatience) }

func (p *patience) more() { p.now = min(2*p.length(), maxPatience) }

func (p *patience) reset() { p.now = 0 }
