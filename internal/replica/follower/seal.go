package follower

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
)

// ErrSealed means that a promotion has sealed the state: it follows its master no more.
var ErrSealed = errors.New("a promotion has sealed this copy")

// seal is the promotion for which the state stays as it is.
type seal struct {
	// mu is held while changes are applied, while the state is exchanged and while it is
	// sealed, which may take as long as the disk does.
	mu sync.Mutex
	// by is the promotion, read without mu and set with it; nil or empty for none.
	by atomic.Pointer[string]
}

// promotion returns the promotion that has sealed the state; empty for none.
func (s *seal) promotion() string {
	if p := s.by.Load(); p != nil {
		return *p
	}
	return ""
}

// admits returns an error unless changes may be applied for a promotion; empty is for none.
// The caller holds mu.
func (s *seal) admits(promotion string) error {
	switch by := s.promotion(); by {
	case promotion:
		return nil
	case "":
		return kv.Errorf(kv.Precondition, "promotion %s has not sealed this copy", promotion)
	default:
		return kv.Errorf(kv.Precondition, "%w: promotion %s", ErrSealed, by)
	}
}

// Seal makes durable what was applied, and has nothing more applied, exchanged or confirmed
// until Unseal, also after a restart. A copy that another promotion has sealed keeps that
// seal. Only CatchUp changes a sealed state.
func (f *Replica) Seal(ctx context.Context, promotion string) error {
	if f.opts.Generations == nil {
		return kv.Errorf(kv.Precondition, "vBucket %s has no disk, so it cannot be part of a promotion; name slaves with db-in-memory off", f.opts.VBucket)
	}
	if promotion == "" {
		return kv.Errorf(kv.Invalid, "a promotion needs an id")
	}
	unlock, err := f.state.LockState(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	f.seal.mu.Lock()
	defer f.seal.mu.Unlock()
	switch by := f.seal.promotion(); {
	case by == promotion:
		return nil
	case by != "":
		return f.seal.admits(promotion)
	case f.empty():
		return kv.Errorf(kv.Precondition, "vBucket %s has no data yet, so it cannot be part of a promotion", f.opts.VBucket)
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.opts.Generations.Seal(promotion); err != nil {
		return kv.Errorf(replica.KindOf(err), "the seal of promotion %s cannot be stored: %w", promotion, err)
	}
	f.seal.by.Store(&promotion)
	f.opts.Changed.Raise()
	return nil
}

// Unseal ends the seal of a promotion that was given up. It is repeatable, and leaves the seal of
// another promotion, which may have come before or since.
func (f *Replica) Unseal(ctx context.Context, promotion string) error {
	unlock, err := f.state.LockState(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	f.seal.mu.Lock()
	defer f.seal.mu.Unlock()
	if by := f.seal.promotion(); by == "" || by != promotion {
		return nil
	}
	if err := f.opts.Generations.Unseal(); err != nil {
		return kv.Errorf(replica.KindOf(err), "the seal of promotion %s cannot be removed: %w", promotion, err)
	}
	f.seal.by.Store(nil)
	f.opts.Changed.Raise()
	return nil
}

// Sealed returns the promotion that has sealed the state; empty for none.
func (f *Replica) Sealed() string { return f.seal.promotion() }

// Withheld returns why no one may copy the state: what a promotion brings to a copy that it has
// sealed may never have been committed.
func (f *Replica) Withheld() error {
	if promotion := f.Sealed(); promotion != "" {
		return kv.Errorf(kv.Unavailable, "promotion %s has sealed this copy, whose changes are for that only until it is decided or given up; ask another node", promotion)
	}
	return nil
}

// CatchUp is Apply for the promotion that has sealed the state. What it has applied is
// durable.
func (f *Replica) CatchUp(ctx context.Context, promotion string, after kv.Index, changes []kv.Change, upTo kv.Index) error {
	if promotion == "" {
		return kv.Errorf(kv.Invalid, "a promotion needs an id")
	}
	if err := f.apply(ctx, promotion, after, changes, upTo); err != nil {
		return err
	}
	return f.Sync()
}

// ExportRequests calls yield with the remembered requests of the state that a promotion has
// sealed; see fsm.Machine.ExportRequests.
func (f *Replica) ExportRequests(ctx context.Context, promotion string, yield func(records []byte) error) error {
	if by := f.Sealed(); by == "" || by != promotion {
		return kv.Errorf(kv.Precondition, "promotion %s has not sealed this copy", promotion)
	}
	return f.state.Machine().ExportRequests(ctx, yield)
}

// loadSeal reads a seal from before this start.
func (f *Replica) loadSeal() error {
	if f.opts.Generations == nil {
		return nil
	}
	promotion, err := f.opts.Generations.Sealed()
	if err != nil {
		return fmt.Errorf("vBucket %s: the seal of a promotion cannot be read: %w", f.opts.VBucket, err)
	}
	f.seal.by.Store(&promotion)
	return nil
}

// synced is up to where a state is on disk. Nothing is known of one that was opened just
// now: what a process that was killed has written may be in the page cache only.
type synced struct {
	mu sync.Mutex
	of *fsm.Machine
	at kv.Index
}

func (s *synced) reached(m *fsm.Machine) (kv.Index, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of != m {
		return 0, false
	}
	return s.at, true
}

func (s *synced) reach(m *fsm.Machine, at kv.Index) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of != m {
		s.of, s.at = m, 0
	}
	s.at = max(s.at, at)
}

// Sync makes durable what was applied before. One call serves all that was applied
// meanwhile; others may call it while changes are applied.
func (f *Replica) Sync() error {
	m := f.state.Machine()
	applied := m.Applied()
	if at, known := f.synced.reached(m); known && at >= applied {
		return nil
	}
	if err := f.state.Refusal(); err != nil {
		return err
	}
	switch err := m.Sync(); {
	case err == nil:
		f.synced.reach(m, applied)
		return nil
	case errors.Is(err, fsm.ErrClosed) || m != f.state.Machine(): // it is being replaced
		return kv.Errorf(kv.Unavailable, "the copy was replaced while it was made durable")
	default:
		f.fail(err)
		return kv.Errorf(replica.KindOf(err), "make durable what was applied: %w", err)
	}
}

// Confirmable returns what this copy may confirm: up to which index of which history it has
// applied changes, and has them on disk. ok is false if it may confirm nothing. The history
// is read after the indexes: one that a promotion has begun since has what was there before.
// The seal is looked at last, so that what is confirmed was there before it.
func (f *Replica) Confirmable() (history string, applied, durable kv.Index, ok bool) {
	m := f.state.Machine()
	durable, _ = f.synced.reached(m)
	applied = m.Applied()
	history = m.Identity().History
	return history, applied, durable, f.Sealed() == "" && history != "" && f.state.Refusal() == nil
}
