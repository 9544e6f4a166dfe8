package slave

import (
	"context"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/fsm/history"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/slave/source"
)

// Position is how far a copy is.
type Position struct {
	VBucket  string
	Identity history.Identity
	Applied  kv.Index
	// Last is the newest change that was applied; its index is 0 if none is retained.
	Last kv.Change
	// Confirmed is up to where this process has confirmed changes of the present history as
	// received. It is above Applied if what was received is not applied yet, or never was.
	Confirmed kv.Index
	// Sealed is the promotion that has sealed the copy; empty for none.
	Sealed string
}

// Reached returns how far the copy is.
func (p *Puller) Reached(ctx context.Context) (Position, error) {
	out := Position{VBucket: p.opts.VBucket}
	out.Identity, out.Applied = p.opts.State.Position()
	out.Confirmed = p.intake.confirmed(out.Identity.History)
	last, known, err := p.opts.State.LastChange(ctx)
	if known {
		out.Last = last
	}
	out.Sealed = p.opts.State.Sealed()
	return out, err
}

// Seal has the copy follow no master any more, also after a restart: nothing is applied,
// bootstrapped or confirmed until Unseal. What was confirmed as received is applied before; while
// the disk stalls, the error is kv.Unavailable and nothing is sealed.
func (p *Puller) Seal(ctx context.Context, promotion string) error {
	reopen, err := p.closeReports(ctx)
	defer reopen() // the seal itself keeps the copy from being confirmed
	if err != nil {
		return err
	}
	if err := p.opts.State.Seal(ctx, promotion); err != nil {
		return err
	}
	if end := p.unsealed.Load(); end != nil {
		(*end)(errSealed)
	}
	p.sealing.Raise()
	id, at := p.opts.State.Position()
	if told := p.intake.confirmed(id.History); told > at {
		p.log.Error("sealed without changes that were confirmed as received and could not be applied; masters may have acknowledged them",
			"promotion", promotion, "index", at, "confirmed", told)
	}
	return nil
}

// Unseal ends the seal of a promotion that was given up.
func (p *Puller) Unseal(ctx context.Context, promotion string) error {
	if err := p.opts.State.Unseal(ctx, promotion); err != nil {
		return err
	}
	p.sealing.Raise()
	p.moved()
	return nil
}

// awaitUnsealed waits while a promotion has sealed the copy; it returns false when ctx has
// ended.
func (p *Puller) awaitUnsealed(ctx context.Context) bool {
	for {
		changed := p.sealing.Changed()
		by := p.opts.State.Sealed()
		if by == "" {
			return ctx.Err() == nil
		}
		p.status.sealed()
		p.report("a promotion has sealed this copy; it follows no master until that is decided or given up", nil, "promotion", by)
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// untilSealed returns a context that also ends, with errSealed, when a promotion seals the
// copy. The caller calls done.
func (p *Puller) untilSealed(ctx context.Context) (_ context.Context, done func()) {
	ctx, end := context.WithCancelCause(ctx)
	p.unsealed.Store(&end)
	if p.opts.State.Sealed() != "" {
		end(errSealed)
	}
	return ctx, func() { end(nil) }
}

// CatchUp brings the sealed copy to an index, by the changes of the node at an address that
// the promotion has sealed there. What it has applied is durable, also after an error. A node that is
// further is rejected: it does not say what the log's clock was at the index.
func (p *Puller) CatchUp(ctx context.Context, promotion, address string, upTo kv.Index) error {
	ctx = peer.ForPromotion(ctx, promotion)
	pr, err := p.opts.Pool.Peer(address)
	if err != nil {
		return err
	}
	s := &session{Puller: p, source: source.Source{Address: address}, peer: pr}
	if err := s.connect(ctx); err != nil {
		return err
	}
	id, at := p.opts.State.Position()
	if at >= upTo {
		return nil
	}
	switch found, err := s.attach(ctx); {
	case err != nil:
		return err
	case found.verdict != fit:
		return kv.Errorf(kv.Precondition, "vBucket %s (%s) cannot be brought to change %d by node %s: it %s",
			p.opts.VBucket, name(id, at), upTo, address, found.verdict)
	case found.newest != upTo:
		return kv.Errorf(kv.Precondition, "vBucket %s is to be brought to change %d by node %s, which is at %d", p.opts.VBucket, upTo, address, found.newest)
	}
	for at < upTo {
		if at, err = s.step(ctx, promotion, at, upTo); err != nil {
			return err
		}
	}
	return nil
}

// stepPatience is how long the node may take for some changes.
const stepPatience = 30 * time.Second

// step applies some of the changes up to an index for a promotion, and returns how far the
// copy is then.
func (s *session) step(ctx context.Context, promotion string, at, upTo kv.Index) (kv.Index, error) {
	ctx, cancel := context.WithTimeout(ctx, stepPatience)
	defer cancel()
	resp := new(serverpb.GetChangesResponse)
	req := &serverpb.GetChangesRequest{FromChangeNumber: at + 1, VBucket: s.opts.VBucket, HistoryId: s.history, WithRequests: true}
	if err := s.peer.Invoke(ctx, serverpb.DKVReplication_GetChanges_FullMethodName, req, resp); err != nil {
		return at, err
	}
	st, err := s.stretchOf(resp, at)
	if err != nil {
		return at, err
	}
	if st.upTo <= at || st.upTo > upTo {
		return at, kv.Errorf(kv.Precondition, "node %s is not at change %d any more", s.source.Address, upTo)
	}
	if err := s.opts.State.CatchUp(ctx, promotion, at, st.all(), st.upTo); err != nil {
		return at, err
	}
	s.status.applied(st.upTo)
	return st.upTo, nil
}
